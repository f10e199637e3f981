"""Table 1 of Gupta et al. 2017 on DAVIS for feed-forward networks, beside three ways to be stable without being good.

    python benchmarks/stability.py the_great_wave --davis DAVIS -o stability.json
    python benchmarks/stability.py image.safetensors video.safetensors --davis DAVIS --limit 20

The style losses are those of the first network's style, and its frames are the ones that are blurred and mixed.
"""

import argparse
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from nststab.assets import find_style, perceptual_weights
from nststab.datasets import DavisSequence
from nststab.evaluate.stability import (
    CONTENT,
    FrameLosses,
    MethodStability,
    StabilitySettings,
    average,
    measure,
    perceptual_losses,
    sanity_checks,
)
from nststab.losses import LossSettings, PerceptualLoss
from nststab.stylizer import Checkpoint, FeedForward, Stylizer, load_checkpoint, read_tensors
from nststab.vgg import PerceptualNetwork, normalization


def main() -> None:
    options = arguments()
    console = Console()
    checkpoints = load_networks(options.networks)
    stylizers = {
        name: FeedForward(checkpoint.network, options.device, options.precision)
        for name, checkpoint in checkpoints.items()
    }
    losses = frame_losses(next(iter(checkpoints.values())), options.device)
    settings = StabilitySettings(options.patches, options.patch_size, options.radius, options.seed)
    results: dict[str, Mapping[str, MethodStability]] = {}
    for name in options.sequences:
        with console.status(name):
            sequence = DavisSequence(options.davis, name, options.size)
            results[name] = measure_sequence(sequence, stylizers, settings, losses, options.limit)
        console.print(table(name, results[name]))
    mean = average(list(results.values()))
    console.print(table(f"mean of {len(results)} sequences", mean))
    if options.output:
        rows = {name: as_json(result) for name, result in {"mean": mean, **results}.items()}
        stated = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
        options.output.write_text(json.dumps({"settings": stated, "rows": rows}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="shipped styles by name, or checkpoint files")
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--sequences", nargs="+", default=["blackswan", "camel", "dog", "soapbox"])
    parser.add_argument("--size", type=int, default=432, help="longest side")
    parser.add_argument("--limit", type=int, help="frames of each sequence")
    parser.add_argument("--patches", type=int, default=20, help="for each pair of frames")
    parser.add_argument("--patch-size", type=int, help="default: 100 for 854, scaled")
    parser.add_argument("--radius", type=int, help="default: 20 for 854, scaled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    return parser.parse_args()


def load_networks(names: list[str]) -> dict[str, Checkpoint]:
    """Both networks of a shipped style, one of a file."""
    paths: dict[str, Path] = {}
    for name in names:
        if Path(name).is_file():
            paths[Path(name).stem] = Path(name)
        else:
            style = find_style(name)
            paths |= {f"{name} {method}": style.checkpoint(method) for method in style.methods}
    return {name: load_checkpoint(path) for name, path in paths.items()}


def frame_losses(checkpoint: Checkpoint, device: str) -> FrameLosses:
    """Content and style loss with weights of one, so that they compare across networks trained with any."""
    tensors, metadata = read_tensors(perceptual_weights())
    network = PerceptualNetwork(tensors, normalization(tensors, metadata)).to(device)
    style = {layer: gram.to(device) for layer, gram in checkpoint.style.items()}
    loss = PerceptualLoss(network, style, LossSettings(content_weight=1, style_weight=1))
    return perceptual_losses(loss, device)


def measure_sequence(
    sequence: DavisSequence,
    stylizers: Mapping[str, Stylizer],
    settings: StabilitySettings,
    losses: FrameLosses,
    limit: int | None,
) -> dict[str, MethodStability]:
    content, copied, *inputs = itertools.tee(itertools.islice(sequence.frames(), limit), 2 + len(stylizers))
    made = {name: stylizer(frames) for (name, stylizer), frames in zip(stylizers.items(), inputs, strict=True)}
    first = next(iter(made))
    made[first], kept = itertools.tee(made[first])
    return measure(content, {**made, **sanity_checks(copied, kept)}, settings, sequence.masks(), losses)


def table(title: str, rows: Mapping[str, MethodStability]) -> Table:
    """PSNR in dB, flicker in levels of 255, style loss also as a share of the unstylized input's own."""
    result = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    result.add_column(no_wrap=True)
    for heading in ("PSNR", "SSIM", "flicker", "style", "/ input", "content", "patches"):
        result.add_column(heading, justify="right")
    for name, row in rows.items():
        share = row.style_loss / rows[CONTENT].style_loss
        figures = (f"{row.psnr:.2f}", f"{row.ssim:.3f}", f"{row.flicker * 255:.2f}", f"{row.style_loss:.3f}")
        result.add_row(name, *figures, f"{share:.3f}", f"{row.content_loss:.3f}", str(row.n))
    return result


def as_json(rows: Mapping[str, MethodStability]) -> dict[str, Any]:
    return {name: row.as_row() for name, row in rows.items()}


if __name__ == "__main__":
    main()
