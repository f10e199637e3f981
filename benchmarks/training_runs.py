"""Figures by which training runs are compared quickly: stability, losses and border of networks beside each other.

python benchmarks/training_runs.py --davis DIR NETWORK [NETWORK ...]

A NETWORK is a checkpoint, or the folder of a style; the first carries the style's Gram targets, as what `nststab train`
writes does. Stability and losses: five DAVIS sequences, 12 frames of each at longest side 432, 6 background patches of
50 pixels a pair, losses of two frames of each. Border: by how many levels of 255 the mean of each of the six outermost
rows, on each side of six frames, differs from the rows 12 to 23, less that of the input; mean of the absolute values.
It takes about a minute a network, where `nststab evaluate stability` takes ten: enough to compare runs, not to report a
style.
"""

import argparse
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nststab.datasets.folders import DavisSequence
from nststab.errors import NststabError
from nststab.frames import as_frames, pictures_of
from nststab.losses import LossSettings, PerceptualLoss
from nststab.measure.stability import StabilitySettings, measure, perceptual_losses
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.styles.shipped import NETWORKS
from nststab.styles.source import StyleSource, style_source

SIZE, FRAMES, PATCHES = 432, 12, 6
MOVING = ("camel", "bmx-trees", "dog", "soapbox", "kite-surf")
BORDERED = ("blackswan", "camel", "soapbox", "dog", "goat", "parkour")
ROWS, WITHIN = 6, slice(12, 24)
FIGURES = ("psnr", "ssim", "flicker", "style_loss", "content_loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    options = parser.parse_args()
    vgg, weights = perceptual_network(torch.device("cpu")), LossSettings()
    try:
        sources = [style_source(text) for text in options.networks]
        stylizers = {name: one for source in sources for name, one in stylizers_of(source).items()}
        target = sources[0].target(vgg, weights.style_layers, SIZE)
    except NststabError as error:
        parser.error(str(error))
    loss = PerceptualLoss(vgg, target, weights, torch.bfloat16)
    table = Table("network", *FIGURES, *(f"row {row}" for row in range(ROWS)))
    borders = {name: [f"{value:.1f}" for value in border(options.davis, one)] for name, one in stylizers.items()}
    for name, values in stability(options.davis, stylizers, loss).items():
        table.add_row(name, *(f"{value:.3f}" for value in values), *borders.get(name, []))
    Console(width=160).print(table)


def stylizers_of(source: StyleSource) -> dict[str, FeedForward]:
    """The networks of a style by the names of their files."""
    if source.checkpoint is None:
        raise NststabError(f"{source.text} is a picture; expected a checkpoint, or the folder of a trained style")
    paths = dict.fromkeys(path for method in NETWORKS if (path := source.checkpoint(method)).is_file())
    return {str(path): FeedForward(load_checkpoint(path).network, precision="bfloat16") for path in paths}


def stability(davis: Path, stylizers: dict[str, FeedForward], loss: PerceptualLoss) -> dict[str, list[float]]:
    """Means over the sequences of each figure, the input's row first."""
    found: dict[str, list[list[float]]] = {}
    losses = perceptual_losses(loss, torch.device("cpu"))
    for name in MOVING:
        sequence = DavisSequence(davis, name, SIZE)
        content = [sequence.frame(index) for index in range(FRAMES)]
        masks = [sequence.mask(index) for index in range(FRAMES)]
        stylized = {key: list(pictures_of(stylize(as_frames(content)))) for key, stylize in stylizers.items()}
        settings, looked_at = StabilitySettings(PATCHES), {FRAMES // 2, FRAMES - 1}
        for key, row in measure(content, stylized, settings, masks, losses, loss_frames=looked_at).items():
            found.setdefault(key, []).append([getattr(row, figure) for figure in FIGURES])
    return {key: [statistics.mean(column) for column in zip(*rows, strict=True)] for key, rows in found.items()}


def border(davis: Path, stylize: FeedForward) -> list[float]:
    """Levels by which each row from the border inwards stands out."""
    differences = []
    for name in BORDERED:
        frame = DavisSequence(davis, name, SIZE).frame(0)
        (picture,) = pictures_of(stylize(as_frames([frame])))
        for turned, content in zip(sides(picture), sides(frame), strict=True):
            differences.append(outstanding(turned) - outstanding(content))
    return (255 * torch.stack(differences).abs().mean(0)).tolist()


def sides(picture: Tensor) -> list[Tensor]:
    """The picture turned so that each of its sides is on top."""
    return [picture, picture.flip(-2), picture.mT, picture.mT.flip(-2)]


def outstanding(picture: Tensor) -> Tensor:
    """Means of the uppermost rows less that of the rows within, (ROWS,)."""
    return picture[..., :ROWS, :].mean((0, 1, 3)) - picture[..., WITHIN, :].mean()


if __name__ == "__main__":
    main()
