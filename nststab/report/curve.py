"""A curve that runs along with a clip: a line for each of several clips, up to the frame that is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.report.sheet import FAINT, PAPER, blend, fill, rgb, shortened, text_cover

_CUT, _PRESENT = 0.38, 0.45  # brightness of the upright lines at a cut and at the present point

Point = tuple[float, float]  # x, y in pixels


class RunningLines:
    """Lines of values from 0 (bottom) to 1 (top) in a rectangle of a picture, each point a step right of the last.

    `plot` is top, left, height, width in `area` (3, H, W), whose content shows between the lines. Where the right edge
    is reached, everything moves to the left.
    """

    def __init__(
        self, area: Tensor, plot: tuple[int, int, int, int], colors: Sequence[Tensor], step: float, radius: float
    ) -> None:
        top, left, self._height, self._width = plot
        self._colors, self._step, self._radius = colors, step, radius
        self._dot = 2.2 * radius + 0.5
        self._halo = self._dot + radius
        self._edge = math.ceil(self._halo) + 2  # around the plot: room for dots that stand on its border
        self._top, self._left = top - self._edge, left - self._edge
        self._rows, self._columns = self._height + 2 * self._edge, self._width + 2 * self._edge
        self._paper = self._in(area).clone()
        self._picture = self._paper.clone()
        self._covers = torch.zeros(1 + len(colors), *self._paper.shape[1:])  # of the cuts, and of each line
        dash = math.ceil(3 * radius)
        self._dashes = (torch.arange(self._rows) // dash % 2).float()[:, None]
        self._x = self._head = self._edge - step
        self._last: list[Point | None] = [None] * len(colors)
        self._begun = self._cut = False

    def cut(self) -> None:
        """Join the next point with none before it, and mark the place."""
        self._cut = self._begun
        self._last = [None] * len(self._last)

    def add(self, values: Sequence[float]) -> None:
        """The next point of each line; NaN leaves a gap."""
        moved = self._advance()
        first = math.inf
        if self._cut:
            first = self._x - self._step / 2
            self._covers[0] += self._upright(first) * self._dashes
        for cover, (index, value) in zip(self._covers[1:], enumerate(values), strict=True):
            point = None if math.isnan(value) else (self._x, self._y(value))
            if point is not None:
                start = self._last[index] or point
                first = min(first, start[0])
                stroke(cover, start, point, self._radius)
            self._last[index] = point
        self._begun, self._cut = True, False
        reach = math.ceil(self._radius) + 2
        if moved:
            self._compose(0, self._columns)
        elif first < math.inf:
            self._compose(max(0, math.floor(first) - reach), math.ceil(self._x) + reach)

    def draw(self, area: Tensor) -> None:
        """The lines as they stand, with a dot at the present point of each."""
        field = self._in(area)
        field.copy_(self._picture)
        if self._begun:
            blend(field, self._upright(self._head), 0, 0, _PRESENT)
        ends = [(point[1], color) for point, color in zip(self._last, self._colors, strict=True) if point is not None]
        for y, _ in ends:
            _dot(field, (self._head, y), self._halo, PAPER)
        for y, color in ends:
            _dot(field, (self._head, y), self._dot, color)

    def _in(self, area: Tensor) -> Tensor:
        return area[:, self._top : self._top + self._rows, self._left : self._left + self._columns]

    def _y(self, value: float) -> float:
        return self._edge + (1 - min(1.0, max(0.0, value))) * (self._height - 1)

    def _advance(self) -> bool:
        """Go a step to the right; whether everything had to move, which it does by whole pixels to stay sharp."""
        self._x += self._step
        right = self._edge + self._width - 1
        beyond = round(self._x - right)
        if beyond <= 0:
            self._head = min(self._x, right)
            return False
        self._x -= beyond
        self._head = right  # and not half a pixel beside it, or it would tremble
        self._last = [None if point is None else (point[0] - beyond, point[1]) for point in self._last]
        self._covers = F.pad(self._covers[..., beyond:], (0, beyond))
        self._covers[..., : self._edge] = 0
        return True

    def _upright(self, x: float) -> Tensor:
        """The coverage of a line from the top of the plot to its bottom, thinner than the values' lines."""
        across = (max(1.0, 0.6 * self._radius) / 2 + 0.5 - (torch.arange(self._columns) - x).abs()).clamp(0, 1)
        cover = across.repeat(self._rows, 1)
        cover[: self._edge] = cover[self._edge + self._height :] = 0
        return cover

    def _compose(self, left: int, right: int) -> None:
        """Lay cuts and lines over the paper, between two columns."""
        picture = self._picture[..., left:right]
        picture.copy_(self._paper[..., left:right])
        for cover, color in zip(self._covers, (torch.tensor(_CUT), *self._colors), strict=True):
            blend(picture, cover[:, left:right], 0, 0, color)


