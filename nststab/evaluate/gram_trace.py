"""Figure 3 of Gupta et al. 2017: is a style the less stable, the larger the trace of its Gram matrix?

On video of a fixed camera all that moves in the stylized frames, but not in the content, is instability. Cars that pass
move in both: the content's own instability stands beside.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nststab import metrics
from nststab.evaluate.figures import COLORS, OTHERS
from nststab.evaluate.labels import label_points
from nststab.evaluate.results import Row, Table
from nststab.evaluate.stability import FrameLosses, in_step
from nststab.evaluate.trace_line import LAYERS, Line, as_json, fit_line
from nststab.images import resize
from nststab.stylizer import Stylizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nststab.vgg import PerceptualNetwork

Lines = Mapping[str, Line]  # by layer
CLIPS = "clips"  # the method of clips that other programs stylized


@dataclass(frozen=True)
class GramTraceSettings:
    """Longest sides in pixels of the frames and of the style pictures, and the frames of each video."""

    size: int = 432
    limit: int = 100
    style_size: int = 512


def traces(network: "PerceptualNetwork", picture: Tensor) -> dict[str, float]:
    """tr(ΦΦᵀ) / (C·H·W) of a style picture (1, 3, H, W) at relu1_1 and relu2_1, at longest side 512."""
    with torch.no_grad():
        features = network(resize(picture, GramTraceSettings.style_size).to(network.mean.device), LAYERS)
    return {layer: metrics.gram_trace(features[layer]) for layer in LAYERS}


def measure(frames: Iterable[Tensor], stylize: Stylizer, frame_losses: FrameLosses) -> dict[str, Any]:
    """Instability of what a stylizer makes of a video's frames (1, 3, H, W), beside their mean style and content loss.

    frame_losses: of a stylized frame and its content the named terms; what is not among them is NaN. Raises ValueError
    for fewer than two frames.
    """
    losses: dict[str, list[float]] = {"style": [], "content": []}

    def stylized() -> Iterator[Tensor]:
        for content, made in in_step(frames, {"the stylizer": stylize}):
            (picture,) = made.values()
            terms = frame_losses(picture, content)
            for name, values in losses.items():
                values.append(terms.get(name, math.nan))
            yield picture

    instability = metrics.instability(stylized())
    n = len(losses["style"])
    if n < 2:
        raise ValueError(f"expected at least two frames, whose difference is measured, got {n}")
    style, content = (math.fsum(values) / n for values in losses.values())
    return {"instability": instability, "style_loss": style, "content_loss": content, "frames": n}


def row(style: str, method: str, trace: Mapping[str, float], videos: Mapping[str, Mapping[str, Any]]) -> Row:
    """A row of the results: means over videos, each counting the same, and every video's instability."""

    def mean(name: str) -> float:
        return math.fsum(part[name] for part in videos.values()) / len(videos)

    return {
        "style": style,
        "method": method,
        "instability": mean("instability"),
        "videos": {name: part["instability"] for name, part in videos.items()},
        **{f"trace_{layer}": trace[layer] for layer in LAYERS},
        "style_loss": mean("style_loss"),
        "content_loss": mean("content_loss"),
        "frames": sum(part["frames"] for part in videos.values()),
    }


def methods(rows: Sequence[Row]) -> list[str]:
    """The methods of the rows, in their order."""
    return list(dict.fromkeys(found["method"] for found in rows))


def lines(rows: Sequence[Row], method: str, video: str | None = None) -> dict[str, Line]:
    """The line through a method's styles at each layer: of their means over the videos, or of one video."""
    if video is None:
        points = [(found, found["instability"]) for found in rows if found["method"] == method]
    else:
        own = [found for found in rows if found["method"] == method and video in found["videos"]]
        points = [(found, found["videos"][video]) for found in own]
    values = [value for _, value in points]
    return {layer: fit_line([found[f"trace_{layer}"] for found, _ in points], values) for layer in LAYERS}


def fits(rows: Sequence[Row]) -> dict[str, Any]:
    """The lines of every method as JSON values: through the means over videos, and under `videos` for each video."""

    def content(method: str, video: str | None = None) -> dict[str, Any]:
        return {layer: as_json(line) for layer, line in lines(rows, method, video).items()}

    return {
        method: content(method) | {"videos": {video: content(method, video) for video in videos_of(rows, method)}}
        for method in methods(rows)
    }


