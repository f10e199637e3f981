"""A curve that runs along with a clip: a line for each of several clips, up to the frame that is shown."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nststab.report.sheet import FAINT, PAPER, blend, fill, rgb, shortened, text_cover
from nststab.video.images import from_uint8, to_uint8

TITLE = "SSIM of corresponding patches: higher is steadier"
WINDOW = 100  # frames that are seen at once where it is not known how many will come
_TICKS = (0.0, 0.5, 1.0)
_GRID = 0.2  # brightness of the lines at the ticks
_CUT, _PRESENT = 0.38, 0.45  # and of the upright lines at a cut and at the present point
_WIDEST = 0.4  # share of the width that names may take
_THINNEST = 0.8  # half the thickness of a line, in pixels
_FINER = 4  # lines are drawn so much larger, and made small: Pillow's have hard edges

Point = tuple[float, float]  # x, y in pixels


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
        self._paints = [*colors]
        blend(area, text_cover(TITLE, style.small), (style.head - style.small) // 2, 0, FAINT)
        self._top, self._height = style.head, area.shape[-2] - style.head - style.small // 2
        right = self._draw_names(area, names, self._height)
        self._left = max(text_cover(f"{tick:g}", style.small).shape[-1] for tick in _TICKS) + style.small // 2
        self._width = right - self._left
        shown = max(2, frames or WINDOW)
        self._step = (self._width - 1) / (shown - 1)
        self._draw_axis(area, self._left, self._height, self._width)
        self._radius = max(_THINNEST, min(style.text / 14, self._step / 2))
        self._rows: deque[Sequence[float]] = deque(maxlen=shown + 1)  # one more, for the line that comes in at the left
        self._cuts: deque[bool] = deque(maxlen=shown + 1)
        self._cut = False

    def start_shot(self) -> None:
        """The next frame is the first of another shot: nothing is joined across the cut, which is marked."""
        self._cut = bool(self._rows)

    def add(self, values: Sequence[float]) -> None:
        """The next frame's value of each line; NaN where there is none."""
        self._rows.append(values)
        self._cuts.append(self._cut)
        self._cut = False

    def draw(self, area: Tensor) -> None:
        """Draw lines and values as they stand upon a copy of the paper that the curve was made with."""
        if not self._rows:
            return
        self._draw_lines(area)
        for index, (value, color) in enumerate(zip(self._rows[-1], self._colors, strict=True)):
            known = not math.isnan(value)
            text = text_cover(f"{value:.2f}" if known else "-", self._style.text)
            blend(area, text, self._row(index), area.shape[-1] - text.shape[-1], color if known else FAINT)

    def _draw_lines(self, area: Tensor) -> None:
        """Cuts, lines, and a dot at the present point of each."""
        radius, dot = self._radius, 2.2 * self._radius + 0.5
        edge = math.ceil(dot + radius) + 2  # around the plot: room for dots that stand on its border
        full = len(self._rows) == self._rows.maxlen
        begin = 0 if full else edge  # what is older than the axis is cut off at its left end
        field = area[
            :,
            self._top - edge : self._top + self._height + edge,
            self._left - begin : self._left + self._width + edge,
        ]
        whole = Image.fromarray(to_uint8(field[None]))
        picture = whole.resize((_FINER * whole.width, _FINER * whole.height), Image.Resampling.NEAREST)
        pen = _Pen(ImageDraw.Draw(picture))
        last = len(self._rows) - 1
        head = begin + (last - full) * self._step
        places = [head - (last - index) * self._step for index in range(last + 1)]
        upright = max(1.0, 0.6 * radius) / 2
        bottom = edge + self._height - 1
        for place, cut in zip(places, self._cuts, strict=True):
            if cut:
                dash = math.ceil(3 * radius)
                for top in range(edge, bottom + 1, 2 * dash):
                    middle = place - self._step / 2
                    pen.line([(middle, top), (middle, min(bottom, top + dash))], upright, _gray(_CUT))
        for index, paint in enumerate(self._paints):
            for points in self._joined(index, places, edge):
                pen.line(points, radius, paint)
        pen.line([(head, edge), (head, bottom)], upright, _gray(_PRESENT))
        ends = [(self._y(value, edge), paint) for value, paint in zip(self._rows[-1], self._paints, strict=True)]
        for y, _ in ends:
            pen.dot((head, y), dot + radius, _gray(PAPER))
        for y, paint in ends:
            pen.dot((head, y), dot, paint)
        drawn = np.array(picture.resize(whole.size, Image.Resampling.BOX))
        changed = torch.from_numpy(drawn != np.array(whole)).any(-1)  # the paper itself is not rounded to 8 bits
        field[:, changed] = from_uint8(drawn)[0][:, changed]

    def _joined(self, index: int, places: Sequence[float], edge: int) -> Iterator[list[Point]]:
        """The points of a line, apart where a value is missing and at cuts."""
        points: list[Point] = []
        for place, values, cut in zip(places, self._rows, self._cuts, strict=True):
            missing = math.isnan(values[index])
            if points and (cut or missing):
                yield points
                points = []
            if not missing:
                points.append((place, self._y(values[index], edge)))
        if points:
            yield points

    def _y(self, value: float, edge: int) -> float:
        return edge + (1 - min(1.0, max(0.0, value))) * (self._height - 1)

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


class _Pen:
    """Lines and dots by their middle and half their thickness, in the pixels of the small picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, points: Sequence[Point], radius: float, color: str) -> None:
        """A line through the points, with round ends where there is one alone."""
        if len(points) == 1:
            self.dot(points[0], radius, color)
            return
        large = [((x + 0.5) * _FINER, (y + 0.5) * _FINER) for x, y in points]
        self._draw.line(large, color, max(1, round(2 * radius * _FINER)), joint="curve")

    def dot(self, middle: Point, radius: float, color: str) -> None:
        """A full circle; nothing at NaN."""
        if math.isnan(middle[1]):
            return
        x, y = ((side + 0.5) * _FINER for side in middle)
        reach = radius * _FINER
        self._draw.ellipse((x - reach, y - reach, x + reach, y + reach), color)


def _gray(level: float) -> str:
    return "#" + f"{round(255 * level):02X}" * 3
