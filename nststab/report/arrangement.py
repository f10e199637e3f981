"""Where the panels of a comparison stand: one row of them or two, whichever makes the whole the nearest to 16:9."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

WIDE, HIGH = 16, 9
_MOST_PAPER = 0.22  # the share that may be added as a mere border to make the whole exactly 16:9


class Rect(NamedTuple):
    """A rectangle in pixels; all of its numbers are even, as the chroma of 4:2:0 video has half the resolution."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Arrangement:
    """The size of the whole, the cells of the clips in reading order, and the place of the curve if there is one."""

    height: int
    width: int
    cells: tuple[Rect, ...]
    curve: Rect | None

    @property
    def off_shape(self) -> float:
        """How far the shape is from 16:9, as the ratio of the two."""
        ratio = self.width * HIGH / (self.height * WIDE)
        return max(ratio, 1 / ratio)


class CurveLimits(NamedTuple):
    """How small a curve may be, and how high where nothing else needs the place."""

    height: int
    width: int
    highest: int


class Parts(NamedTuple):
    """What is to be arranged; sizes in pixels, all even."""

    clips: int
    width: int  # of a cell, which holds a clip, its name and its heat map
    heights: tuple[int, int]  # of the cells of the first row and of the second
    gap: int
    curve: CurveLimits | None


def arrange(parts: Parts) -> Arrangement:
    """The nearest to 16:9 of one or two rows, with the curve below them or in the cells that the last row leaves free.

    A curve below grows within its limits, and a little paper is added around, where that makes the whole exactly 16:9.
    """
    half = math.ceil(parts.clips / 2)
    options = [_with_curve_below(parts, columns) for columns in (half, parts.clips)]
    beside = [_with_curve_beside(parts, columns) for columns in range(half, parts.clips + 3)]
    options += [option for option in beside if option is not None]
    return min((_bordered(option) for option in options), key=lambda option: (option.off_shape, option.width))


def _cells(parts: Parts, columns: int, centred: bool) -> list[Rect]:
    """The clips' cells, row by row; a shorter last row starts at the left, or stands in the middle."""
    cells = []
    free = -parts.clips % columns
    for index in range(parts.clips):
        row, column = divmod(index, columns)
        left = parts.gap + column * (parts.width + parts.gap)
        if centred and index >= parts.clips - parts.clips % columns:
            left += free * (parts.width + parts.gap) // 4 * 2
        top = parts.gap + row * (parts.heights[0] + parts.gap)
        cells.append(Rect(top, left, parts.heights[row], parts.width))
    return cells


def _with_curve_below(parts: Parts, columns: int) -> Arrangement:
    """With no curve at all where none is wanted."""
    cells = _cells(parts, columns, centred=True)
    across, bottom = columns * (parts.width + parts.gap) - parts.gap, cells[-1].top + cells[-1].height
    if parts.curve is None:
        return Arrangement(bottom + parts.gap, across + 2 * parts.gap, tuple(cells), None)
    across, top = max(across, parts.curve.width), bottom + parts.gap
    wanted = (across + 2 * parts.gap) * HIGH // WIDE // 2 * 2 - top - parts.gap
    curve = Rect(top, parts.gap, max(parts.curve.height, min(wanted, parts.curve.highest)), across)
    return Arrangement(top + curve.height + parts.gap, across + 2 * parts.gap, tuple(cells), curve)


def _with_curve_beside(parts: Parts, columns: int) -> Arrangement | None:
    """None where the last row does not leave one or two cells, or these are upright: time runs across."""
    free = -parts.clips % columns
    if parts.curve is None or not 1 <= free <= 2:
        return None
    cells = _cells(parts, columns, centred=False)
    last, across = cells[-1], free * (parts.width + parts.gap) - parts.gap
    if last.height < parts.curve.height or across < max(parts.curve.width, last.height):
        return None
    curve = Rect(last.top, last.left + last.width + parts.gap, last.height, across)
    height, width = last.top + last.height + parts.gap, parts.gap + columns * (parts.width + parts.gap)
    return Arrangement(height, width, tuple(cells), curve)


def _bordered(inner: Arrangement) -> Arrangement:
    """The same in the middle of a whole of exactly 16:9, unless that takes too much paper."""
    unit = 2 * max(math.ceil(inner.width / (2 * WIDE)), math.ceil(inner.height / (2 * HIGH)))
    height, width = unit * HIGH, unit * WIDE
    if height * width > (1 + _MOST_PAPER) * inner.height * inner.width:
        return inner
    down, right = (height - inner.height) // 4 * 2, (width - inner.width) // 4 * 2

    def moved(rect: Rect) -> Rect:
        return rect._replace(top=rect.top + down, left=rect.left + right)

    curve = None if inner.curve is None else moved(inner.curve)
    return replace(inner, height=height, width=width, cells=tuple(map(moved, inner.cells)), curve=curve)
