"""Figure 6 of Gupta et al. 2017: does a result change as much as an input that was moved, blurred or sharpened?

For a patch c of a video's background and a distortion d, the SSIM of f(c) and f(d(c)) stands beside that of c and d(c).
Patches are compared as they are, as in the paper: of a shifted patch no curve can stay at 1 whose result moves with its
input. So for translation the SSIM of what both patches show of the scene is measured too, which for the input is 1.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nststab.datasets.folders import DavisSequence
from nststab.errors import NststabError
from nststab.frames import Stylizer, as_frames, pictures_of
from nststab.measure.intervals import bootstrap_interval, mean_of_known
from nststab.measure.stability import FrameLosses
from nststab.metrics import ssim

SIZE = 854  # longest side of DAVIS in 480p, which the paper's patches are for
_PAPERS_PATCH = 256
_LEAST_PATCH = 32  # leaves 13 pixels in common after the longest shift, for SSIM's windows of 7
_SHARPENING_SIGMA = 1.0


@dataclass(frozen=True)
class DistortionSettings:
    """How many patches, and the strengths of each distortion; they are in pixels of the frames whatever their size.

    Attributes:
        translation: pixels that the patch is moved by, to the right.
        blur: sigma of the Gaussian, in pixels.
        sharpening: how many times the difference to a blur of sigma 1 is added (unsharp masking).
    """

    patches: int = 10
    seed: int = 0
    translation: tuple[int, ...] = tuple(range(20))
    blur: tuple[float, ...] = tuple(step / 2 for step in range(11))
    sharpening: tuple[float, ...] = tuple(step / 2 for step in range(11))

    def steps(self) -> Iterator[tuple[str, float]]:
        """Every distortion in every strength."""
        for name in DISTORTIONS:
            for strength in getattr(self, name):
                yield name, strength


def patch_size(longest_side: int) -> int:
    """The paper's 256 pixels for frames of 854, scaled to others: a multiple of 4, of at least 32."""
    return max(_LEAST_PATCH, 4 * round(_PAPERS_PATCH / 4 * longest_side / SIZE))


class Region(NamedTuple):
    """Where a patch of background lies: the frame (from 0) of a sequence, and the patch's top left corner."""

    sequence: str
    frame: int
    top: int
    left: int

    @property
    def name(self) -> str:
        return f"{self.sequence} {self.frame} {self.top} {self.left}"


