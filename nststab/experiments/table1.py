"""Table 1 of Gupta et al. 2017, from what was measured of each style, method and sequence: rows, table, figure."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nststab.experiments import paper
from nststab.experiments.figures import COLORS, OTHERS
from nststab.measure.intervals import Interval, bootstrap_interval, mean_of_known
from nststab.measure.rows import CHEATS, MEASURES, place_of
from nststab.measure.stability import CONTENT
from nststab.storage.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {CHEATS[1]: "^", CHEATS[2]: "s"}
UNITS = {"psnr": "dB", "flicker": "levels of 255", "style_loss": "unweighted", "content_loss": "unweighted"}

_DIGITS = (("psnr", 2), ("ssim", 3))
_MEAN = "mean of the styles"


def mean_rows(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """For each method the mean of its rows over the styles; intervals over sequences, each the mean of the styles."""
    result: list[Row] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        result.append(
            {
                "method": method,
                "styles": len(own),
                **{key: mean_of_known(row[key] for row in own) for key in (*MEASURES, "style_share")},
                "psnr_interval": bootstrap_interval(_of_sequences(own, "psnr"), seed),
                "ssim_interval": bootstrap_interval(_of_sequences(own, "ssim"), seed),
                "n": sum(row["n"] for row in own),
            }
        )
    return result


def gain(rows: Sequence[Row], seed: int = 0) -> Row | None:
    """What the recurrent network gains over the independent one, beside the paper's gain; None where one is missing.

    Means over styles and sequences. Intervals are paired: of each sequence's difference, so that a sequence which is
    hard for both widens none. `style_loss_change` is what the gain costs, relative to the independent network's.
    """
    first, second = ([row for row in rows if row["method"] == method] for method in ("recurrent", "independent"))
    if not first or not second:
        return None
    result: dict[str, Any] = {"of": "recurrent", "over": "independent"}
    for key in ("psnr", "ssim"):
        pairs = zip(_of_sequences(first, key), _of_sequences(second, key), strict=True)
        differences = [one - other for one, other in pairs]
        result |= {key: mean_of_known(differences), f"{key}_interval": bootstrap_interval(differences, seed)}
    losses = [mean_of_known(row["style_loss"] for row in own) for own in (first, second)]
    result["style_loss_change"] = losses[0] / losses[1] - 1 if losses[1] else math.nan
    return result | {"paper": {"psnr": paper.GAIN_PSNR, "ssim": paper.GAIN_SSIM, "styles": list(paper.STYLES)}}


def _of_sequences(rows: Sequence[Row], key: str) -> list[float]:
    """For each sequence the mean over rows, which are of different styles."""
    return [
        mean_of_known(found) for found in zip(*([part[key] for part in row["sequences"]] for row in rows), strict=True)
    ]


def table(rows: Sequence[Row], means: Sequence[Row], gained: Row | None, cheated: str) -> Table:
    """PSNR and SSIM with 95 % intervals, flicker in levels of 255, losses. `cheated`: of what the cheats were made."""
    several = len({row["style"] for row in rows}) > 1
    columns = ("", "PSNR dB", "SSIM", "flicker", "style loss", "of the input's", "content loss", "patches")
    last = [{"style": _MEAN, **row} for row in means] if several else []
    of = "" if several else f" of {rows[0]['style']}"
    return Table(
        f"Stability{of}: corresponding background patches (Gupta et al. 2017, Table 1)",
        columns,
        [_cells(row, several) for row in (*rows, *last)],
        _note(gained, cheated),
    )


def _cells(row: Row, several: bool) -> tuple[str, ...]:
    method = f"{row['method']}: the ceiling" if row["method"] == CONTENT else row["method"]
    return (
        f"{row['style']}, {method}" if several else method,
        _with_interval(row["psnr"], row["psnr_interval"], 2),
        _with_interval(row["ssim"], row["ssim_interval"], 3),
        _said(row["flicker"], 2),
        _said(row["style_loss"], 3),
        _said(row["style_share"], 3),
        _said(row["content_loss"], 3),
        str(row["n"]),
    )


def _with_interval(value: float, interval: Interval, digits: int) -> str:
    shown = _said(value, digits)
    return shown if math.isnan(interval.low) else f"{shown} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _said(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _note(gained: Row | None, cheated: str) -> str:
    text = (
        "In brackets the 95 % bootstrap interval of the mean over sequences. Flicker in levels of 255, where the input "
        "stands still. The last three rows of a style are ways to be stable without being good, made of the input and "
        f"of what {cheated} gave: PSNR and SSIM count only beside the style loss."
    )
    if gained is None:
        return text
    psnr, ssim = (_with_interval(gained[key], gained[f"{key}_interval"], digits) for key, digits in _DIGITS)
    return (
        f"{text} The recurrent network gains {psnr} dB and {ssim} SSIM over the independent one, at "
        f"{gained['style_loss_change']:+.1%} style loss; the paper's gains {paper.GAIN_PSNR} dB and {paper.GAIN_SSIM}, "
        "mean of its five styles."
    )


def figure_inches(rows: Sequence[Row]) -> tuple[float, float]:
    """Width and height for `draw`."""
    styles = len({row["style"] for row in rows})
    lanes = len(_lanes(rows))
    return 7.0, 1.1 + (styles + (styles > 1)) * (0.12 + 0.14 * lanes)


def draw(figure: "Figure", rows: Sequence[Row], means: Sequence[Row]) -> None:
    """Three panels over the same styles: PSNR and SSIM with their intervals, and the share of the input's style loss.

    The input's own is a line: the ceiling of PSNR and SSIM, and the style loss that the shares are of.
    """
    groups = _groups(rows, means)
    panels = figure.subplots(1, 3, sharey=True, width_ratios=(3, 3, 2))
    labels = ("PSNR (dB)", "SSIM", "style loss / input's")
    for axes, key, label in zip(panels, ("psnr", "ssim", "style_share"), labels, strict=True):
        _panel(axes, groups, key)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    panels[2].set_xlim(0, None)
    shown = {str(line.get_label()): line for line in panels[0].get_legend_handles_labels()[0]}
    order = [*(name for lane in _lanes(rows) for name in lane), CONTENT]
    columns = len(order) if len(order) < 6 else 4
    figure.legend([shown[name] for name in order], order, loc="outside upper center", ncols=columns)


def _groups(rows: Sequence[Row], means: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each style, and of the mean over styles where there are several."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["style"], []).append(row)
    return groups | ({_MEAN: list(means)} if len(groups) > 1 else {})


def _lanes(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """What stands side by side in the figure: each method, then the cheats in one. A copy of the input is its line."""
    names = dict.fromkeys(row["method"] for row in rows)
    return [*((name,) for name in names if place_of(name) == 1), CHEATS[1:]]


def _panel(axes: "Axes", groups: Mapping[str, Sequence[Row]], key: str) -> None:
    """Styles one below the other: a dot and its interval for each method, grey signs for cheats, a line: the input."""
    lanes = _lanes(next(iter(groups.values())))
    for lane, names in enumerate(lanes):
        heights = [place + (lane - (len(lanes) - 1) / 2) * 0.75 / len(lanes) for place in range(len(groups))]
        for name in names:
            own = [_named(group, name) for group in groups.values()]
            values = [row[key] for row in own]
            if name in CHEATS:
                axes.plot(values, heights, _MARKERS[name], markersize=4, color=OTHERS[-1], fillstyle="none", label=name)
                continue
            bounds = [row.get(f"{key}_interval", (row[key], row[key])) for row in own]
            errors = [[abs(row[key] - bound[side]) for row, bound in zip(own, bounds, strict=True)] for side in (0, 1)]
            axes.errorbar(
                values, heights, xerr=errors, fmt="o", markersize=4, capsize=2, color=COLORS[name], label=name
            )
    unstylized = _named(next(iter(groups.values())), CONTENT)[key]
    axes.axvline(unstylized, color=COLORS[CONTENT], linewidth=1, linestyle="--", label=CONTENT)
    for place in range(1, len(groups)):
        axes.axhline(place - 0.5, color="#c0c0c0", linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _named(rows: Sequence[Row], method: str) -> Row:
    return next(row for row in rows if row["method"] == method)
