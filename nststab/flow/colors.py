"""The colours of optical flow: the direction as the hue, the length as the saturation (Baker et al. 2007)."""

import math

import torch
from torch import Tensor

from nststab.errors import NststabError

UNKNOWN = 1e9  # a component beyond it says that nothing is known there, and is shown black
_BEYOND = 0.75  # brightness of what is longer than the maximum
# Colours from each corner of the wheel to the next, as many as the eye tells apart there.
_CORNERS = (
    ((255, 0, 0), 15),  # red, to yellow
    ((255, 255, 0), 6),
    ((0, 255, 0), 4),
    ((0, 255, 255), 11),
    ((0, 0, 255), 13),
    ((255, 0, 255), 6),  # magenta, to red
)


def color_wheel() -> Tensor:
    """The 55 colours of Middlebury's wheel, (55, 3) in 0 to 255, from red by way of yellow, green, cyan and blue."""
    rows = []
    for index, (corner, steps) in enumerate(_CORNERS):
        following, _ = _CORNERS[(index + 1) % len(_CORNERS)]
        rising = [255 * step // steps for step in range(steps)]  # whole levels, counted from the corner
        rows += [
            [a + (value if b > a else -value if b < a else 0) for a, b in zip(corner, following, strict=True)]
            for value in rising
        ]
    return torch.tensor(rows)


def largest_motion(flow: Tensor) -> float:
    """The greatest length of the known vectors of flows (N, 2, H, W), in pixels; 0 where nothing is known."""
    lengths = _length(flow)[~_unknown(flow)]
    return float(lengths.max()) if lengths.numel() else 0.0


def flow_colors(flow: Tensor, maximum: float | None = None) -> Tensor:
    """Flows (N, 2, H, W) in Middlebury's colours: (N, 3, H, W) in [0, 1], in whole levels of 255.

    No motion is white; a vector of `maximum` pixels, by default the longest one, has the full colour of its direction,
    and a longer one that colour at three quarters of its brightness. Unknown flow is black. The arithmetic is that of
    the reference program colorcode.cpp to the last bit, except that a vector of exactly `maximum` is never darkened:
    there its rounding decides.

    Raises:
        ValueError: another shape, or a maximum that is not positive.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise NststabError(f"expected flows (N, 2, H, W), got a tensor of shape {tuple(flow.shape)}")
    if maximum is not None and not 0 < maximum < math.inf:
        raise NststabError(f"expected a maximum above 0 pixels, got {maximum}")
    flow, unknown = flow.detach().float(), _unknown(flow)
    limit = largest_motion(flow) if maximum is None else maximum
    scaled = flow.masked_fill(unknown, 0) / (limit or 1.0)
    radius = _length(scaled)  # (N, 1, H, W)
    beyond = _length(flow) > torch.tensor(limit, dtype=torch.float32, device=flow.device)
    pure = _hue(scaled)  # (N, 3, H, W)
    colors = torch.where(beyond, (pure.double() * _BEYOND).float(), 1 - radius * (1 - pure))
    levels = (colors.double() * 255).floor().clamp_(0, 255)
    return (levels / 255).float().masked_fill(unknown, 0)


def _hue(scaled: Tensor) -> Tensor:
    """The full colour of each vector's direction, (N, 3, H, W) in [0, 1]."""
    wheel = color_wheel().to(scaled.device)
    count = len(wheel)
    # Single and double precision take turns as in the C program: a level more or less would come of another rounding.
    turns = (torch.atan2(-scaled[:, 1].double(), -scaled[:, 0].double()) / math.pi).float()  # (N, H, W) in [-1, 1]
    place = ((turns.double() + 1) / 2 * (count - 1)).float()
    before = place.long()
    part = (place - before).unsqueeze(1)  # (N, 1, H, W)
    colors = (wheel.double() / 255).float()
    first, second = (colors[index].movedim(-1, 1) for index in (before, (before + 1) % count))
    return (1 - part) * first + part * second


def _unknown(flow: Tensor) -> Tensor:
    """Where a component is beyond `UNKNOWN` or no number: bool (N, 1, H, W)."""
    return ~(flow.abs() <= UNKNOWN).all(dim=1, keepdim=True)


def _length(flow: Tensor) -> Tensor:
    """Length of each vector of (N, 2, H, W), (N, 1, H, W), rounded to float32 at the end as in the C program."""
    return flow.float().square().sum(dim=1, keepdim=True).double().sqrt().float()
