"""How unstable a style will be, by the trace of its Gram matrix: Figure 3's line, and what it predicts of pictures.

The line is straight in the trace, not in its logarithm: pictures that share the style's Gram matrix lie on a sphere of
radius sqrt(tr G) in feature space (Gupta et al. 2017, Theorem 1), so the mean squared difference of two that have
nothing else in common is proportional to tr G.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from nststab import metrics
from nststab.errors import NststabError, SettingError
from nststab.networks.perceptual import perceptual_network
from nststab.networks.settings import PerceptualSettings
from nststab.storage.tables import Table
from nststab.styles import shipped
from nststab.styles.source import StyleSource
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_opaque, resize

STYLE_SIZE = 512  # longest side of a style picture whose trace is taken
LAYERS = ("relu1_1", "relu2_1")
CONFIDENCE = 0.95
_CHANCE = 0.05  # a correlation with a larger p-value may be none
_EXACT = 7  # points: up to here all permutations are counted, 7! = 5040
_LEAST = 3  # points through which a line leaves a residual


def traces(network: PerceptualNetwork, picture: Tensor) -> dict[str, float]:
    """tr(ΦΦᵀ) / (C·H·W) of a style picture (1, 3, H, W) at relu1_1 and relu2_1, at longest side 512."""
    with torch.no_grad():
        features = network(resize(picture, STYLE_SIZE).to(network.mean.device), LAYERS)
    return {layer: metrics.gram_trace(features[layer]) for layer in LAYERS}


class Prediction(NamedTuple):
    """The instability of a style, and the bounds between which that of 95 % of such styles lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """Least squares line of instability on trace; NaN where there are too few points.

    Attributes:
        residual_error: standard error of the residuals, n - 2 degrees of freedom.
        spearman, p: rank correlation, and how likely chance alone gives as strong a one (two-sided).
        range: the smallest and the largest trace.
        centre, spread: mean of the traces, and the root of the sum of their squared distances to it.
    """

    slope: float
    intercept: float
    residual_error: float
    spearman: float
    p: float
    n: int
    range: tuple[float, float]
    centre: float
    spread: float

    def predict(self, trace: float) -> Prediction:
        """The value on the line and its 95 % prediction interval, for an error that is normal and the same anywhere."""
        value = self.intercept + self.slope * trace
        if not self.residual_error >= 0:
            return Prediction(value, math.nan, math.nan)
        distance = (trace - self.centre) / self.spread
        error = self.residual_error * math.sqrt(1 + 1 / self.n + distance**2)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 2)) * error
        return Prediction(value, value - half, value + half)


def fit_line(traces: Sequence[float], instabilities: Sequence[float]) -> Line:
    """The line through styles, one trace and one instability each, and their rank correlation.

    Raises ValueError where their numbers differ or there are none.
    """
    if len(traces) != len(instabilities) or not len(traces):
        raise NststabError(f"expected as many traces as instabilities, got {len(traces)} and {len(instabilities)}")
    x, y = np.array(traces, np.float64), np.array(instabilities, np.float64)
    n, bounds, centre = len(x), (float(x.min()), float(x.max())), float(x.mean())
    spread = math.sqrt(float(((x - centre) ** 2).sum()))
    if n < _LEAST or spread == 0:
        return Line(math.nan, math.nan, math.nan, math.nan, math.nan, n, bounds, centre, spread)
    slope = float((x - centre) @ (y - y.mean())) / spread**2
    intercept = float(y.mean()) - slope * centre
    residual_error = math.sqrt(float(((y - intercept - slope * x) ** 2).sum()) / (n - 2))
    return Line(slope, intercept, residual_error, *rank_correlation(x, y), n, bounds, centre, spread)


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Spearman's coefficient and its p-value: of all permutations for up to seven pairs, else SciPy's.

    SciPy's t distribution calls three pairs in order certain (p = 0), where chance gives them one time in three.
    """
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    found = stats.spearmanr(x, y)
    if len(x) > _EXACT:
        return float(found.statistic), float(found.pvalue)
    ranks = stats.rankdata(y) - (len(y) + 1) / 2
    test = stats.permutation_test(
        (stats.rankdata(x),),
        lambda order, axis: (order * ranks).sum(axis),
        permutation_type="pairings",
        n_resamples=math.inf,
        vectorized=True,
    )
    return float(found.statistic), float(test.pvalue)


def correlation(line: Line) -> str:
    """The rank correlation of a line, for people."""
    return f"ρ = {line.spearman:.2f} (p {'< 0.001' if line.p < 0.001 else f'= {line.p:.3f}'})"


@dataclass(frozen=True)
class Measured:
    """The styles that were measured, and the lines through them by layer."""

    lines: Mapping[str, Line]
    instabilities: Mapping[str, float]  # by style
    method: str
    size: int
    videos: Sequence[str]
    date: str

    @property
    def layer(self) -> str:
        """The layer whose line leaves the smaller residuals."""
        return min(self.lines, key=lambda layer: self.lines[layer].residual_error)


def read_measured(path: Path, method: str = "independent") -> Measured:
    """What a `results.json` of the experiment says of a method; ValueError where it is none or has too few styles."""
    content = json.loads(path.read_text("utf-8"))
    try:
        fit = content["fit"][method]
        lines = {layer: line_of(fit[layer]) for layer in LAYERS}
        settings = content["settings"]
        size, videos, date = int(settings["size"]), list(settings["videos"]), str(content["date"])
        rows = [row for row in content["rows"] if row["method"] == method]
        instabilities = {row["style"]: float(row["instability"]) for row in rows}
    except (KeyError, TypeError) as error:
        raise NststabError(f"{path}: expected results of gram-trace with a line of {method} ({error!r})") from error
    return Measured(lines, instabilities, method, size, videos, date)


def line_of(content: Mapping[str, Any]) -> Line:
    """The line that `as_json` wrote; null in place of a figure raises TypeError."""
    low, high = content["range"]
    figures = {name: float(content[name]) for name in Line.__annotations__ if name not in ("n", "range")}
    return Line(n=int(content["n"]), range=(float(low), float(high)), **figures)


def as_json(line: Line) -> dict[str, Any]:
    """The line's figures as JSON values."""
    return asdict(line) | {"range": list(line.range)}


