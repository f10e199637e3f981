import math

import pytest
import torch
from torch import Tensor

from nststab.report.curve import WINDOW, CurveStyle, RunningCurve, RunningLines, stroke
from nststab.report.sheet import ON_DARK, PAPER, blend, fill, rgb, text_cover

BLUE, ORANGE = (rgb(ON_DARK[number]) for number in (1, 2))
STYLE = CurveStyle(text=12, small=12, head=20)
PLOT = 20, 30, 101, 201  # top, left, height, width


def paper(height: int = 150, width: int = 300) -> Tensor:
    return torch.full((3, height, width), PAPER)


def lines(frames: int, count: int = 1, radius: float = 1.0) -> RunningLines:
    return RunningLines(paper(), PLOT, [BLUE, ORANGE][:count], step=200 / (frames - 1), radius=radius)


def drawn(running: RunningLines) -> Tensor:
    area = paper()
    running.draw(area)
    return area


def colored(area: Tensor, color: Tensor) -> Tensor:
    """Where a picture has exactly this colour: (H, W)."""
    return (area - color).abs().amax(0) < 1e-6


def columns_of(mask: Tensor) -> list[int]:
    return mask.any(0).nonzero().flatten().tolist()


def rows_of(mask: Tensor) -> list[int]:
    return mask.any(1).nonzero().flatten().tolist()


@pytest.mark.parametrize(("value", "y"), [(0.0, 120), (1.0, 20), (0.5, 70), (0.25, 95), (-0.3, 120), (1.2, 20)])
def test_a_value_stands_at_its_height_and_the_frame_at_its_column(value: float, y: int) -> None:
    running = lines(frames=5)
    for _ in range(3):
        running.add([value])
    blue = colored(drawn(running), BLUE)
    assert rows_of(blue[:, 30:120]) == [y]  # half a pixel of each neighbour belongs to the line
    assert columns_of(blue)[0] == 30
    assert max(columns_of(blue)) in range(130, 134)  # the third of five frames, and the dot around it
    assert sum(rows_of(blue)) / len(rows_of(blue)) == y


def test_lines_are_smooth() -> None:
    """The coverage of a line is its length times its thickness, at any angle, and its edges are neither 0 nor 1."""
    for end in ((80.0, 50.0), (80.3, 77.7), (41.0, 90.0), (10.0, 90.0)):
        cover = torch.zeros(100, 100)
        stroke(cover, (10.0, 10.0), end, 1.5)
        length = math.hypot(end[0] - 10, end[1] - 10)
        assert float(cover.sum()) == pytest.approx(3 * length + math.pi * 1.5**2, rel=0.02)
        assert 0 <= cover.min() < cover.max() == 1
        assert ((cover > 0.1) & (cover < 0.9)).sum() > length / 2 or end[0] == 10


def test_a_stroke_beyond_the_edge_is_cut_off() -> None:
    cover = torch.zeros(10, 10)
    stroke(cover, (-20.0, 5.0), (30.0, 5.0), 1.0)
    assert cover[5].min() == 1
    stroke(cover, (50.0, 50.0), (60.0, 60.0), 1.0)
    assert cover[9].max() == 0


def test_values_are_joined_by_straight_lines() -> None:
    running = lines(frames=3)
    running.add([0.2])
    running.add([0.8])
    area = drawn(running)
    for x in (30, 55, 80, 105, 120):
        assert colored(area, BLUE)[120 - round(100 * (0.2 + 0.6 * (x - 30) / 100)), x]


def test_nothing_is_drawn_where_there_is_no_value() -> None:
    running = lines(frames=11, count=2)
    for index in range(11):
        running.add([0.5, math.nan if 4 <= index <= 6 else 0.2])
    area = drawn(running)
    assert set(range(30, 226)) <= set(columns_of(colored(area, BLUE)))  # up to the paper around the dot
    gap = range(30 + 3 * 20 + 2, 30 + 7 * 20 - 1)
    assert set(columns_of(colored(area, ORANGE))) >= set(range(30, 226)) - set(range(gap.start - 2, gap.stop + 2))
    assert not set(columns_of(colored(area, ORANGE))) & set(gap)


