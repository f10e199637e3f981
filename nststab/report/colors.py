"""The colours of clips in charts, and of the change that motion does not explain."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from nststab.errors import NststabError

# Okabe and Ito's, which those who see few colours tell apart too. The first, the input's, is that of the text.
SERIES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD_SERIES = {"input": 0, "recurrent": 1, "independent": 2, "ruder": 3, "gatys": 4}


def series_of(names: Sequence[str]) -> list[int]:
    """The number in `SERIES` of each clip, the input's first.

    A clip has the colour of the method that it is called by (`dog-recurrent.mp4`), the first of several; the others
    have those that are left, in order. Raises ValueError for more clips than colours.
    """
    if len(names) > len(SERIES):
        raise NststabError(f"expected at most {len(SERIES)} clips to tell apart, got {len(names)}")
    own: dict[int, int] = {0: 0}
    for place, name in enumerate(names[1:], 1):
        called = [number for method, number in METHOD_SERIES.items() if number and method in name.lower()]
        if len(called) == 1 and called[0] not in own.values():
            own[place] = called[0]
    free = iter(sorted(set(range(len(SERIES))) - set(own.values())))
    return [own[place] if place in own else next(free) for place in range(len(names))]


BRIGHTEST = 64 / 255  # the change that has the brightest colour; few styles flicker by more
INFERNO = (
    *("#000004", "#0A0722", "#1E0C45", "#380962", "#510E6C", "#69166E", "#801F6C", "#982766", "#B0315B"),
    *("#C63D4D", "#D94D3D", "#E9612B", "#F47918", "#FA9407", "#FCB014", "#F8CD37", "#F2EA69", "#FCFFA4"),
)
"""Every 15th of the 256 colours of Smith and van der Walt's inferno, from black to bright: even steps to the eye."""


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
