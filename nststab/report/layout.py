"""The frames of a comparison as a video shows them: labelled clips, heat maps of their changes, a running curve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.report.colors import BRIGHTEST, heat_colors
from nststab.report.curve import CurveStyle, RunningCurve
from nststab.report.sheet import FAINT, INK, ON_DARK, PAPER, SMALLEST_TEXT, blend, fill, rgb, shortened, text_cover

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


LEGEND = ("Change that motion does not explain:", "0", f"{255 * BRIGHTEST:.0f} levels of 255")
_LONGEST_NAME = 12  # times the height of the text: so much a name may widen the cell of a small clip


class ComparisonLayout:
    """The same frame of several clips, pixel by pixel, the first clip first, over a curve that runs along with them.

    names, series: of each clip, what stands above it and the number of its colour in `SERIES`. frames: how many will
    come, None where that is not known. differences: whether a heat map stands below each clip. A single frame has
    neither maps nor a curve. One row or two, whatever makes the whole the nearest to 16:9. The size follows from the
    frames' size and these settings alone, so it is the same over a clip; both its sides are even.

    Raises ValueError where there is not one colour for each clip.
    """

    def __init__(self, names: Sequence[str], series: Sequence[int], frames: int | None, differences: bool) -> None:
        if not names or len(names) != len(series):
            raise NststabError(f"expected a colour for each clip, got {len(names)} names and {len(series)} colours")
        if not all(0 <= number < len(ON_DARK) for number in series):
            raise NststabError(f"expected colours from 0 to {len(ON_DARK) - 1}, got {', '.join(map(str, series))}")
        self._names, self._colors = list(names), [ON_DARK[number] for number in series]
        self._frames, self._differences = frames, differences
        self._page: _Page | None = None  # made when the frames' size is known

    def start_shot(self) -> None:
        """The next frame is the first of a shot: the curve does not join it with the one before."""
        if self._page is not None and self._page.curve is not None:
            self._page.curve.start_shot()

    def resume(self, height: int, width: int, rows: Sequence[tuple[bool, Sequence[float]]]) -> None:
        """Go on after frames (1, 3, H, W) that another layout rendered: whether each began a shot, and its `ssims`."""
        page = self._made(height, width)
        for begins, ssims in rows:
            if begins:
                self.start_shot()
            if page.curve is not None:
                page.curve.add(ssims)

    def render(
        self, frames: Sequence[Tensor], ssims: Sequence[float], changes: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The next frame of the comparison, (1, 3, H', W').

        frames: (1, 3, H, W) in [0, 1] of each clip. ssims: each clip's measure against the frame before, NaN where
        there is none, as on the first frame of a shot. changes: of `unexplained_change`, (1, 1, H, W) for each clip;
        None where there is none, which is shown black.

        Raises ValueError where sizes differ, or there is not one of each for every clip.
        """
        self._check(frames, ssims, changes)
        return self._made(*frames[0].shape[-2:]).render(frames, ssims, changes)

    def _made(self, height: int, width: int) -> "_Page":
        if self._page is None:
            maps = self._differences and self._frames != 1
            self._page = _Page(height, width, self._names, self._colors, self._frames, maps)
        return self._page

    def _check(self, frames: Sequence[Tensor], ssims: Sequence[float], changes: Sequence[Tensor] | None) -> None:
        count = len(self._names)
        got = [len(values) for values in (frames, ssims, *([] if changes is None else [changes]))]
        if any(number != count for number in got):
            raise NststabError(f"expected one of each for {count} clips, got {', '.join(map(str, got))}")
        if changes is not None and not self._differences:
            raise NststabError("expected no changes in a layout without differences")
        height, width = self._page.size if self._page else frames[0].shape[-2:]
        for pictures, channels in ((frames, 3), (changes or (), 1)):
            for picture in pictures:
                expected = (1, channels, height, width)
                if picture.shape != expected:
                    raise NststabError(f"expected pictures of one size, {expected}, got {tuple(picture.shape)}")