def test_a_value_between_two_gaps_is_seen() -> None:
    running = lines(frames=5)
    for value in (math.nan, 0.5, math.nan, math.nan):
        running.add([value])
    blue = colored(drawn(running), BLUE)
    assert rows_of(blue) == [70]
    assert columns_of(blue) == [80]


def test_a_cut_is_a_gap_and_is_marked() -> None:
    running, whole = lines(frames=11), lines(frames=11)
    for index in range(9):
        if index == 5:
            running.cut()
        value = math.nan if index == 5 else 0.5
        running.add([value])
        whole.add([value])
    area, uncut = drawn(running), drawn(whole)
    assert not set(columns_of(colored(area, BLUE))) & set(range(113, 149))
    different = (area != uncut).any(0)
    assert columns_of(different) == [120]  # halfway from the last frame of a shot to the first of the next
    assert 30 < len(rows_of(different)) < 70  # dashes
    assert rows_of(different)[0] >= 20
    assert rows_of(different)[-1] <= 120


def test_values_before_and_after_a_cut_are_not_joined() -> None:
    running = lines(frames=11)
    running.add([0.5])
    running.cut()
    running.add([0.5])
    running.add([0.5])
    assert not set(columns_of(colored(drawn(running), BLUE))) & set(range(32, 49))


def test_a_cut_before_the_first_frame_is_none() -> None:
    running, whole = lines(frames=3), lines(frames=3)
    running.cut()
    for curve in (running, whole):
        curve.add([0.5])
    assert torch.equal(drawn(running), drawn(whole))


def test_the_present_frame_has_a_dot_and_an_upright_line() -> None:
    running = lines(frames=5)
    running.add([0.3])
    running.add([0.3])
    area = drawn(running)
    dot = colored(area, BLUE)[:, 76:]
    assert len(rows_of(dot)) >= 5
    assert (area[:, 20:121, 80] > PAPER).all(0).sum() > 85
    assert (area[:, 20:80, 85] == PAPER).all()
    running.add([math.nan])
    assert rows_of(colored(drawn(running), BLUE)) == [90]


def test_lines_grow_and_what_was_drawn_stays() -> None:
    running = lines(frames=50)
    past: list[Tensor] = []
    for index in range(50):
        running.add([0.5 + 0.4 * math.sin(index)])
        area = drawn(running)
        settled = 30 + int(4 * index) - 10
        for earlier in past[-1:]:
            assert torch.equal(area[..., : settled - 4], earlier[..., : settled - 4])
        past.append(area)
        assert max(columns_of(colored(area, BLUE)), default=0) < 30 + 200 * index / 49 + 5


def test_more_values_than_there_is_room_for_move_to_the_left() -> None:
    running, shorter = lines(frames=WINDOW), lines(frames=WINDOW)
    values = [0.5 + 0.4 * math.sin(index / 3) for index in range(300)]
    for index, value in enumerate(values):
        running.add([value])
        if index >= 300 - WINDOW:
            shorter.add([value])
    area, expected = drawn(running), drawn(shorter)
    # the same last hundred values, to half a pixel of a slope of at most a pixel a column
    ours, theirs = (blue_height(picture) for picture in (area, expected))
    assert (ours - theirs).abs().max() < 4
    assert (area[..., :29] == PAPER).all()
    assert columns_of(colored(area, BLUE))[-1] == columns_of(colored(expected, BLUE))[-1]


def blue_height(area: Tensor) -> Tensor:
    """The mean row of what is blue in each column of the plot."""
    blueness = (area[2] - area[0]).clamp_min(0)[15:125, 33:225]
    return (blueness * torch.arange(110.0)[:, None]).sum(0) / blueness.sum(0)


def tinted(area: Tensor) -> Tensor:
    """Where a picture is a little blue at least."""
    return area[2] - area[0] > 0.1


def curve(frames: int | None, names: list[str], width: int = 400) -> tuple[RunningCurve, Tensor]:
    area = paper(151, width)
    return RunningCurve(area, names, list(ON_DARK[1:3])[: len(names)], frames, STYLE), area


def shown(running: RunningCurve, area: Tensor) -> Tensor:
    picture = area.clone()
    running.draw(picture)
    return picture


