"""How unstable the style of a picture is likely to be, in words and figures."""

from collections.abc import Sequence
from pathlib import Path

import click
import torch
from rich.table import Table

from nststab.cli.common import print_table
from nststab.networks.perceptual import perceptual_network
from nststab.styles import shipped as assets
from nststab.styles.trace_line import LAYERS, Measured, Prediction, correlation, read_measured, traces
from nststab.video.images import read_picture

_CHANCE = 0.05  # a correlation with a larger p-value may be none


def predict(images: Sequence[Path]) -> None:
    """Prints a table of the pictures' Gram traces and predicted instabilities, and what it rests on."""
    measured = read_measured(assets.measured_instability())
    network = perceptual_network(None, torch.device("cpu"))
    line = measured.lines[measured.layer]
    table = Table()
    for title in ("picture", *(f"trace {layer}" for layer in LAYERS), "instability", "95 % of such styles"):
        table.add_column(title, justify="left" if title == "picture" else "right")
    sentences = []
    for image in images:
        trace = traces(network, read_picture(image).rgb)
        prediction = line.predict(trace[measured.layer])
        figures = [f"{trace[layer]:.1f}" for layer in LAYERS]
        table.add_row(
            image.name, *figures, _shown(prediction.value), f"{_shown(prediction.low)} to {_shown(prediction.high)}"
        )
        sentences.append(f"{image.name}: {placed(prediction, trace[measured.layer], measured)}")
    print_table(table)
    for sentence in (*sentences, basis(measured)):
        click.echo(sentence)


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