def draw_regions(
    sequences: Sequence[DavisSequence], settings: DistortionSettings, size: int, limit: int | None = None
) -> list[Region]:
    """Random patches that touch no foreground, wherever they are moved, in turn from every sequence that has any.

    size: of the patches in pixels. limit: frames of each sequence to draw from.

    Raises ValueError where no frame has room for one.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    shape = size, size + max(settings.translation)
    order = torch.randperm(len(sequences), generator=generator).tolist()
    sources = [_places(sequences[index], shape, limit, generator) for index in order]
    found: list[Region] = []
    while sources:
        for source in tuple(sources):
            region = next(source, None)
            if region is None:
                sources.remove(source)
                continue
            found.append(region)
            if len(found) == settings.patches:
                return found
    names = ", ".join(sequence.name for sequence in sequences)
    raise NststabError(f"expected {shape[1]}x{shape[0]} pixels without foreground, found none in the frames of {names}")


def _places(
    sequence: DavisSequence, shape: tuple[int, int], limit: int | None, generator: torch.Generator
) -> Iterator[Region]:
    """Patches of random frames without end; a frame comes again when all had their turn."""
    count = len(sequence) if limit is None else min(limit, len(sequence))
    frames = torch.randperm(count, generator=generator).tolist()
    found = True
    while found:
        found = False
        for frame in frames:
            corners = clear_corners(sequence.mask(frame), *shape)
            if len(corners):
                found = True
                chosen = int(torch.randint(len(corners), (), generator=generator))
                yield Region(sequence.name, frame, *corners[chosen].tolist())


def clear_corners(foreground: Tensor, height: int, width: int) -> Tensor:
    """Top left corners (K, 2), y then x, of all boxes that touch no foreground, bool (1, 1, H, W)."""
    if foreground.shape[-2] < height or foreground.shape[-1] < width:
        return torch.zeros(0, 2, dtype=torch.int64)
    touched = F.max_pool2d(foreground.float(), (1, width), stride=1)
    return (F.max_pool2d(touched, (height, 1), stride=1)[0, 0] == 0).nonzero()


# distortions of a patch, cut from the frame so that real content comes in from outside


def _cut(frame: Tensor, region: Region, size: int) -> Tensor:
    return frame[..., region.top : region.top + size, region.left : region.left + size]


def _translated(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    return _cut(frame, region._replace(left=region.left + round(strength)), size)


def _blurred(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    margin = int(4 * strength + 0.5)  # to which SciPy cuts the Gaussian off
    top, left = max(0, region.top - margin), max(0, region.left - margin)
    around = frame[..., top : region.top + size + margin, left : region.left + size + margin]
    blurred = torch.from_numpy(gaussian_filter(around.numpy(), (0, 0, strength, strength), mode="nearest"))
    return _cut(blurred, region._replace(top=region.top - top, left=region.left - left), size)


def _sharpened(frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    patch = _cut(frame, region, size)
    return (patch + strength * (patch - _blurred(frame, region, size, _SHARPENING_SIGMA))).clamp(0, 1)


DISTORTIONS: Mapping[str, Callable[[Tensor, Region, int, float], Tensor]] = {
    "translation": _translated,
    "blur": _blurred,
    "sharpening": _sharpened,
}


def distorted(name: str, frame: Tensor, region: Region, size: int, strength: float) -> Tensor:
    """The patch d(c) (1, 3, size, size) of a frame (1, 3, H, W); of strength 0 it is c."""
    return DISTORTIONS[name](frame, region, size, strength).contiguous()


class Pairs:
    """Gives f(c) and f(d(c)) for any d.

    With `follows`, d(c) comes after c in a clip of two frames; for a stylizer that remembers, that is what makes it
    comparable to a video. Else each is stylized by itself, and f(c) only once.
    """

    def __init__(self, stylizer: Stylizer, content: Tensor, follows: bool) -> None:
        self._stylizer = stylizer
        self._content = content
        self._follows = follows
        self._first: Tensor | None = None

    def __call__(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        if self._follows:
            first, second = self._stylized(self._content, patch)
            return first, second
        if self._first is None:
            (self._first,) = self._stylized(self._content)
        (second,) = self._stylized(patch)
        return self._first, second

    def _stylized(self, *patches: Tensor) -> Iterator[Tensor]:
        return pictures_of(self._stylizer(as_frames(patches)))


def measure(
    content: Tensor, patch: Tensor, pairs: Pairs, losses: FrameLosses, shift: int | None = None
) -> dict[str, float | None]:
    """The similarities of c and d(c), (1, 3, S, S), and of their results, and the losses of f(d(c)) as d(c)'s result.

    shift: pixels that d moved the patch by, if it did.
    """
    first, second = pairs(patch)
    terms = losses(second, patch)
    side = content.shape[-1]
    return {
        "ssim_content": ssim(content, patch),
        "ssim_stylized": ssim(first, second),
        "ssim_aligned": None if shift is None else ssim(first[..., shift:], second[..., : side - shift]),
        "style_loss": terms["style"],
        "content_loss": terms["content"],
    }


def row(
    style: str, method: str, distortion: str, strength: float, follows: bool, regions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One row of the results: means over the regions, then over the sequences, which alone are independent.

    regions: of each its `sequence` and what `measure` gave.
    """

    def values(name: str) -> list[float]:
        return of_sequences(regions, [region[name] for region in regions])

    return {
        "style": style,
        "method": method,
        "distortion": distortion,
        "strength": strength,
        "d_follows_c": follows,
        "ssim_content": mean_of_known(values("ssim_content")),
        "ssim_stylized": mean_of_known(values("ssim_stylized")),
        "ssim_stylized_interval": list(bootstrap_interval(values("ssim_stylized"))),
        "ssim_aligned": mean_of_known(values("ssim_aligned")) if distortion == "translation" else None,
        "n": len(regions),
        "style_loss": mean_of_known(values("style_loss")),
        "content_loss": mean_of_known(values("content_loss")),
        "regions": [
            {name: region[name] for name in ("sequence", "ssim_stylized", "ssim_aligned")} for region in regions
        ],
    }


def of_sequences(regions: Sequence[Mapping[str, Any]], values: Sequence[float]) -> list[float]:
    """For each sequence the mean of the values of its regions."""
    found: dict[str, list[float]] = {}
    for region, value in zip(regions, values, strict=True):
        found.setdefault(region["sequence"], []).append(value)
    return [mean_of_known(own) for own in found.values()]
