"""nststab compare."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, STANDARD, name_of
from nststab.cli.common import (
    OPTIMISERS,
    device_options,
    frames_of,
    methods_option,
    named,
    print_table,
    progress,
    say,
    verbosity_options,
)
from nststab.cli.optimizing import OptimizerCommand, collect, optimizer_options, refuse_unused
from nststab.cli.stylize import checked_clip, clip_options, colored, refuse_writing_over, shots, style_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor


# Options of the optimisers that the measurement uses as well, whatever the methods.
_MEASUREMENT = ("seed", "network", "vgg_weights", "style_scale", "style_weights")


@click.command("compare", cls=OptimizerCommand, short_help="Several methods side by side.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@methods_option("independent,recurrent")
@click.option(
    "--patches",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Patches measured in each pair of frames.",
)
@clip_options
@optimizer_options
@device_options
@verbosity_options
def command(source: Path, styles: tuple[str, ...], methods: tuple[str, ...], patches: int, **options: Any) -> None:
    """Stylize INPUT with several methods: a clip with all of them side by side, input first, and a table of figures.

    PSNR and SSIM compare corresponding patches of adjacent frames (Gupta et al. 2017, section 5.3); the input's own
    are the ceiling. Flicker is the mean change, in levels of 255, where the input stands still. Stability counts only
    beside the style and content loss of the same frames: a blurred or unstylized clip is stable too.
    """
    used = tuple(method for method in methods if method in OPTIMISERS)
    refuse_unused({**options, **dict.fromkeys(_MEASUREMENT)}, used or methods)
    from nststab.cli.build import machine, measuring_losses, stylizer
    from nststab.cli.planned_jobs import clip_job
    from nststab.cli.planning import planned
    from nststab.cli.resuming import passes_folder
    from nststab.cli.style_source import chosen_style
    from nststab.evaluate.stability import StabilityMeter, StabilitySettings, in_step
    from nststab.report.layout import side_by_side
    from nststab.video import convert_clip

    clip = checked_clip(source, options)
    where = machine(options["device"], options["precision"])
    style, optimizer = chosen_style(styles, options["style_weights"]), collect(options)
    if planned(clip_job(clip, options["output"], methods, style, optimizer, where, 1 + len(methods)), options["plan"]):
        return
    refuse_writing_over(style, options)
    side = max(clip.width, clip.height)
    losses = measuring_losses(style, options, side, where, optimizer.style_scale)
    meter = StabilityMeter(StabilitySettings(patches, seed=options["seed"] or 0), losses)
    with passes_folder(None, optimizer.passes) as folder, progress("compare", clip.frame_count) as advance:

        def iteration(number: int, terms: dict[str, float]) -> None:
            advance(note=f"{number}: {named(terms)}")

        stylizers = {
            method: colored(stylizer(method, style, optimizer, side, where, iteration, folder=folder), options)
            for method in methods
        }

        def panels(frames: "Iterable[Tensor]") -> "Iterator[Tensor]":
            meter.start_shot()
            for content, made in in_step(frames, stylizers):
                meter.update(content, made)
                yield side_by_side([content, *made.values()], ["input", *made])

        result = convert_clip(
            clip,
            options["output"],
            lambda frames: shots(panels, optimizer.flow.numbered(frames), cuts=not options["no_cuts"]),
            audio=not options["no_audio"],
            raw=options["raw"],
            progress=lambda done, total: advance(done, total),
        )
    for note in result.notes:
        say(f"note: {note}")
    rows = {name: row.as_row() for name, row in meter.result().items()}
    print_stability(rows, stderr=options["output"] == STANDARD)
    say(f"{name_of(options['output'])}: {frames_of(result.frames)}")


def print_stability(rows: "Mapping[str, Mapping[str, Any]]", stderr: bool = False) -> None:
    """A table of what `MethodStability.as_row` gives, by the rows' names."""
    from rich.table import Table

    digits = {"psnr": 2, "ssim": 3, "flicker": 2, "style_loss": 3, "content_loss": 3}
    table = Table()
    for title in ("", "PSNR dB", "SSIM", "flicker", "style loss", "content loss"):
        table.add_column(title, justify="right" if title else "left")
    for name, row in rows.items():
        table.add_row(name, *(_figure(row[key], count) for key, count in digits.items()))
    print_table(table, stderr)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
