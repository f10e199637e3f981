"""What of a frame is stylized, and which style each region has: by masks that files or a detector of faces give."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame, Stylizer, copies
from nststab.methods.faces import without_faces

_FEATHER = 1 / 200  # of the longest side: radius of the soft edge of a mask


def shares(regions: Sequence[Tensor], mask: Tensor | None = None, has_rest: bool = True) -> Tensor:
    """The share of each style in each pixel (1, R, H, W), of masks (1, 1, H, W) that white has a style in.

    Where several overlap they share; what none has is that of the first style, if it `has_rest`, else the input's.
    Edges are feathered. `mask` says where to stylize at all.
    """
    found = torch.cat([feathered(region) for region in regions], dim=1) if regions else None
    if found is not None:
        found = found / found.sum(dim=1, keepdim=True).clamp_min(1)
    if has_rest:
        first = regions[0] if regions else mask
        assert first is not None
        rest = torch.ones_like(first) if found is None else 1 - found.sum(dim=1, keepdim=True)
        found = rest if found is None else torch.cat([rest, found], dim=1)
    assert found is not None
    return found if mask is None else found * feathered(mask)


def feathered(mask: Tensor) -> Tensor:
    """A mask (1, 1, H, W) with a soft edge, of two means of squares one after the other."""
    radius = max(1, round(_FEATHER * max(mask.shape[-2:])))
    for _ in range(2):
        mask = F.avg_pool2d(mask, 2 * radius + 1, 1, radius, count_include_pad=False)
    return mask


@dataclass(frozen=True)
class Blended:
    """A `Stylizer` of several, each of which paints the whole frame: mixed by their shares in `Frame.mask`."""

    stylizers: tuple[Stylizer, ...]

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]:
        streams = copies(frames, len(self.stylizers))
        painted = [stylizer(stream) for stylizer, stream in zip(self.stylizers, streams, strict=True)]
        for results in zip(*painted, strict=True):
            first = results[0]
            pictures = torch.cat([result.rgb for result in results])  # (R, 3, h, w)
            yield first.with_rgb(mixed(pictures, first.mask))


def mixed(pictures: Tensor, mask: Tensor | None) -> Tensor:
    """Pictures (R, 3, h, w) by their shares (1, R, H, W), or in equal parts."""
    if mask is None:
        return pictures.mean(dim=0, keepdim=True)
    if mask.shape[1] != len(pictures):
        raise NststabError(f"expected a mask for each of {len(pictures)} styles, got {mask.shape[1]}")
    height, width = pictures.shape[-2:]
    parts = F.adaptive_avg_pool2d(mask.to(pictures), (height, width))[0]  # (R, h, w)
    total = parts.sum(dim=0)
    equal = torch.full_like(parts, 1 / len(parts))
    parts = torch.where(total > 1e-6, parts / total.clamp_min(1e-6), equal)
    return (pictures * parts[:, None]).sum(dim=0, keepdim=True)


@dataclass(frozen=True)
class Masked:
    """A `Stylizer` that leaves of the input what no style has a share in, to the bit.

    It makes `shares` of the masks that frames come with: first, if it `has_mask`, where to stylize, then those of the
    regions. With `protects_faces` these are left out.
    """

    stylizer: Stylizer
    has_mask: bool = True
    has_rest: bool = True
    protects_faces: bool = False

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]:
        shared = (replace(frame, mask=self._shares(frame)) for frame in frames)
        own, given = copies(without_faces(shared) if self.protects_faces else shared, 2)
        for frame, made in zip(own, self.stylizer(given), strict=True):
            assert frame.mask is not None
            yield made.with_rgb(torch.lerp(frame.rgb, made.rgb, frame.mask.sum(dim=1, keepdim=True)))

    def _shares(self, frame: Frame) -> Tensor:
        if frame.mask is None:
            return torch.ones_like(frame.rgb[:, :1])
        masks = [frame.mask[:, [place]] for place in range(frame.mask.shape[1])]
        return shares(masks[self.has_mask :], masks[0] if self.has_mask else None, self.has_rest)
