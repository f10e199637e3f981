"""Stability against style loss, one point a clip: whose steadiness is paid for by style stands at the right."""

import math
from pathlib import Path

from nststab.errors import SettingError
from nststab.experiments.figures import COLORS, OTHERS, drawing, label_points
from nststab.measure.scores import Scores
from nststab.measure.stability import CONTENT
from nststab.measure.verdict import HARDLY_STYLIZED

_REFERENCE = "#666666"


def draw_style_plane(scores: Scores, name: str | Path) -> list[Path]:
    """Draws the clips, the input and what it gets by doing little, into `name`.png and `name`.svg; gives both.

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
            color = _REFERENCE if is_reference else COLORS.get(called, f"C{number}")
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
            color=_REFERENCE,
            fontsize=8,
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("style loss, share of the unstylized input's: less is more style")
        axes.set_ylabel("SSIM of corresponding patches: more is steadier")
        label_points(figure, axes, [(share, ssim) for share, ssim, _ in points.values()], [one for _, one in points])
    return [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg")]