class _Page:
    """What stays the same over a clip, drawn once, and the places of what changes."""

    def __init__(
        self, height: int, width: int, names: Sequence[str], colors: Sequence[str], frames: int | None, maps: bool
    ) -> None:
        self.size = height, width
        text = max(SMALLEST_TEXT, round(math.sqrt(height * width) / 19))
        small = max(SMALLEST_TEXT, round(0.8 * text))
        head, panel, gap, between = _even(1.6 * text), _even(height), _even(0.7 * text), _even(1.8 * small)
        longest = max(width, _LONGEST_NAME * text)
        labels = [_label(name, color, text, longest) for name, color in zip(names, colors, strict=True)]
        legend = _legend(small) if maps else torch.zeros(3, 0, 0)
        style = CurveStyle(text, small, head)

        # the legend has at least two clips above it, or the whole width
        column = max(width, legend.shape[-1] // min(2, len(names)), *(label.shape[-1] for label in labels))
        rows = (head + panel + between + panel, head + panel + gap + panel) if maps else (head + panel,) * 2
        least = [_even(side) for side in style.least_size(len(names))]
        limits = CurveLimits(least[0], max(least[1], _even(legend.shape[-1])), max(least[0], panel))
        places = arrange(Parts(len(names), _even(column), rows, gap, None if frames == 1 else limits))

        self._paper = torch.full((1, 3, places.height, places.width), PAPER)
        self._panels = [Rect(cell.top + head, cell.left, height, width) for cell in places.cells]
        self._maps = [Rect(cell.top + cell.height - panel, cell.left, height, width) for cell in places.cells if maps]
        for label, cell in zip(labels, places.cells, strict=True):
            _paste(self._paper, label, cell.top + (head - text) // 2, cell.left)
        for place in self._maps:
            _part(self._paper, place).zero_()
        top = self._panels[0].top + panel + (between - legend.shape[-2]) // 2
        _paste(self._paper, legend, top, self._panels[0].left)
        self.curve: RunningCurve | None = None
        if places.curve is not None:
            self._curve_place = places.curve
            self.curve = RunningCurve(_part(self._paper, places.curve), names, colors, frames, style)

    def render(self, frames: Sequence[Tensor], ssims: Sequence[float], changes: Sequence[Tensor] | None) -> Tensor:
        # numpy asks for large pages of memory, which torch does not: a fresh copy takes a quarter of the time
        canvas = torch.from_numpy(np.empty(self._paper.shape, np.float32)).copy_(self._paper)
        for place, frame in zip(self._panels, frames, strict=True):
            _part(canvas, place).copy_(frame[0].detach())
        for place, change in zip(self._maps, changes or (), strict=False):
            _part(canvas, place).copy_(heat_colors(change)[0])
        if self.curve is not None:
            self.curve.add(ssims)
            self.curve.draw(_part(canvas, self._curve_place))
        return canvas


def _even(pixels: float) -> int:
    return 2 * math.ceil(pixels / 2)


def _part(canvas: Tensor, place: Rect) -> Tensor:
    return canvas[0, :, place.top : place.top + place.height, place.left : place.left + place.width]


def _paste(canvas: Tensor, picture: Tensor, top: int, left: int) -> None:
    _part(canvas, Rect(top, left, *picture.shape[-2:])).copy_(picture)


def _label(name: str, color: str, text: int, longest: int) -> Tensor:
    """A clip's name after a small square of its colour: (3, text, W) with W at most `longest`."""
    square = round(0.56 * text)
    indent = square + round(0.4 * text)
    cover = text_cover(shortened(name, text, longest - indent), text)
    label = torch.full((3, text, indent + cover.shape[-1]), PAPER)
    fill(label, round(0.27 * text), 0, square, square, rgb(color))
    blend(label, cover, 0, indent, INK)
    return label


def _legend(text: int) -> Tensor:
    """What the colours of the heat maps mean: (3, text, W)."""
    title, least, most = (text_cover(words, text) for words in LEGEND)
    bar, gap = 6 * text, round(0.4 * text)
    lefts = [0, title.shape[-1] + 2 * gap]
    lefts.append(lefts[1] + least.shape[-1] + gap)
    lefts.append(lefts[2] + bar + gap)
    legend = torch.full((3, text, lefts[3] + most.shape[-1]), PAPER)
    for cover, left in ((title, lefts[0]), (least, lefts[1]), (most, lefts[3])):
        blend(legend, cover, 0, left, FAINT)
    height = round(0.56 * text)
    ramp = heat_colors(torch.linspace(0, BRIGHTEST, bar).expand(1, 1, height, bar))
    _paste(legend[None], ramp[0], round(0.27 * text), lefts[2])
    return legend
