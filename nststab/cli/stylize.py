"""nststab stylize."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import (
    CLIP_PATH,
    STYLE,
    Command,
    NearestChoice,
    console_listener,
    frames_of,
    name_of,
    output_option,
    overwrite_option,
    plan_option,
    refuse_clip_early,
    say,
    say_notes,
    show_plan,
    together,
    workers_options,
)
from nststab.cli.options import SettingsCommand, gathered, set_options, settings_options
from nststab.methods.settings import METHODS
from nststab.tasks.settings import StylizeSettings

if TYPE_CHECKING:
    from nststab.tasks.deflicker import Deflickered
    from nststab.tasks.stylize import Stylized


style_option = click.option(
    "--style",
    "styles",
    type=STYLE,
    multiple=True,
    metavar="NAME|IMAGE|WEIGHTS[,...]",
    help="A shipped style, a folder of `train style`, a picture or a checkpoint; several are mixed.",
)


def stylize_options(settings: type[StylizeSettings] = StylizeSettings) -> Callable[[Command], Command]:
    """What `stylize`, `optimize` and `compare` take beside input, style and method: `settings` of the task."""
    return together(
        output_option,
        overwrite_option,
        plan_option,
        settings_options(
            settings,
            *("size", "work_size", "start", "duration", "fps", "raw_size", "raw", "audio"),
            *("style_weights", "stroke", "strength", "preserve_color", "deflicker"),
            *("mask", "mask_styles", "protect", "cuts"),
            *("device", "precision", "engine", "loss.content_weight", "loss.style_weight", "ruder.temporal_weight"),
            *("gatys.iterations", "gatys.init", "gatys.seed", "gatys.network", "gatys.vgg_weights"),
            *("ruder.passes", "flow.files", "flow.method"),
            mask_styles="--mask-style",
            flow_files="--flow",
            flow_method="--flow-method",
        ),
        set_options(settings),
    )


_COMMON = (
    *("styles", "method", "output", "yes", "plan", "size", "work_size", "start", "duration", "stroke", "strength"),
    *("mask", "protect", "preserve_color", "deflicker"),
)


@click.command("stylize", cls=SettingsCommand, common=_COMMON, short_help="Stylize a clip or a picture.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@click.option(
    "--method",
    type=NearestChoice(METHODS, plugins=True),
    metavar="METHOD",
    default="recurrent",
    show_default=True,
    help=f"How to stylize: {', '.join(METHODS)}, or your own as module:callable.",
)
@settings_options(StylizeSettings, "memory")
@workers_options
@stylize_options()
def command(source: Path, styles: tuple[str, ...], method: str, output: str, **options: Any) -> None:
    """Stylize a video, a picture, or a folder of pictures.

    \b
    nststab stylize clip.mp4 -o out.mp4 --style the_great_wave
    nststab stylize clip.mp4 -o wide.mp4 --style mosaic --work-size 320 --deflicker
    nststab stylize clip.mp4 -o part.mp4 --style painting --start 1:20 --duration 5

    \b
    recurrent    real time, steady; needs a trained style
    independent  real time, frame by frame; needs a trained style
    ruder        optimisation, tied to the frame before by optical flow
    gatys        optimisation, frame by frame
    your own     a callable of one of your modules, as module:callable; it takes no style

    INPUT may also be numbered pictures ('frames/%05d.png'), a glob of pictures ('frames/*.png'), or - for standard
    input. OUT is a video file, a picture, a folder of PNGs (ends in /), or - for y4m on standard output. A clip keeps
    its size, timing and audio. After a kill the same command goes on. ruder and gatys can share a clip's shots and
    frames among several processes or machines.
    """
    refuse_clip_early(output, options["yes"] or options["plan"])
    stylized(source, output, styles, method, **options)


def stylized(
    source: Path,
    output: str,
    styles: tuple[str, ...],
    method: str,
    *,
    yes: bool,
    plan: bool,
    jobs: int | None,
    cluster: str | None,
    assignments: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Stylizes, or tells the plan of it, as the options of `stylize` and `optimize` say."""
    from nststab.tasks.stylize import plan_stylize, stylize
    from nststab.tasks.workers import workers

    settings = gathered(StylizeSettings, options, dict(assignments))
    if plan:
        show_plan(plan_stylize(source, output, style=styles, method=method, settings=settings))
        return
    with workers(jobs, cluster) as executor:
        made = stylize(
            source,
            output,
            style=styles,
            method=method,
            settings=settings,
            overwrite=yes,
            executor=executor,
            progress=console_listener(),
        )
    told(made)


def told(made: "Stylized | Deflickered") -> None:
    """Says what was made, and what the user should know about it."""
    say_notes(made.notes)
    say(f"{name_of(made.output)}: {frames_of(made.frames)}, {made.width}x{made.height}")
