"""The curve below the clips of a comparison: where its lines stand, and where they are broken."""

import math

import pytest
import torch
from torch import Tensor

from nststab.report.curve import WINDOW, CurveStyle, RunningCurve
from nststab.report.sheet import ON_DARK, PAPER, rgb

BLUE, ORANGE = (rgb(ON_DARK[number]) for number in (1, 2))
STYLE = CurveStyle(text=12, small=12, head=20)
LEFT, RIGHT, TOP, BOTTOM = 20, 349, 20, 144  # of the plot


def curve(frames: int | None, names: list[str], width: int = 400) -> tuple[RunningCurve, Tensor]:
    area = torch.full((3, 151, width), PAPER)
    return RunningCurve(area, names, list(ON_DARK[1:3])[: len(names)], frames, STYLE), area


def shown(running: RunningCurve, area: Tensor) -> Tensor:
    picture = area.clone()
    running.draw(picture)
    return picture


def columns(picture: Tensor, color: Tensor) -> set[int]:
    """Where the plot has something of a colour."""
    near = (picture[:, :, : RIGHT + 8] - color).abs().amax(0) < 0.15
    return set(near.any(0).nonzero().flatten().tolist())


@pytest.mark.parametrize(("value", "y"), [(0.0, BOTTOM), (1.0, TOP), (0.5, 82), (-0.3, BOTTOM), (1.2, TOP)])
def test_a_value_stands_at_its_height_and_the_frame_at_its_column(value: float, y: int) -> None:
    running, area = curve(5, ["a"])
    for _ in range(3):
        running.add([value])
    blue = (shown(running, area)[:, :, :RIGHT] - BLUE).abs().amax(0) < 0.15
    rows = blue[:, LEFT + 5 : LEFT + 100].any(1).nonzero().flatten().tolist()
    assert rows
    assert all(abs(row - y) <= 1 for row in rows)
    end = LEFT + (RIGHT - LEFT) / 2  # the third of five frames, and half the dot around it
    assert max(blue.any(0).nonzero().flatten().tolist()) == pytest.approx(end + 2, abs=1.5)


def test_nothing_is_drawn_where_there_is_no_value() -> None:
    running, area = curve(11, ["a", "b"])
    for index in range(11):
        running.add([0.5, math.nan if 4 <= index <= 6 else 0.2])
    picture, step = shown(running, area), (RIGHT - LEFT) / 10
    gap = set(range(round(LEFT + 3 * step) + 3, round(LEFT + 7 * step) - 2))
    assert set(range(LEFT + 1, RIGHT - 8)) <= columns(picture, BLUE)
    assert not columns(picture, ORANGE) & gap
    assert len(columns(picture, ORANGE)) > 150


def test_a_cut_is_a_gap_and_is_marked() -> None:
    running, area = curve(11, ["a"])
    whole, _ = curve(11, ["a"])
    running.start_shot()  # before the first frame it is none
    for index in range(9):
        if index == 5:
            running.start_shot()
        running.add([0.5])
        whole.add([0.5])
    step = (RIGHT - LEFT) / 10
    inside = set(range(round(LEFT + 4 * step) + 3, round(LEFT + 5 * step) - 2))
    cut, uncut = shown(running, area), shown(whole, area)
    assert not columns(cut, BLUE) & inside
    assert inside <= columns(uncut, BLUE)
    marked = (cut[:, TOP : TOP + 40, :RIGHT] - uncut[:, TOP : TOP + 40, :RIGHT]).abs().amax((0, 1)) > 0.05
    assert marked.nonzero().double().mean() == pytest.approx(LEFT + 4.5 * step, abs=1)
    assert marked.sum() <= 3


def test_without_a_known_length_the_last_hundred_frames_are_seen() -> None:
    running, area = curve(None, ["a"])
    ends = []
    for index in range(250):
        running.add([0.9 if index < 120 else 0.1])
        if index in (49, 99, 249):
            blue = columns(shown(running, area), BLUE)
            ends.append(max(blue))
            assert min(blue) in range(LEFT - 3, LEFT + 2)
    assert ends[0] < 0.6 * ends[1]
    assert ends[1] == ends[2]  # the end holds still
    high = shown(running, area)[:, TOP : TOP + 40, LEFT - 5 : RIGHT - 10]
    assert ((high[2] - high[0]) > 0.1).sum() == 0  # what was long ago is gone
    assert WINDOW == 100
