"""The colours of the content under the light and shade of its stylization."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame, Stylizer

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


class PreserveColor:
    """A `Stylizer` that gives the frames of another their content's colours: see `preserve_color`."""

    def __init__(self, stylizer: Stylizer) -> None:
        self._stylizer = stylizer

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in self._stylizer(replace(frame, content=frame.rgb) for frame in frames):
            if frame.content is None:
                raise NststabError("expected a stylizer that gives back the frames it took, with_rgb of its own")
            rgb = preserve_color(frame.rgb, frame.content.to(frame.rgb))
            yield replace(frame, rgb=rgb, content=None)
