"""Heat maps of the change between two frames that motion does not explain: what the eye sees as flicker."""

import functools

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.warp import warp

BRIGHTEST = 64 / 255  # the change that has the brightest colour; few styles flicker by more
INFERNO = (
    *("#000004", "#0A0722", "#1E0C45", "#380962", "#510E6C", "#69166E", "#801F6C", "#982766", "#B0315B"),
    *("#C63D4D", "#D94D3D", "#E9612B", "#F47918", "#FA9407", "#FCB014", "#F8CD37", "#F2EA69", "#FCFFA4"),
)
"""Every 15th of the 256 colours of Smith and van der Walt's inferno, from black to bright: even steps to the eye."""


def unexplained_change(previous: Tensor, current: Tensor, backward: Tensor, mask: Tensor) -> Tensor:
    """How far each pixel is from the previous frame warped onto it: (1, 1, H, W) in [0, 1].

    The root of the mean over RGB of (current - warp(previous, backward))², times the mask: what `warping_error`
    averages, pixel by pixel. previous, current: frames (1, 3, H, W) of any clip. backward: the original's flow
    (1, 2, H, W) from current to previous, in pixels. mask: trust (1, 1, H, W) of the current frame's pixels.
    """
    change = (current - warp(previous, backward)).square().mean(1, keepdim=True).sqrt()
    return change * mask


def heat_colors(change: Tensor) -> Tensor:
    """A change (1, 1, H, W) in inferno's colours: (1, 3, H, W) in [0, 1], black at 0, brightest from `BRIGHTEST` on."""
    if change.ndim != 4 or change.shape[:2] != (1, 1):
        raise NststabError(f"expected the change of one frame (1, 1, H, W), got {tuple(change.shape)}")
    entry = (change.detach().flatten() * (255 / BRIGHTEST)).round().clamp(0, 255).int()  # (HW)
    return _colors().to(change.device).index_select(1, entry).view(1, 3, *change.shape[-2:])


@functools.cache
def _colors() -> Tensor:
    """The 256 colours, (3, 256) in [0, 1], straight lines between those of the table."""
    table = torch.tensor([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in INFERNO])
    place = torch.arange(256) / 15
    before = place.long().clamp(max=len(table) - 2)
    return torch.lerp(table[before], table[before + 1], (place - before).unsqueeze(1)).T.contiguous()
