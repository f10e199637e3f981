"""nststab stylize."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.clips import CLIP_PATH, STANDARD, excerpt_options, name_of, open_source, raw_option
from nststab.cli.common import (
    METHODS,
    OPTIMISERS,
    NearestChoice,
    device_options,
    explain,
    frames_of,
    named,
    output_option,
    overwrite_option,
    plan_option,
    progress,
    refuse_overwriting,
    say,
    size_option,
    verbosity_options,
)
from nststab.cli.optimizing import OptimizerCommand, collect, optimizer_options, refuse_unused

if TYPE_CHECKING:
    from nststab.frames import Frame, Stylizer
    from nststab.methods.build import Machine, OptimizerOptions
    from nststab.styles.source import Style
    from nststab.tasks.resuming import Work
    from nststab.video.clip import Clip

Command = TypeVar("Command", bound=Callable[..., Any])


def clip_options(command: Command) -> Command:
    """What every command that turns a clip into a clip takes."""
    for option in (
        plan_option,
        overwrite_option,
        click.option("--no-cuts", is_flag=True, help="Take the clip for one shot; do not look for cuts."),
        click.option("--preserve-color", is_flag=True, help="Take only the luminance from the style."),
        click.option("--no-audio", is_flag=True, help="Leave the audio out."),
        raw_option,
        excerpt_options,
        size_option,
        output_option,
    ):
        command = option(command)
    return command


style_option = click.option(
    "--style",
    "styles",
    required=True,
    multiple=True,
    metavar="NAME|IMAGE|WEIGHTS",
    help="A shipped style, a folder of `train style`, a picture or a checkpoint; ruder and gatys blend several.",
)


@click.command("stylize", cls=OptimizerCommand, short_help="Stylize a clip or a picture.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@click.option("--method", type=NearestChoice(METHODS), default="recurrent", show_default=True, help="How to stylize.")
@clip_options
@optimizer_options
@device_options
@verbosity_options
def command(source: Path, styles: tuple[str, ...], method: str, **options: Any) -> None:
    """Stylize a video, a picture, or a folder of pictures.

    \b
    recurrent    real time, steady; needs a trained style
    independent  real time, frame by frame; needs a trained style
    ruder        optimisation, tied to the frame before by optical flow
    gatys        optimisation, frame by frame

    INPUT may also be numbered pictures ('frames/%05d.png'), a glob of pictures ('frames/*.png'), or - for standard
    input. OUT is a video file, a picture, a folder of PNGs (ends in /), or - for y4m on standard output. A clip keeps
    its size, timing and audio. With ruder and gatys the same command goes on after a kill.
    """
    refuse_unused(options, (method,))
    from nststab.styles.source import chosen_style

    run(source, chosen_style(styles, options["style_weights"]), method, collect(options), options)


def run(source: Path, style: "Style", method: str, optimizer: "OptimizerOptions", options: dict[str, Any]) -> None:
    """Reads, stylizes and writes; `options` are those of `clip_options` and `device_options`."""
    from nststab.methods.build import machine, stylizer
    from nststab.tasks.planned_jobs import clip_job
    from nststab.tasks.planning import planned
    from nststab.tasks.resuming import Work, passes_folder
    from nststab.video.clip import convert_clip

    output = options["output"]
    goes_on = method in OPTIMISERS and output != STANDARD
    clip = checked_clip(source, options, goes_on)
    refuse_writing_over(style, options)
    where = machine(options["device"], options["precision"])
    if planned(clip_job(clip, output, (method,), style, optimizer, where), options.get("plan", False)):
        return
    optimizer.flow.require_size(clip.height, clip.width)
    started = time.monotonic()
    unit, total = _counted(clip, method, optimizer)
    with (
        _work(clip, method, style, options, where) if goes_on else nullcontext(Work(output)) as work,
        passes_folder(work.job, optimizer.passes) as folder,
        progress(f"{method} {clip.width}x{clip.height}, {unit}", total) as advance,
    ):
        advance(work.frames if unit == "frames" else None)
        begun = count()

        def iteration(number: int, terms: dict[str, float]) -> None:
            note = named(terms) if unit == "iterations" else f"iteration {number}: {named(terms)}"
            if unit == "optimisations" and number == 0:
                advance(next(begun))
            advance(number if unit == "iterations" else None, note=note)

        def frame_done(done: int, total: int | None) -> None:
            work.progress(done)
            if unit == "frames":
                advance(max(done, work.frames), total)

        side = max(clip.width, clip.height)
        made_by = stylizer(method, style, optimizer, side, where, iteration, work.keep, folder)
        shown = colored(made_by, options)
        result = convert_clip(
            clip,
            work.output,
            lambda frames: shots(shown, frames, cuts=not options["no_cuts"]),
            audio=not options["no_audio"],
            raw=options.get("raw", False),
            progress=frame_done,
        )
    for note in result.notes:
        say(f"note: {note}")
    seconds = time.monotonic() - started
    made = result.frames - work.frames
    explain(f"{frames_of(made)} in {seconds:.1f} s, {made / seconds:.2f} a second")
    say(f"{name_of(output)}: {frames_of(result.frames)}, {clip.width}x{clip.height}")


def _counted(clip: "Clip", method: str, optimizer: "OptimizerOptions") -> tuple[str, int | None]:
    """What the bar counts, and to where: what takes some time, but not the whole."""
    from nststab.methods.build import loop_settings

    if method not in OPTIMISERS:
        return "frames", clip.frame_count
    if clip.kind == "picture":
        return "iterations", loop_settings(optimizer).iterations
    if optimizer.passes > 1:
        each = optimizer.passes + optimizer.scales - 1
        return "optimisations", clip.frame_count and clip.frame_count * each
    return "frames", clip.frame_count


def _work(
    clip: "Clip", method: str, style: "Style", options: dict[str, Any], where: "Machine"
) -> "AbstractContextManager[Work]":
    """What remembers the finished optimisations of this command."""
    from nststab.tasks.resuming import Work, comes_again, resumable, settings_of

    if not comes_again(clip):
        say("note: what comes through a pipe cannot be read again: after a kill the work begins anew")
        return nullcontext(Work(options["output"]))
    styles = tuple(source.identity for source in style.sources)
    settings = settings_of(clip, options, styles, method=method, device=where.device.type, arithmetic=where.optimizing)
    return resumable(clip, options["output"], settings, options["yes"])


def checked_clip(source: Path, options: dict[str, Any], goes_on: bool = False) -> "Clip":
    """The clip, opened, once it is clear that the output can be written; `goes_on`: over unfinished work of its own."""
    from nststab.storage.jobs import overwrites
    from nststab.tasks.resuming import comes_again
    from nststab.video.clip import check_output

    if options.get("raw") and options["output"] != STANDARD:
        raise click.UsageError(f"--raw is for video to -, got {options['output']}")
    clip = open_source(source, options)
    try:
        check_output(clip, options["output"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'-o'") from error
    if options["output"] == STANDARD or options.get("plan"):
        return clip
    path = Path(options["output"])
    refuse_overwriting(path, options["yes"] or (goes_on and comes_again(clip) and overwrites(path)))
    return clip


def refuse_writing_over(style: "Style", options: dict[str, Any]) -> None:
    """Raises a usage error if the output is one of the files that are read: a style, weights, a start picture."""
    path = Path(options["output"])
    others = [value for name, value in options.items() if name != "output"]
    for name in (*(source.text for source in style.sources), *others):
        if isinstance(name, str | Path) and path.is_file() and Path(name).is_file() and path.samefile(name):
            raise click.UsageError(f"{path} is read by this command; write to another name")


def colored(stylizer: "Stylizer", options: dict[str, Any]) -> "Stylizer":
    """The stylizer, with the colours of its input where --preserve-color asks for them."""
    from nststab.color import PreserveColor

    return PreserveColor(stylizer) if options["preserve_color"] else stylizer


def shots(stylizer: "Stylizer", frames: "Iterable[Frame]", cuts: bool) -> "Iterator[Frame]":
    """A new call of the stylizer for every shot, or one for all where cuts are not looked for."""
    from nststab.shots import by_shot

    return by_shot(stylizer, frames) if cuts else stylizer(frames)