@dataclass(frozen=True)
class Predictions:
    """Gram traces and predicted instabilities of pictures: a row and a sentence each, and what they rest on."""

    table: Table
    sentences: Sequence[str]


def predict(images: Sequence[Path]) -> Predictions:
    """What is likely of the styles of pictures, before any training; raises NststabError for one that is no picture."""
    measured = read_measured(shipped.measured_instability())
    network = perceptual_network(torch.device("cpu"))
    line = measured.lines[measured.layer]
    rows, sentences = [], []
    for image in images:
        trace = traces(network, read_opaque(image))
        prediction = line.predict(trace[measured.layer])
        figures = [f"{trace[layer]:.1f}" for layer in LAYERS]
        rows.append(
            [image.name, *figures, _shown(prediction.value), f"{_shown(prediction.low)} to {_shown(prediction.high)}"]
        )
        sentences.append(f"{image.name}: {placed(prediction, trace[measured.layer], measured)}")
    columns = ("picture", *(f"trace {layer}" for layer in LAYERS), "instability", "95 % range")
    return Predictions(Table("", columns, rows), [*sentences, basis(measured)])


def _shown(instability: float) -> str:
    """In thousandths; a mean square is not negative, though a line may be."""
    return f"{max(0.0, instability) * 1000:.2f}"


def placed(prediction: Prediction, trace: float, measured: Measured) -> str:
    """Where a predicted instability stands among the measured styles, in words."""
    ranked = sorted((value, style) for style, value in measured.instabilities.items())
    steadier = [entry for entry in ranked if entry[0] <= prediction.value]
    shakier = ranked[len(steadier) :]
    if steadier and shakier:
        place = f"between {_said(*steadier[-1])} and {_said(*shakier[0])}, "
        place += f"less stable than {len(steadier)} of the {len(ranked)} measured styles"
    elif steadier:
        place = f"less stable than all {len(ranked)} measured styles, of which {_said(*steadier[-1])} is the least"
    else:
        place = f"more stable than all {len(ranked)} measured styles, of which {_said(*shakier[0])} is the most"
    within = sum(prediction.low <= value <= prediction.high for value, _ in ranked)
    unsure = f"; {within} of them {'lies' if within == 1 else 'lie'} in its range"
    low, high = measured.lines[measured.layer].range
    if not low <= trace <= high:
        unsure += f", and its trace lies outside theirs, {low:.0f} to {high:.0f}, where the line was not measured"
    return f"likely {place}{unsure}."


def _said(value: float, style: str) -> str:
    return f"{style} ({_shown(value)})"


def basis(measured: Measured) -> str:
    """What the prediction rests on, and how far it carries."""
    line = measured.lines[measured.layer]
    videos = "1 video" if len(measured.videos) == 1 else f"{len(measured.videos)} videos"
    weak = "" if line.p < _CHANCE else " So weak a correlation may be chance: take the figures for a hint."
    return (
        f"Instability is in thousandths, the mean squared difference of adjacent frames. The line at {measured.layer} "
        f"goes through {line.n} styles of {measured.method} networks on {videos} of a fixed camera at {measured.size} "
        f"pixels ({measured.date}): Spearman's {correlation(line)}, residual standard error "
        f"{line.residual_error * 1000:.2f}.{weak}"
    )


def style_traces(
    styles: Mapping[str, StyleSource], settings: PerceptualSettings, device: torch.device
) -> dict[str, Mapping[str, float]]:
    """Of each style the trace at both layers, from its picture or its card; SettingError where it has neither."""
    perceptual = perceptual_network(device, settings)
    found: dict[str, Mapping[str, float]] = {}
    for name, source in styles.items():
        if picture := source.picture or source.shipped:
            found[name] = traces(perceptual, read_opaque(picture))
        else:
            found[name] = _card_traces(source, bundled=not (settings.network or settings.vgg_weights))
    return found


def _card_traces(source: StyleSource, bundled: bool) -> Mapping[str, float]:
    """The traces that the card beside a style's networks tells."""
    folder = source.folder
    if folder is None:
        raise SettingError(
            f"the style {source.text} has no picture for its Gram trace; put the network into a folder, as "
            "independent.safetensors beside image.jpg, and give the folder"
        )
    if not bundled:
        raise SettingError(
            f"the style {source.text} has no picture: {folder} lacks image.jpg, and the traces of cards are those of "
            "the bundled VGG-16, not of network and vgg_weights"
        )
    try:
        told = shipped.Style(folder.name, folder).card["gram_trace"]
        return {layer: float(told[layer]) for layer in LAYERS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"the style {source.text} has no Gram trace: {folder} holds neither image.jpg nor a card.json with "
            f"gram_trace at {' and '.join(LAYERS)}"
        ) from error
