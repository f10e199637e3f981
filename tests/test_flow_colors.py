"""Middlebury's colours, against values of its own program and against its formula in plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nststab.flow.colors import flow_colors, largest_motion

# What computeColor of Middlebury's colorcode.cpp, compiled, gives for (u, v) divided by 5.
PUBLISHED = {
    (0, 0): (255, 255, 255),
    (5, 0): (255, 0, 0),
    (0, 5): (255, 229, 0),
    (-5, 0): (0, 209, 255),
    (0, -5): (87, 0, 255),
    (3, 4): (255, 135, 0),
    (-3, 4): (83, 255, 0),
    (3, -4): (196, 0, 255),
    (-3, -4): (0, 24, 255),
    (1, 1): (255, 215, 182),
    (-2.5, 0.1): (127, 235, 255),
    (0.01, -0.02): (254, 253, 255),
    (6, 0): (191, 0, 0),
    (-9, 2): (0, 189, 191),
    (1.7, -8.3): (91, 0, 191),
    (4.9, 0.3): (255, 13, 4),
}


def flow_of(*vectors: tuple[float, float]) -> Tensor:
    """A flow (1, 2, 1, W) of these vectors."""
    return torch.tensor(vectors).t().reshape(1, 2, 1, -1)


def levels(colors: Tensor) -> list[tuple[int, ...]]:
    """The colours of a picture of one row, 0 to 255."""
    return [tuple(color) for color in (colors[0, :, 0].t() * 255).round().int().tolist()]


def wheel() -> list[tuple[int, int, int]]:
    """The reference program's wheel."""
    colors = [(255, 255 * i // 15, 0) for i in range(15)]
    colors += [(255 - 255 * i // 6, 255, 0) for i in range(6)]
    colors += [(0, 255, 255 * i // 4) for i in range(4)]
    colors += [(0, 255 - 255 * i // 11, 255) for i in range(11)]
    colors += [(255 * i // 13, 0, 255) for i in range(13)]
    colors += [(255, 0, 255 - 255 * i // 6) for i in range(6)]
    return colors


def reference_color(u: float, v: float, maximum: float) -> tuple[int, ...]:
    """computeColor of colorcode.cpp: `float` is float32 and its products with literals are double."""
    single = np.float32
    x, y = single(u) / single(maximum), single(v) / single(maximum)
    radius = single(math.sqrt(single(x * x + y * y)))
    turns = single(math.atan2(-y, -x) / math.pi)
    place = single((float(turns) + 1.0) / 2.0 * 54)
    index = int(place)
    part = single(place - index)
    color = []
    for channel in range(3):
        first, second = (single(wheel()[k % 55][channel] / 255.0) for k in (index, index + 1))
        value = single((single(1) - part) * first + part * second)
        value = single(1) - radius * (single(1) - value) if radius <= 1 else single(float(value) * 0.75)
        color.append(int(255.0 * float(value)))
    return tuple(color)


def test_the_colors_are_those_of_the_reference_program() -> None:
    assert levels(flow_colors(flow_of(*PUBLISHED), 5.0)) == list(PUBLISHED.values())
    assert [reference_color(u, v, 5.0) for u, v in PUBLISHED] == list(PUBLISHED.values())


@given(st.floats(0, 2 * math.pi), st.floats(0.01, 500))
@settings(max_examples=50, deadline=None)
def test_the_longest_vector_has_the_full_colour_and_is_never_darkened(angle: float, length: float) -> None:
    longest = (length * math.cos(angle), length * math.sin(angle))
    (color, half) = levels(flow_colors(flow_of(longest, (longest[0] / 2, longest[1] / 2))))
    assert max(color) == 255
    assert min(color) <= 1
    assert all(abs(pale - (255 + full) / 2) <= 1.5 for pale, full in zip(half, color, strict=True))


def test_no_motion_is_white_and_what_is_unknown_black() -> None:
    assert levels(flow_colors(torch.zeros(1, 2, 1, 2))) == [(255, 255, 255)] * 2
    unknown = flow_of((2e9, 0), (0, -1.1e9), (math.nan, 0), (math.inf, 0), (3, 0), (0, 0))
    assert levels(flow_colors(unknown)) == [(0, 0, 0)] * 4 + [(255, 0, 0), (255, 255, 255)]
    assert largest_motion(unknown) == 3
    assert largest_motion(unknown[..., :2]) == 0
    assert levels(flow_colors(unknown[..., :2])) == [(0, 0, 0)] * 2


def test_flows_of_a_batch_share_the_maximum() -> None:
    flow = torch.cat([flow_of((1, 0)), flow_of((4, 0))])
    assert torch.equal(flow_colors(flow)[:1], flow_colors(flow[:1], 4.0))
    assert largest_motion(flow) == 4


@pytest.mark.parametrize("maximum", [0.0, -1.0, math.inf, math.nan])
def test_a_maximum_that_is_none_is_refused(maximum: float) -> None:
    with pytest.raises(ValueError, match="maximum above 0 pixels"):
        flow_colors(torch.zeros(1, 2, 4, 4), maximum)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected flows \(N, 2, H, W\), got a tensor of shape \(1, 3, 4, 4\)"):
        flow_colors(torch.zeros(1, 3, 4, 4))