def stroke(cover: Tensor, start: Point, end: Point, radius: float) -> None:
    """Add a straight line with round ends to a coverage (H, W), in place: smooth, by each pixel's distance to it."""
    (x0, y0), (x1, y1) = start, end
    reach = radius + 1
    rows = slice(max(0, math.floor(min(y0, y1) - reach)), max(0, math.ceil(max(y0, y1) + reach) + 1))
    columns = slice(max(0, math.floor(min(x0, x1) - reach)), max(0, math.ceil(max(x0, x1) + reach) + 1))
    part = cover[rows, columns]
    y = torch.arange(part.shape[0], dtype=torch.float32)[:, None] + rows.start - y0
    x = torch.arange(part.shape[1], dtype=torch.float32) + columns.start - x0
    dx, dy = x1 - x0, y1 - y0
    along = ((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12)).clamp(0, 1)
    distance = torch.hypot(x - along * dx, y - along * dy)
    torch.maximum(part, (radius + 0.5 - distance).clamp(0, 1), out=part)


def _dot(picture: Tensor, center: Point, radius: float, color: Tensor | float) -> None:
    half = math.ceil(radius) + 1
    left, top = math.floor(center[0]) - half, math.floor(center[1]) - half
    cover = torch.zeros(2 * half + 2, 2 * half + 2)
    middle = center[0] - left, center[1] - top
    stroke(cover, middle, middle, radius)
    blend(picture, cover, top, left, color)


TITLE = "SSIM of corresponding patches: higher is steadier"
WINDOW = 100  # frames that are seen at once where it is not known how many will come
_TICKS = (0.0, 0.5, 1.0)
_GRID = 0.2  # brightness of the lines at the ticks
_WIDEST = 0.4  # share of the width that names may take
_THINNEST = 0.8  # half the thickness of a line, in pixels


@dataclass(frozen=True)
class CurveStyle:
    """Sizes in pixels: of names and values, of text that explains, and of the bar above the plot for the title."""

    text: int
    small: int
    head: int

    @property
    def row(self) -> int:
        """From one of the names beside the plot to the next."""
        return math.ceil(1.4 * self.text)

    def least_size(self, count: int) -> tuple[int, int]:
        """Height and width that a plot of so many lines needs at least."""
        height = self.head + max(6 * self.text, count * self.row)
        return height, max(text_cover(TITLE, self.small).shape[-1], 14 * self.text)


class RunningCurve:
    """Lines from 0 to 1 that grow from left to right, with gaps where a value is NaN, and the values beside them.

    `area` (3, H, W) is the paper; title, axis and names are drawn upon it at once. With `frames` known the axis is the
    whole clip; otherwise it holds the last `WINDOW` frames.
    """

    def __init__(
        self, area: Tensor, names: Sequence[str], colors: Sequence[str], frames: int | None, style: CurveStyle
    ) -> None:
        self._colors, self._style = [rgb(color) for color in colors], style
        blend(area, text_cover(TITLE, style.small), (style.head - style.small) // 2, 0, FAINT)
        self._top, height = style.head, area.shape[-2] - style.head - style.small // 2
        right = self._draw_names(area, names, height)
        left = max(text_cover(f"{tick:g}", style.small).shape[-1] for tick in _TICKS) + style.small // 2
        width = right - left
        step = (width - 1) / max(1, (frames or WINDOW) - 1)
        self._draw_axis(area, left, height, width)
        radius = max(_THINNEST, min(style.text / 14, step / 2))
        self._lines = RunningLines(area, (self._top, left, height, width), self._colors, step, radius)
        self._values: Sequence[float] = []

    def start_shot(self) -> None:
        """The next frame is the first of another shot: nothing is joined across the cut, which is marked."""
        self._lines.cut()

    def add(self, values: Sequence[float]) -> None:
        """The next frame's value of each line; NaN where there is none."""
        self._values = values
        self._lines.add(values)

    def draw(self, area: Tensor) -> None:
        """Draw lines and values as they stand upon a copy of the paper that the curve was made with."""
        self._lines.draw(area)
        for index, (value, color) in enumerate(zip(self._values, self._colors, strict=True)):
            known = not math.isnan(value)
            text = text_cover(f"{value:.2f}" if known else "-", self._style.text)
            blend(area, text, self._row(index), area.shape[-1] - text.shape[-1], color if known else FAINT)

    def _row(self, index: int) -> int:
        return self._first_row + index * self._style.row

    def _draw_names(self, area: Tensor, names: Sequence[str], height: int) -> int:
        """The names' rows at the right, or, where that leaves too little for the plot, only the place for the values.

        Returns where the plot has to end.
        """
        text, width = self._style.text, area.shape[-1]
        spare = height - len(names) * self._style.row
        self._first_row = self._top + spare // 2 + (self._style.row - text) // 2
        values = text_cover("0.00", text).shape[-1]
        short = [shortened(name, text, 12 * text) for name in names]
        widest = max(text_cover(name, text).shape[-1] for name in short)
        left = width - values - text - widest
        if left < (1 - _WIDEST) * width:
            return width - values - text
        for index, (name, color) in enumerate(zip(short, self._colors, strict=True)):
            blend(area, text_cover(name, text), self._row(index), left, color)
        return left - text

    def _draw_axis(self, area: Tensor, left: int, height: int, width: int) -> None:
        text = self._style.small
        for tick in _TICKS:
            cover = text_cover(f"{tick:g}", text)
            y = self._top + round((1 - tick) * (height - 1))
            fill(area, y, left, max(1, round(text / 25)), width, _GRID)
            blend(area, cover, y - text // 2, left - text // 2 - cover.shape[-1], FAINT)