def test_the_axis_is_the_whole_clip_where_its_length_is_known() -> None:
    ends = []
    for frames in (10, 20):
        running, area = curve(frames, ["a"])
        for _ in range(10):
            running.add([0.5])
        ends.append(columns_of(tinted(shown(running, area)[..., :355]))[-1])
    left, right = 20, 349
    assert ends[0] == pytest.approx(right + 2, abs=1)  # with half the dot
    assert ends[1] == pytest.approx(left + (right - left) * 9 / 19 + 2, abs=1)


def test_without_a_known_length_the_last_hundred_frames_are_seen() -> None:
    running, area = curve(None, ["a"])
    ends, starts = [], []
    for index in range(250):
        running.add([0.9 if index < 120 else 0.1])
        blue = tinted(shown(running, area)[..., :355])
        ends.append(columns_of(blue)[-1])
        starts.append(columns_of(blue)[0])
    assert ends[:WINDOW] == sorted(ends[:WINDOW])
    assert ends[49] < 0.6 * ends[99]
    assert set(ends[WINDOW:]) == {ends[99]}  # the end holds still
    assert set(starts[WINDOW:]) <= {18, 19, 20}  # the old end is cut off there, within a step
    assert not tinted(shown(running, area)[:, 20:60, :355]).any()  # what was long ago is gone


def test_the_last_values_stand_in_their_rows() -> None:
    running, area = curve(5, ["a", "b"])
    running.add([0.25, math.nan])
    picture = shown(running, area)
    cover = text_cover("0.25", STYLE.text)
    width = cover.shape[-1]
    expected = paper(12, width)
    blend(expected, cover, 0, 0, BLUE)
    assert any(torch.allclose(picture[:, row : row + 12, -width:], expected) for row in range(139))


def test_names_give_way_where_they_would_leave_no_plot() -> None:
    wide, area = curve(5, ["independent"], width=500)
    narrow, small = curve(5, ["independent"], width=220)
    assert tinted(area[..., 300:]).any()
    assert not tinted(small).any()
    for running, background in ((wide, area), (narrow, small)):
        running.add([0.5])
        assert len(columns_of(colored(shown(running, background), BLUE))) >= 3


def test_the_axis_has_three_ticks() -> None:
    _, area = curve(5, ["a"])
    line = area[0, :, 150]
    levels = (line > PAPER).nonzero().flatten().tolist()
    ticks = [level for level in levels if level >= STYLE.head]
    assert ticks == [20, 82, 144]


@pytest.mark.parametrize("frames", [2, 5, None])
def test_no_value_at_all_is_drawn_too(frames: int | None) -> None:
    running, area = curve(frames, ["a", "b"])
    for _ in range(4):
        running.start_shot()
        running.add([math.nan, math.nan])
    assert not tinted(shown(running, area)[..., :355]).any()


def test_no_value_is_a_dash_and_not_the_box_of_a_letter_that_the_font_lacks() -> None:
    running, area = curve(5, ["a"])
    running.add([math.nan])
    drawn_rows = rows_of((shown(running, area)[..., 355:] - area[..., 355:]).abs().amax(0) > 0.02)
    assert 1 <= len(drawn_rows) <= STYLE.text // 4


def test_the_least_size_holds_all_names() -> None:
    height, width = STYLE.least_size(6)
    area = paper(height, width)
    running = RunningCurve(area, ["n"] * 6, ON_DARK[1:], 5, STYLE)
    running.add([0.1 * index for index in range(6)])
    picture = shown(running, area)
    for color in ON_DARK[1:]:
        assert (picture[..., -20:] - rgb(color)).abs().amax(0).min() < 0.1


def test_paint_stays_inside() -> None:
    area = paper(4, 4)
    blend(area, torch.ones(3, 3), -2, 3, 1.0)
    assert area[0].eq(1).nonzero().tolist() == [[0, 3]]
    fill(area, 3, -1, 5, 2, 0.5)
    assert area[0].eq(0.5).nonzero().tolist() == [[3, 0]]
    blend(area, torch.ones(3, 3), 9, 9, 1.0)
    assert area.eq(1).sum() == 3
