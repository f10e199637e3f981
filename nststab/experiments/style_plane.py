"""Stability against style loss, one point a clip: whose steadiness is paid for by style stands at the right."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nststab.experiments.figures import COLORS, OTHERS, drawing, label_points
from nststab.measure.intervals import Interval
from nststab.measure.verdict import HARDLY_STYLIZED

REFERENCE = "#666666"


class Point(NamedTuple):
    """A clip: SSIM of corresponding patches with its interval, style loss as a share of the unstylized input's."""

    name: str
    ssim: float
    interval: Interval
    style_share: float
    is_reference: bool


def draw_style_plane(path: Path, points: Sequence[Point]) -> list[Path]:
    """Writes the picture to `path`.png and `path`.svg, and gives both; what could not be measured is left out."""
    shown = [point for point in points if point.ssim == point.ssim and point.style_share == point.style_share]
    with drawing(path.parent, path.name, 6.0, 4.0) as figure:
        axes = figure.subplots()
        for place, point in enumerate(shown):
            color = REFERENCE if point.is_reference else COLORS.get(point.name, f"C{place}")
            low, high = point.interval
            if low == low:
                axes.plot([point.style_share] * 2, [low, high], color=color, linewidth=1.0)
            marker = "D" if point.is_reference else "o"
            axes.plot([point.style_share], [point.ssim], marker, color=color, markersize=6, markeredgecolor="white")
        right = max([1.05, *(point.style_share * 1.05 for point in shown)])
        axes.set_xlim(0, right)
        axes.axvspan(HARDLY_STYLIZED, right, color=OTHERS[-1], alpha=0.08, linewidth=0)
        axes.text(
            (HARDLY_STYLIZED + right) / 2,
            0.02,
            "hardly in the style: no rank",
            transform=axes.get_xaxis_transform(),
            ha="center",
            color=REFERENCE,
            fontsize=8,
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("style loss, share of the unstylized input's: less is more style")
        axes.set_ylabel("SSIM of corresponding patches: more is steadier")
        label_points(figure, axes, [(p.style_share, p.ssim) for p in shown], [p.name for p in shown])
    return [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg")]
