import pytest

from nststab.report.layout import Arrangement, CurveLimits, Parts, Rect, arrange


def arranged(clips: int, height: int, width: int, maps: bool = False, curve: bool = True) -> Arrangement:
    """Clips with bars of 30 pixels for their names, and heat maps below them where asked for."""
    heights = (30 + height + maps * (30 + height), 30 + height + maps * (12 + height))
    limits = CurveLimits(height=140, width=280, highest=max(140, height))
    return arrange(Parts(clips, width, heights, 12, limits if curve else None))


def rows(arrangement: Arrangement) -> list[int]:
    """How many clips stand in each row."""
    tops = [cell.top for cell in arrangement.cells]
    return [tops.count(top) for top in sorted(set(tops))]


def apart(first: Rect, second: Rect) -> bool:
    return (
        first.left + first.width <= second.left
        or second.left + second.width <= first.left
        or first.top + first.height <= second.top
        or second.top + second.height <= first.top
    )


SHAPES = [(242, 432), (480, 854), (480, 270), (360, 360), (32, 32), (90, 160), (720, 1280), (180, 432)]


@pytest.mark.parametrize("curve", [True, False])
@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("clips", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_everything_has_its_place(clips: int, height: int, width: int, maps: bool, curve: bool) -> None:
    whole = arranged(clips, height, width, maps, curve)
    assert len(whole.cells) == clips
    assert list(whole.cells) == sorted(whole.cells)  # reading order
    assert len(rows(whole)) <= 2
    assert (whole.curve is not None) == curve
    rects = [*whole.cells, *([whole.curve] if whole.curve else [])]
    for index, rect in enumerate(rects):
        assert rect.top >= 12
        assert rect.left >= 12
        assert rect.top + rect.height + 12 <= whole.height
        assert rect.left + rect.width + 12 <= whole.width
        assert all(side % 2 == 0 for side in rect)
        assert all(apart(rect, other) for other in rects[:index])
    assert whole.height % 2 == whole.width % 2 == 0
    assert {cell.width for cell in whole.cells} == {width}
    if whole.curve:
        assert whole.curve.height >= 140
        assert whole.curve.width >= 280


@pytest.mark.parametrize("clips", [2, 3, 5, 6])
def test_wide_clips_make_exactly_16_by_9(clips: int) -> None:
    whole = arranged(clips, 480, 854)
    assert whole.width * 9 == whole.height * 16


def test_upright_clips_stand_in_one_row() -> None:
    for clips in range(2, 7):
        assert rows(arranged(clips, 480, 270)) == [clips]


def test_more_than_three_wide_clips_stand_in_two_rows() -> None:
    assert [rows(arranged(clips, 480, 854)) for clips in (2, 4, 5, 6)] == [[2], [2, 2], [3, 2], [3, 3]]
