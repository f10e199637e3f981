"""The drift experiment's rows, table and figure."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nststab.experiments.drift import DriftSettings
from nststab.experiments.figures import COLORS
from nststab.measure.stability import CONTENT
from nststab.storage.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GHOST_AFTER = (1, 2, 5, 10)  # frames without the object, the first of which is 1
_CHANNELS = {"brightness": "#000000", "red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}


def row(style: str, method: str, found: Mapping[str, Row]) -> dict[str, Any]:
    """The row of a style by a method, from what was measured of each part; `loop` is None where there was none.

    Style and content loss are those at the end of the still; `_first` those after settling.
    """
    loop = found.get("loop")
    return {
        "style": style,
        "method": method,
        **_long(found["still"]),
        "loop": None if loop is None else _long(loop),
        **{f"ghost_{frame}": found["ghost"]["ghost"][frame - 1] for frame in GHOST_AFTER},
        **found["ghost"],
        **found["cut"],
        "means": found["still"]["means"],
    }


def _long(measured: Row) -> dict[str, Any]:
    """What `long_run` gives, without curves, its losses as numbers."""
    flat = {name: value for name, value in measured.items() if name not in ("means", "style_loss", "content_loss")}
    for term in ("style_loss", "content_loss"):
        flat[f"{term}_first"], flat[term] = measured[term]
    return flat


def table(rows: Sequence[Row], settings: DriftSettings) -> Table:
    """Slopes over a thousand frames, movement, ghost and cut of each style and method."""
    columns = [
        "style, method",
        *("drift in 1000", "moved", "accumulated", "change"),
        *("loop: drift", "moved"),
        *(f"ghost +{frame}" for frame in GHOST_AFTER),
        *("cut", "not seen +1", "+10"),
        *("style loss", "content loss"),
    ]
    note = (
        f"Levels of 255. A still under noise of {settings.noise:g}, {settings.frames} frames, and a loop: the "
        "steepest of brightness, R, G and B over 1000 frames, with its standard error; the farthest that a mean over "
        f"{settings.window} frames (a round of the loop) comes from the first after {settings.settled} frames; by "
        "how much the mean pictures of first and last window differ (of first and second). Ghost: where an object "
        "was, so many frames after it, against a run that never saw it. Cut: what it leaves against a run that begins "
        "there, at most, and on average where no cut is looked for. Losses of the still, first and last window."
    )
    return Table("Drift, ghosts and cuts", columns, [_cells(row) for row in rows], note)


def _cells(row: Row) -> list[str]:
    loop = row["loop"]
    return [
        f"{row['style']}, {row['method']}",
        _slope(row),
        f"{row['moved']:.3f}",
        f"{row['accumulated']:.2f} ({row['accumulated_noise']:.2f})",
        f"{row['change']:.2f}",
        *(("-", "-") if loop is None else (_slope(loop), f"{loop['moved']:.3f}")),
        *(f"{row[f'ghost_{frame}']:.2f}" for frame in GHOST_AFTER),
        f"{row['cut']:.2g}",
        *(f"{row['cut_unseen'][frame - 1]:.2f}" for frame in (1, 10)),
        *(f"{row[f'{term}_first']:.3f} to {row[term]:.3f}" for term in ("style_loss", "content_loss")),
    ]


def _slope(row: Row) -> str:
    error = row["drift_error"]
    shown = f"{1000 * row['drift']:.3f}"
    return shown if error is None or math.isnan(error) else f"{shown} ± {1000 * error:.3f}"


def draw(figure: "Figure", rows: Sequence[Row], settings: DriftSettings) -> None:
    """Left the still's means along the run, a panel for each method; right the ghosts."""
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != CONTENT))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(5, 4))[0]
    panels = left.subplots(len(methods), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, method in zip(panels, methods, strict=True):
        _draw_means(axes, [row for row in rows if row["method"] == method], settings)
        axes.set_title(method, loc="left", fontsize=9)
    panels[0].legend(loc="upper right", ncols=4, fontsize=7, handlelength=1.2, columnspacing=1)
    panels[-1].set_xlabel("frame of a still under noise")
    left.supylabel("mean less that after settling, levels of 255", fontsize=9)
    _draw_ghosts(right.subplots(), rows, methods)


def _draw_means(axes: "Axes", rows: Sequence[Row], settings: DriftSettings) -> None:
    """How far each mean is from that of the first settled window: every frame thin, the mean over a window thick."""
    settled, window = settings.settled, settings.window
    for row in rows:
        for name, color in _CHANNELS.items():
            curve = row["means"][name]
            origin = math.fsum(curve[settled : settled + window]) / window
            moved = [level - origin for level in curve]
            label = name if row is rows[0] else None
            axes.plot(range(1, len(moved) + 1), moved, color=color, linewidth=0.5, alpha=0.35 / len(rows) ** 0.5)
            axes.plot(*_running(moved, window), color=color, linewidth=1.6, alpha=1 / len(rows) ** 0.5, label=label)
    axes.axvline(settled, color="#999999", linewidth=0.8, linestyle=":")


def _draw_ghosts(axes: "Axes", rows: Sequence[Row], methods: Sequence[str]) -> None:
    for method in methods:
        curves = [row["ghost"] for row in rows if row["method"] == method]
        for curve in curves:
            label = method if curve is curves[0] else None
            axes.plot(
                range(1, len(curve) + 1), curve, ".-", color=COLORS[method], linewidth=1, markersize=4, label=label
            )
    axes.set(xlabel="frames since the object vanished", ylabel="difference in its place, levels of 255")
    axes.set_ylim(-0.03 * axes.get_ylim()[1])  # lines at zero are seen
    axes.set_xticks((1, 5, 10, 20, 30))
    axes.legend()


def _running(curve: Sequence[float], window: int) -> tuple[list[float], list[float]]:
    """Middles of windows, counted from frame 1, and means over them."""
    means = [math.fsum(curve[start : start + window]) / window for start in range(len(curve) - window + 1)]
    return [start + (window + 1) / 2 for start in range(len(means))], means
