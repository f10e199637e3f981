"""Planes of luma and chroma to RGB and back, by the equations of BT.601, BT.709 and YCgCo."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# how many pixels share a chroma sample, across and down
SHARED = {"420": (2, 2), "422": (2, 1), "411": (4, 1), "444": (1, 1), "mono": (1, 1)}


class Pixels(NamedTuple):
    """How a frame is stored: `chroma` is one of `SHARED`, `depth` the bits of a sample (more than 8 take two bytes).

    `sited` says, across and down, whether a chroma sample lies on the first of the pixels that share it, or amid them.
    """

    chroma: str = "420"
    sited: tuple[bool, bool] = (False, False)
    depth: int = 8
    full_range: bool = False
    is_ycgco: bool = False  # green and orange in place of blue and red

    def planes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of the planes of a frame."""
        across, down = SHARED[self.chroma]
        chroma = (-(-height // down), -(-width // across))
        return [(height, width)] if self.chroma == "mono" else [(height, width), chroma, chroma]

    def byte_count(self, height: int, width: int) -> int:
        """How many bytes a frame takes."""
        return sum(h * w for h, w in self.planes(height, width)) * (1 if self.depth == 8 else 2)


def planes_to_rgb(data: bytes, height: int, width: int, pixels: Pixels) -> Tensor:
    """The planes of a frame, little-endian, to rgb (1, 3, H, W) in [0, 1]; chroma is interpolated by cubics."""
    samples = np.frombuffer(data, np.uint8 if pixels.depth == 8 else "<u2")
    shapes = pixels.planes(height, width)
    parts = np.split(samples, np.cumsum([h * w for h, w in shapes])[:-1])
    luma, *chroma = [
        torch.from_numpy(part.astype(np.float32)).view(shape) for part, shape in zip(parts, shapes, strict=True)
    ]
    black, white, middle, swing = _levels(pixels.depth, pixels.full_range)
    luma.sub_(black).div_(white - black)
    if not chroma:
        return luma.clamp_(0, 1).expand(1, 3, -1, -1).contiguous()
    across, down = SHARED[pixels.chroma]
    blue, red = (
        _spread(_spread(plane, 0, down, height, pixels.sited[1]), 1, across, width, pixels.sited[0])
        .sub_(middle)
        .div_(swing)
        for plane in chroma
    )
    kr, kb = _matrix(height, width)
    if pixels.is_ycgco:
        green, orange = blue, red
        r, g, b = luma - green + orange, luma + green, luma - green - orange
    else:
        r = luma + 2 * (1 - kr) * red
        b = luma + 2 * (1 - kb) * blue
        g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return torch.stack([r, g, b]).unsqueeze(0).clamp_(0, 1)


def rgb_to_444(rgb: Tensor) -> bytes:
    """A frame (1, 3, H, W) in [0, 1] to three planes of 8 bits in the limited range, 4:4:4."""
    kr, kb = _matrix(rgb.shape[2], rgb.shape[3])
    r, g, b = rgb[0].detach().to("cpu", torch.float32).clamp(0, 1)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    black, white, middle, swing = _levels(8, full_range=False)
    planes = [
        luma * (white - black) + black,
        (b - luma) * (swing / (2 * (1 - kb))) + middle,
        (r - luma) * (swing / (2 * (1 - kr))) + middle,
    ]
    return torch.stack(planes).round_().to(torch.uint8).numpy().tobytes()


def _levels(depth: int, full_range: bool) -> tuple[float, float, float, float]:
    """The codes of black, of white and of no colour, and how many codes the chroma from -0.5 to 0.5 spans."""
    if full_range:
        return 0.0, 2.0**depth - 1, 2.0 ** (depth - 1), 2.0**depth - 1
    unit = 2.0 ** (depth - 8)
    return 16 * unit, 235 * unit, 128 * unit, 224 * unit


def _matrix(height: int, width: int) -> tuple[float, float]:
    """The weights of red and blue in luma: BT.709 for high definition, BT.601 below, as untagged video is shown."""
    return (0.2126, 0.0722) if height > 576 or width >= 1280 else (0.299, 0.114)


def _spread(plane: Tensor, axis: int, factor: int, length: int, sited: bool) -> Tensor:
    """Chroma samples to one for each of `length` pixels, by Catmull-Rom's cubic."""
    if factor == 1:
        return plane
    place = (torch.arange(length) - (0 if sited else (factor - 1) / 2)) / factor
    before = place.floor()
    t = (place - before).view((-1, 1) if axis == 0 else (1, -1))
    weights = (
        t * (t * (2 - t) - 1) / 2,
        (t * t * (3 * t - 5) + 2) / 2,
        t * (t * (4 - 3 * t) + 1) / 2,
        t * t * (t - 1) / 2,
    )
    result = torch.zeros(())
    for step, weight in enumerate(weights, -1):
        index = (before.long() + step).clamp_(0, plane.shape[axis] - 1)
        result = result + weight * plane.index_select(axis, index)
    return result
