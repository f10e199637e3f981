"""Figures as PNG and SVG: the same data give the same bytes; names beside their points; stability against style."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nststab.errors import SettingError
from nststab.measure.intervals import mean_of_known
from nststab.measure.scores import Scores
from nststab.measure.stability import CONTENT
from nststab.measure.verdict import HARDLY_STYLIZED
from nststab.report.colors import METHOD_SERIES, SERIES
from nststab.storage.durable import write_durably
from nststab.storage.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {name: SERIES[number] for name, number in METHOD_SERIES.items()}
_WARM = ("#E69F00", "#F0E442", "#882255", "#AA4499", "#661100")
_COLD = ("#56B4E9", "#44AA99", "#332288", "#999933", "#117733")
OTHERS = (*chain.from_iterable(zip(_WARM, _COLD, strict=True)), "#666666")  # for what is no method


def color_of(method: str, place: int = 0) -> str:
    """A method's colour; one of our own choice, by its place, for a method that others wrote."""
    return COLORS.get(method, OTHERS[place % (len(OTHERS) - 1)])


def grouped(rows: Sequence[Row], *keys: str) -> dict[Any, list[Row]]:
    """Rows by what they have under a key, or, in a tuple, under several; in the order of the first of each."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        had = tuple(row[key] for key in keys)
        found.setdefault(had if len(had) > 1 else had[0], []).append(row)
    return found


def mean_curve(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """The strengths of rows, and of each the mean of its rows' `key`."""
    found = sorted(grouped(rows, "strength").items())
    return [strength for strength, _ in found], [mean_of_known(row[key] for row in own) for _, own in found]


def draw_curves(axes: "Axes", rows: Sequence[Row], key: str, method: str, place: int, marker: str = "") -> str:
    """A method's `key` against strength, in the colour given back; of several styles the mean, and each thin."""
    color, styles = color_of(method, place), grouped(rows, "style")
    axes.plot(*mean_curve(rows, key), f"{marker}-", color=color, label=method, linewidth=1.8)
    if len(styles) > 1 and method != CONTENT:
        for own in styles.values():
            axes.plot(*mean_curve(own, key), color=color, linewidth=0.6, alpha=0.5)
    return color


def legend_below(figure: "Figure", axes: "Axes") -> None:
    """A legend of what `axes` show, in a row below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nststab",
}


@contextmanager
def drawing(folder: Path, name: str = "figure", width: float = 7.0, height: float = 4.0) -> "Iterator[Figure]":
    """An empty figure, sizes in inches; when the block ends well it is written to `name`.png and .svg in `folder`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        for suffix in ("png", "svg"):
            file = BytesIO()
            # dates and versions in the file would make equal figures differ
            metadata = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
            figure.savefig(file, format=suffix, metadata=metadata)
            write_durably(folder / f"{name}.{suffix}", file.getvalue())


# names beside points, so that they hide neither each other nor the points

_SIZE = 7  # of the letters, in points, as all lengths here
_DISTANCES = (5, 9, 14, 20, 28, 38)
_DIRECTIONS = 16
_LINKED = 9  # names farther away than this get a line to their point
_MARKER = 3.5
_MARGIN = 1.0


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "_Box") -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.top - self.bottom)