def videos_of(rows: Sequence[Row], method: str) -> list[str]:
    """The videos that more than one style of a method was measured on: clips of others have none."""
    names = [name for found in rows if found["method"] == method for name in found["videos"]]
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def table(rows: Sequence[Row], content: Mapping[str, float]) -> Table:
    """The table for people, the least stable style first. content: the videos' own instability."""
    videos = list(dict.fromkeys([*content, *(name for method in methods(rows) for name in videos_of(rows, method))]))
    columns = ("style", "method", "instability", *videos, *(f"trace {layer}" for layer in LAYERS), "style", "content")
    shown = []
    if content:
        own = [f"{content[name] * 1000:.3f}" if name in content else "-" for name in videos]
        mean = math.fsum(content.values()) / len(content)
        shown.append(("input", "", f"{mean * 1000:.3f}", *own, *["-"] * (len(LAYERS) + 2)))
    for found in sorted(rows, key=lambda found: (methods(rows).index(found["method"]), -found["instability"])):
        values = (found["instability"], *(found["videos"].get(name, math.nan) for name in videos))
        cells = [f"{value * 1000:.3f}" for value in values]
        cells += [f"{found[f'trace_{layer}']:.0f}" for layer in LAYERS]
        cells += [f"{found[name]:.3f}" for name in ("style_loss", "content_loss")]
        shown.append((found["style"], found["method"], *(cell.replace("nan", "-") for cell in cells)))
    note = "Instability: mean squared difference of adjacent frames in thousandths; style and content: losses.\n\n"
    note += "\n\n".join(said(lines(rows, method), method) for method in methods(rows))
    return Table("Instability of styles and the trace of their Gram matrix", columns, shown, note)


def said(found: Lines, method: str) -> str:
    """The lines of a method in words."""
    parts = [
        f"{layer}: Spearman {line.spearman:.2f} (p {line.p:.3f}), instability in thousandths = "
        f"{line.intercept * 1000:.3g} {'-' if line.slope < 0 else '+'} {abs(line.slope) * 1000:.3g} trace, "
        f"residual standard error {line.residual_error * 1000:.3g}"
        for layer, line in found.items()
        if line.residual_error >= 0
    ]
    n = next(iter(found.values())).n
    return f"{method}, {n} styles. " + ("; ".join(parts) if parts else "A line needs three styles") + "."


def draw(figure: "Figure", rows: Sequence[Row]) -> None:
    """Instability against trace, a panel for each layer: every style by its name, the line and its prediction band."""
    panels = figure.subplots(1, len(LAYERS), sharey=True)
    for panel, layer in zip(panels, LAYERS, strict=True):
        titles = []
        for method in methods(rows):
            own = [found for found in rows if found["method"] == method]
            line = lines(rows, method)[layer]
            color = COLORS.get(method, OTHERS[0])
            x = [found[f"trace_{layer}"] for found in own]
            panel.plot(x, [found["instability"] * 1000 for found in own], "o", ms=4, color=color, label=method)
            if line.residual_error >= 0:
                _draw_line(panel, line, color)
                name = f"{method}: " if len(methods(rows)) > 1 else ""
                titles.append(f"{name}ρ = {line.spearman:.2f} (p = {line.p:.3f}, n = {line.n})")
        panel.set_title("\n".join([layer, *titles]), fontsize=9)
        panel.set_xlabel(f"trace of the Gram matrix at {layer}")
        panel.set_ylim(bottom=0)
    panels[0].set_ylabel("instability (mean squared difference\nof adjacent frames, thousandths)")
    if len(methods(rows)) > 1:
        panels[0].legend(loc="upper left")
    for panel, layer in zip(panels, LAYERS, strict=True):
        points = [(found[f"trace_{layer}"], found["instability"] * 1000) for found in rows]
        highest = {found["style"]: point for found, point in sorted(zip(rows, points, strict=True), key=_height)}
        others = [point for point in points if point not in highest.values()]
        label_points(figure, panel, list(highest.values()), [name.replace("_", " ") for name in highest], others)


def _height(entry: tuple[Row, tuple[float, float]]) -> float:
    return entry[1][1]


def _draw_line(panel: "Axes", line: Line, color: str) -> None:
    """The line over the measured traces, and the band in which 95 % of styles are predicted."""
    low, high = line.range
    x = [low + (high - low) * step / 50 for step in range(51)]
    predicted = [line.predict(trace) for trace in x]
    panel.plot(x, [prediction.value * 1000 for prediction in predicted], color=color, lw=1)
    lowest, highest = ([getattr(bounds, name) * 1000 for bounds in predicted] for name in ("low", "high"))
    panel.fill_between(x, lowest, highest, color=color, alpha=0.12, lw=0)
