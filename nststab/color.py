"""What a stylization keeps of its content: its colours, or only what is dark or flat."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
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
    light = luminance(stylized)  # (N, 1, H, W)
    chrominance = content - luminance(content)  # (N, 3, H, W)
    room = torch.where(chrominance > 0, 1 - light, light)  # to the end of the range on the side it goes to
    factor = (room / chrominance.abs()).nan_to_num(1.0).amin(dim=1, keepdim=True).clamp(max=1)
    return (light + factor * chrominance).clamp_(0, 1)


FULL_CONTRAST = 0.1  # standard deviation of the luminance, of which ordinary frames have 0.14 to 0.27
RADIUS_OF = 216  # pixels of the longest side to one of the square around a pixel: 2 in a frame of 432
_STRIP = 4_000_000  # pixels that are worked on at a time
BLACK, LIGHT = 0.02, 0.1  # luminance below which an area is left black, and above which it is painted


def preserve_flat(stylized: Tensor, content: Tensor) -> Tensor:
    """`stylized` where `content`, both (N, 3, H, W) in [0, 1], has light and contrast; dark or flat as it is elsewhere.

    Instance normalisation takes the brightness and the contrast of a frame away: a network paints a black frame as it
    paints a bright one, and a fade to black never ends. So the result fades to the content's mean colour with the
    contrast of the whole frame, and an area without a pixel above black, such as the bars of a wide picture, stays the
    content. An ordinary frame is the network's to the bit, but for its black areas. Steady in time, as it depends on
    the content alone.
    """
    height, width = content.shape[-2:]
    radius = max(1, round(max(height, width) / RADIUS_OF))
    step = max(1, _STRIP // width)
    strips = [slice(low, min(height, low + step)) for low in range(0, height, step)]
    seen = torch.cat([luminance(content[:, :, rows]) for rows in strips], dim=2)  # (N, 1, H, W)
    contrast = _smoothstep(seen.std(dim=(2, 3), keepdim=True, correction=0), 0.0, FULL_CONTRAST)
    mean = content.mean(dim=(2, 3), keepdim=True)
    result = torch.empty_like(stylized)
    for rows in strips:  # the pictures may be large
        made, own = stylized[:, :, rows], content[:, :, rows]
        faded = torch.where(contrast < 1, torch.lerp(mean, made, contrast), made) if contrast.min() < 1 else made
        low = max(0, rows.start - 2 * radius)
        brightest = _brightest(seen[:, :, low : rows.stop + 2 * radius], radius)
        if brightest.min() < LIGHT:  # which few frames have, and the rest takes most of the time
            share = _around(_smoothstep(brightest, BLACK, LIGHT), radius)
            light = share[:, :, rows.start - low :][:, :, : made.shape[2]]
            faded = torch.where(light < 1, torch.lerp(own, faded, light), faded)
        result[:, :, rows] = faded
    return result


def _smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, and smooth between."""
    share = ((x - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _brightest(x: Tensor, radius: int) -> Tensor:
    """The greatest value, none of which is negative, of the square around each pixel: of its columns, then its rows."""
    padded = F.pad(x, (radius,) * 4)
    return sliding(sliding(padded, 2 * radius + 1, 2, torch.maximum), 2 * radius + 1, 3, torch.maximum)


def _around(x: Tensor, radius: int) -> Tensor:
    """The mean of the square around each pixel, inside the picture."""
    padded, inside = (F.pad(one, (radius,) * 4) for one in (x, torch.ones_like(x[:1, :1])))
    sums, counts = (sliding(sliding(one, 2 * radius + 1, 2), 2 * radius + 1, 3) for one in (padded, inside))
    return sums / counts


def sliding(image: Tensor, length: int, axis: int, combine: Callable[[Tensor, Tensor], Tensor] = torch.add) -> Tensor:
    """So many neighbours along an axis combined: torch's pooling takes several times as long for the few there are."""
    if length == 1:
        return image
    half, count = sliding(image, length // 2, axis, combine), image.shape[axis] - length + 1
    total = combine(half.narrow(axis, 0, count), half.narrow(axis, length // 2, count))
    return combine(total, image.narrow(axis, length - 1, count)) if length % 2 else total


def luminance(image: Tensor) -> Tensor:
    """Y (N, 1, H, W) of pictures (N, 3, H, W), on gamma-encoded values."""
    red, green, blue = LUMINANCE
    return (image[:, :1] * red).add_(image[:, 1:2], alpha=green).add_(image[:, 2:], alpha=blue)


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
