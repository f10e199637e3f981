"""What the total variation of colour and repeated features do to Gatys' pictures: a sheet of before and after.

python benchmarks/speckles.py photo.jpg=painting.jpg ... -o sheet.jpg [--size 256] [--crop 80] [--iterations 50]

A row is the most saturated part of a photograph, that part as VGG's zeros and the losses alone make it, and as the
defaults do. Speckles are the mean difference of neighbouring pixels in R, G and B minus their mean, in levels of
255; the losses are measured with repeated features, which see no edge at the border.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nststab.baselines.gatys import objective, optimize
from nststab.baselines.settings import GatysSettings
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.networks.perceptual import perceptual_network
from nststab.vgg import Padding
from nststab.video.images import read_opaque, resize, write_picture

WAYS: tuple[tuple[str, Padding, float], ...] = (("before", "zeros", 0.0), ("after", "replicate", 10.0))
ENLARGED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="PHOTO=PAINTING")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=256, help="longest side of photograph and painting")
    parser.add_argument("--crop", type=int, default=80, help="pixels of a side of the part")
    parser.add_argument("--iterations", type=int, default=50)
    options = parser.parse_args()
    table = Table("photograph", "painting", "", "content", "style", "speckles", box=SIMPLE)
    rows = []
    for pair in options.pairs:
        photo, painting = map(Path, pair.split("="))
        part = saturated(resize(read_opaque(photo), options.size), options.crop)
        style = resize(read_opaque(painting), options.size)
        table.add_row(photo.stem, painting.stem, "photograph", "", "", f"{speckles(part):.2f}")
        table.add_row("", "", "painting", "", "", f"{speckles(style):.2f}")
        row = [part]
        for name, padding, weight in WAYS:
            settings = GatysSettings(options.iterations, tolerance=0, chroma_weight=weight)
            made = optimize(part, objective(loss_of(style, padding), part, None, weight), settings)
            terms = objective(loss_of(style, "replicate"), part)(made)
            table.add_row("", "", name, *(f"{float(term):.3f}" for term in terms.values()), f"{speckles(made):.2f}")
            row.append(made)
        rows.append(torch.cat(row, dim=-1))
    write_picture(options.output, F.interpolate(torch.cat(rows, dim=-2), scale_factor=ENLARGED))
    Console().print(table)


def loss_of(style: Tensor, padding: Padding) -> PerceptualLoss:
    network = perceptual_network(torch.device("cpu"), padding=padding)
    return PerceptualLoss(network, style_target(network, style, LossSettings().style_layers), LossSettings())


def saturated(picture: Tensor, side: int) -> Tensor:
    """The most saturated square of a picture (1, 3, H, W)."""
    spread = picture.amax(dim=1, keepdim=True) - picture.amin(dim=1, keepdim=True)
    means = F.avg_pool2d(spread, side, 1)
    top, left = divmod(int(means.argmax()), means.shape[-1])
    return picture[..., top : top + side, left : left + side].contiguous()


def speckles(picture: Tensor) -> float:
    colour = picture - picture.mean(dim=1, keepdim=True)
    return 255 * float((colour.diff(dim=-1).abs().mean() + colour.diff(dim=-2).abs().mean()) / 2)


if __name__ == "__main__":
    main()
