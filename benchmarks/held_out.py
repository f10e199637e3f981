"""What the independent networks reach on held-out photographs, beside Gatys' optimisation of the same loss.

python benchmarks/held_out.py --photos FOLDER -o FILE.json [--styles NAME,...] [--count 4] [--iterations 50]

The photographs are those that the training holds out, cut to 256x256 pixels; the loss is the one that the style was
trained with, for a style of the light network (light/NAME) without its share among the others, its strokes those of a
picture of 512 pixels. L-BFGS begins with the content picture. A style's row has the network's loss terms, those of the
optimised picture, and how many iterations L-BFGS takes to the network's total. Styles that FILE.json has are
not measured again.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings
from nststab.datasets.folders import PhotoFolder
from nststab.frames import Frame
from nststab.losses import LossSettings, PerceptualLoss
from nststab.methods.feed_forward import FeedForward
from nststab.networks.perceptual import perceptual_network
from nststab.storage.durable import write_durably
from nststab.styles.shipped import styles
from nststab.styles.source import style_source

SIDE, STROKES = 256, 512  # of the photographs, and of the style's picture
Terms = Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--styles", default=",".join(style.name for style in styles()))
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=50)
    options = parser.parse_args()
    held_out = PhotoFolder(options.photos).hold_out()[1]
    photos = torch.split(held_out.center_crops(SIDE, SIDE), 1)[: options.count]
    known = json.loads(options.output.read_text()) if options.output.is_file() else {}
    for name in options.styles.split(","):
        if name not in known:
            known[name] = compare(name, photos, options.iterations)
            write_durably(options.output, (json.dumps(known, indent=1) + "\n").encode())
    show(known)


def compare(name: str, photos: tuple[Tensor, ...], iterations: int) -> dict[str, Any]:
    """One style's row."""
    source = style_source(name)
    checkpoint = source.trained("independent", side=STROKES)
    trained = checkpoint.training["settings" if source.many else "loss"]
    settings = LossSettings(style_weight=trained["style_weight"], content_weight=trained["content_weight"])
    vgg = perceptual_network(torch.device("cpu"))
    loss = PerceptualLoss(vgg, source.target(vgg, settings.style_layers, STROKES), settings, torch.bfloat16)
    stylize = FeedForward(checkpoint.network)
    network, optimized, passed = [], [], []
    for photo in photos:
        trace: list[float] = []
        gatys = Gatys(
            loss,
            GatysSettings(iterations=iterations, tolerance=0, chroma_weight=0),
            lambda _, terms, trace=trace: trace.append(sum(terms.values())),
        )
        network.append(measured(loss, next(stylize([Frame(photo)])).rgb, photo))
        optimized.append(measured(loss, gatys.stylize(photo), photo))
        total = sum(network[-1].values())
        passed.append(next((k for k, value in enumerate(trace) if value <= total), iterations))
    return {
        "photos": len(photos),
        "side": SIDE,
        "iterations": iterations,
        "style_weight": settings.style_weight,
        "network": mean(network),
        "gatys": mean(optimized),
        "as_many_iterations": statistics.mean(passed),
    }


def measured(loss: PerceptualLoss, picture: Tensor, photo: Tensor) -> Terms:
    with torch.no_grad():
        return {name: float(term) for name, term in loss(picture, loss.content_targets(photo)).items()}


def mean(terms: list[Terms]) -> dict[str, float]:
    named = {name: round(statistics.mean(term[name] for term in terms), 4) for name in terms[0]}
    return named | {"total": round(sum(named.values()), 4)}


def show(rows: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("style", "network", "content", "style", "Gatys", "content", "style", "iterations to the same")
    for name, row in rows.items():
        figures = [f"{row[who][term]:.2f}" for who in ("network", "gatys") for term in ("total", "content", "style")]
        table.add_row(name, *figures, f"{row['as_many_iterations']:.0f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
