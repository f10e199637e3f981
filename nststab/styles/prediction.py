"""How unstable the style of a picture is likely to be, in words and figures; the Gram traces that tell it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nststab.errors import SettingError
from nststab.networks.perceptual import perceptual_network
from nststab.networks.settings import PerceptualSettings
from nststab.storage.tables import Table
from nststab.styles import shipped as assets
from nststab.styles.shipped import Style
from nststab.styles.source import StyleSource
from nststab.styles.trace_line import LAYERS, Measured, Prediction, correlation, read_measured, traces
from nststab.video.images import read_opaque

_CHANCE = 0.05  # a correlation with a larger p-value may be none


@dataclass(frozen=True)
class Predictions:
    """Gram traces and predicted instabilities of pictures: a row and a sentence each, and what they rest on."""

    table: Table
    sentences: Sequence[str]


def predict(images: Sequence[Path]) -> Predictions:
    """What is likely of the styles of pictures, before any training; raises NststabError for one that is no picture."""
    measured = read_measured(assets.measured_instability())
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
        told = Style(folder.name, folder).card["gram_trace"]
        return {layer: float(told[layer]) for layer in LAYERS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"the style {source.text} has no Gram trace: {folder} holds neither image.jpg nor a card.json with "
            f"gram_trace at {' and '.join(LAYERS)}"
        ) from error
