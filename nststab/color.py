"""The colours of the content under the light and shade of its stylization."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from nststab.errors import NststabError

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of R, G and B in the luminance Y of YIQ and YUV: ITU-R BT.601."""


def preserve_color(stylized: Tensor, content: Tensor) -> Tensor:
    """`stylized` with the chrominance of `content`, both (N, 3, H, W) in [0, 1]; Gatys et al. 2016, section 4.

    "Preserving Color in Neural Artistic Style Transfer", luminance-only transfer, as neural-style's -original_colors:
    the luminance Y, on gamma-encoded values, is that of `stylized`; the differences R-Y, G-Y and B-Y are the content's.
    Where that leaves [0, 1], all three differences of the pixel shrink by one factor, so luminance and hue are kept and
    saturation gives way; neural-style clips each channel, which changes all three.

    Raises:
        ValueError: two shapes, or not three channels.
    """
    if stylized.shape != content.shape or stylized.ndim != 4 or stylized.shape[1] != 3:
        shapes = f"{tuple(stylized.shape)} and {tuple(content.shape)}"
        raise NststabError(f"expected two pictures (N, 3, H, W) of one size, got {shapes}")
    light = _luminance(stylized)  # (N, 1, H, W)
    chrominance = content - _luminance(content)  # (N, 3, H, W)
    room = torch.where(chrominance > 0, 1 - light, light)  # to the end of the range on the side it goes to
    factor = (room / chrominance.abs()).nan_to_num(1.0).amin(dim=1, keepdim=True).clamp(max=1)
    return (light + factor * chrominance).clamp_(0, 1)


def _luminance(image: Tensor) -> Tensor:
    weights = image.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


class FrameQueue(Protocol):
    """Frames (1, 3, H, W), first in, first out."""

    def append(self, frame: Tensor, /) -> None: ...
    def popleft(self) -> Tensor: ...


class PreserveColor:
    """A `Stylizer` that gives the frames of another their content's colours: see `preserve_color`.

    Only the frames that the other one has read but not given back wait here, in a new `queue` for each call: in memory,
    unless a queue on disk is given, for a stylizer that reads its shot to the end.
    """

    def __init__(
        self,
        stylizer: Callable[[Iterable[Tensor]], Iterator[Tensor]],
        queue: Callable[[], FrameQueue] = deque,
    ) -> None:
        self._stylizer = stylizer
        self._queue = queue

    def __call__(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        waiting = self._queue()

        def passing() -> Iterator[Tensor]:
            for frame in frames:
                waiting.append(frame)
                yield frame

        for stylized in self._stylizer(passing()):
            yield preserve_color(stylized, waiting.popleft().to(stylized))