def label_points(
    figure: "Figure",
    axes: "Axes",
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    others: Sequence[tuple[float, float]] = (),
) -> None:
    """Writes each name near its point, where it covers no other name and no point, of `others` neither, if it can.

    The figure must be complete: a later change of the axes' limits moves points under names.
    """
    figure.draw_without_rendering()  # the layout decides where the points are
    scale = 72 / figure.dpi
    pixels = axes.transData.transform([*points, *others])
    centres = [(float(x) * scale, float(y) * scale) for x, y in pixels]
    taken = [_Box(x - _MARKER, y - _MARKER, x + _MARKER, y + _MARKER) for x, y in centres]
    frame = _Box(*(float(value) * scale for value in axes.get_window_extent().extents))
    for (x, y), point, name in sorted(zip(centres, points, names, strict=False), key=lambda entry: entry[0][::-1]):
        text = axes.annotate(name, point, (0, 0), textcoords="offset points", fontsize=_SIZE, ha="center", va="center")
        text.set_in_layout(False)
        extent = text.get_window_extent()
        width, height = extent.width * scale, extent.height * scale
        distance, box = min(_places(x, y, width, height), key=lambda place: (_hidden(place[1], taken, frame), place[0]))
        taken.append(box)
        offset = (box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y
        text.set_position(offset)
        if distance > _LINKED:
            end = min(max(x, box.left), box.right) - x, min(max(y, box.bottom), box.top) - y
            link = axes.annotate(
                "",
                point,
                end,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#808080", "shrinkA": 0, "shrinkB": 2},
            )
            link.set_in_layout(False)


def _places(x: float, y: float, width: float, height: float) -> Iterator[tuple[float, _Box]]:
    """Boxes of that size around a point, by their distance from it; above and beside it first."""
    for distance in _DISTANCES:
        for number in range(_DIRECTIONS):
            angle = 2 * math.pi * number / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            middle_x = x + across * (distance + width / 2)
            middle_y = y + up * (distance + height / 2)
            yield (
                distance,
                _Box(middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2),
            )


def _hidden(box: _Box, taken: Sequence[_Box], frame: _Box) -> float:
    """The area of what a box covers, and of what of it lies outside the axes."""
    wide = _Box(box.left - _MARGIN, box.bottom - _MARGIN, box.right + _MARGIN, box.top + _MARGIN)
    return sum(wide.overlap(other) for other in taken) + box.area - box.overlap(frame)


def draw_style_plane(scores: Scores, name: str | Path) -> list[Path]:
    """Draws the clips, the input and what it gets by doing little, into `name`.png and `name`.svg; gives both.

    Stability against style loss, one point a clip: whose steadiness is paid for by style stands at the right.
    What could not be measured is left out. Raises SettingError where style was not measured.
    """
    path, own = Path(name), scores.input.stability.style_loss
    if math.isnan(own):
        raise SettingError("figure: style must be measured for it, give a style")
    references = {CONTENT: scores.input, **scores.references}
    shown = [*references.items(), *((clip.name, clip.score) for clip in scores.clips)]
    points = {
        (place, called): (one.stability.style_loss / own, one.stability.ssim, scores.interval(one))
        for place, (called, one) in enumerate(shown)
        if not math.isnan(one.stability.ssim + one.stability.style_loss)
    }
    with drawing(path.parent, path.name, 6.0, 4.0) as figure:
        axes = figure.subplots()
        for number, ((place, called), (share, ssim, (low, high))) in enumerate(points.items()):
            is_reference = place < len(references)
            color = OTHERS[-1] if is_reference else COLORS.get(called, f"C{number}")
            if low == low:
                axes.plot([share] * 2, [low, high], color=color, linewidth=1.0)
            marker = "D" if is_reference else "o"
            axes.plot([share], [ssim], marker, color=color, markersize=6, markeredgecolor="white")
        right = max([1.05, *(share * 1.05 for share, _, _ in points.values())])
        axes.set_xlim(0, right)
        axes.axvspan(HARDLY_STYLIZED, right, color=OTHERS[-1], alpha=0.08, linewidth=0)
        axes.text(
            (HARDLY_STYLIZED + right) / 2,
            0.02,
            "hardly in the style: no rank",
            transform=axes.get_xaxis_transform(),
            ha="center",
            color=OTHERS[-1],
            fontsize=8,
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("style loss, share of the unstylized input's: less is more style")
        axes.set_ylabel("SSIM of corresponding patches: more is steadier")
        label_points(figure, axes, [(share, ssim) for share, ssim, _ in points.values()], [one for _, one in points])
    return [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg")]
