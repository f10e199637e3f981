"""The distortions experiment's table and figure."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nststab.experiments.distortions import DISTORTIONS, of_sequences
from nststab.experiments.figures import COLORS
from nststab.measure.intervals import bootstrap_interval, mean_of_known
from nststab.measure.stability import CONTENT
from nststab.storage.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTE = (
    "SSIM of a patch and the distorted patch, mean over the strengths above 0, with the interval of that mean over the "
    "sequences; beside the input's. aligned: only what both patches show of the scene, moved back. Losses are of the "
    "distorted patches' results. {}"
)


def table(rows: Sequence[Row]) -> Table:
    """A row for the input and for each method of every style."""
    groups = {(row["style"], row["method"]): None for row in rows}
    lines = []
    for style, method in groups:
        own = [row for row in rows if (row["style"], row["method"]) == (style, method) and row["strength"] > 0]
        cells = [_cell(own, "translation"), _cell(own, "translation", "ssim_aligned")]
        cells += [_cell(own, "blur"), _cell(own, "sharpening")]
        cells += [f"{mean_of_known([row[name] for row in own]):.3f}" for name in ("style_loss", "content_loss")]
        lines.append([f"{style} {method}", *cells, str(own[0]["n"])])
    following = sorted({row["method"] for row in rows if row["d_follows_c"]})
    note = _NOTE.format(f"For {' and '.join(following)} d(c) follows c in a clip of two frames." if following else "")
    columns = ("", "translation", "aligned", "blur", "sharpening", "style loss", "content loss", "n")
    return Table("SSIM under controlled distortions", columns, lines, note.strip())


def _cell(rows: Sequence[Row], distortion: str, name: str = "ssim_stylized") -> str:
    strengths = [row["regions"] for row in rows if row["distortion"] == distortion]
    regions = [mean_of_known([region[name] for region in same]) for same in zip(*strengths, strict=True)]
    sequences = of_sequences(strengths[0], regions)
    low, high = bootstrap_interval(sequences)
    interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    return f"{mean_of_known(sequences):.3f}{interval}"


_LABELS = {
    "translation": "shift in pixels",
    "blur": "sigma of the blur in pixels",
    "sharpening": "amount of sharpening",
}


def draw(figure: "Figure", rows: Sequence[Row]) -> None:
    """SSIM against strength, a panel for each distortion; of several styles the mean, and each as a thin line."""
    axes = figure.subplots(1, len(DISTORTIONS), sharey=True)
    for panel, distortion in zip(axes, DISTORTIONS, strict=True):
        own = [row for row in rows if row["distortion"] == distortion]
        for method in dict.fromkeys(row["method"] for row in own):
            _curves(panel, [row for row in own if row["method"] == method], method)
        panel.set_title(distortion)
        panel.set_xlabel(_LABELS[distortion])
    axes[0].set_ylabel("SSIM of the patch and the distorted patch")
    axes[0].set_ylim(0, 1.02)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _curves(panel: "Axes", rows: Sequence[Row], method: str) -> None:
    styles = dict.fromkeys(row["style"] for row in rows)
    strengths = sorted({row["strength"] for row in rows})
    color = COLORS[method]

    def curve(name: str, style: str | None = None) -> list[float]:
        return [
            mean_of_known([row[name] for row in rows if row["strength"] == strength and style in (None, row["style"])])
            for strength in strengths
        ]

    panel.plot(strengths, curve("ssim_stylized"), color=color, label=method, linewidth=1.8)
    if len(styles) > 1 and method != CONTENT:
        for style in styles:
            panel.plot(strengths, curve("ssim_stylized", style), color=color, linewidth=0.6, alpha=0.5)
    elif method != CONTENT:
        low, high = zip(*[row["ssim_stylized_interval"] for row in rows], strict=True)
        panel.fill_between(strengths, low, high, color=color, alpha=0.15, linewidth=0)
    if rows[0]["ssim_aligned"] is not None and method != CONTENT:
        panel.plot(strengths, curve("ssim_aligned"), color=color, linestyle="--", label=f"{method}, aligned")
