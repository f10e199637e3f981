"""A curve that runs along with a clip: a line for each of several clips, up to the frame that is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nststab.report.canvas import FAINT, blend, fill, rgb, shortened, text_cover
from nststab.report.lines import RunningLines

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
