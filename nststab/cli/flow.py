"""nststab flow: optical flow of a clip and its reliability masks, under the names of Ruder's program."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import (
    CLIP_PATH,
    EXISTING,
    POSITIVE,
    NearestGroup,
    console_listener,
    output_option,
    overwrite_option,
    plan_option,
    refuse_early,
    say,
    say_notes,
    show_plan,
)
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.tasks.settings import FlowTaskSettings


@click.group("flow", cls=NearestGroup)
def command() -> None:
    """Optical flow and its reliability masks."""


@command.command("estimate", cls=SettingsCommand, short_help="Flow and masks between the frames of a clip.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@output_option
@settings_options(FlowTaskSettings, method="--flow-method", cache="--flow-cache")
@overwrite_option
@plan_option
def estimate(source: Path, output: str, yes: bool, plan: bool, **options: Any) -> None:
    """Optical flow between the neighbouring frames of INPUT, a video or pictures, as `nststab stylize` takes them.

    \b
    nststab flow estimate clip.mp4 -o flows/

    Writes into the folder OUT forward_1_2.flo, backward_2_1.flo, reliable_1_2.pgm, reliable_2_1.pgm and so on; frames
    count from 1, and reliable_1_2.pgm says where forward_1_2.flo can be trusted (255) on the pixels of frame 1.
    `nststab stylize --flow OUT` uses these files. After a kill the same command goes on.
    """
    refuse_early(output, yes or plan)
    from nststab.tasks.flow import estimate_flow, plan_flow

    settings = gathered(FlowTaskSettings, options)
    if plan:
        show_plan(plan_flow(source, output, settings=settings))
        return
    made = estimate_flow(source, output, settings=settings, overwrite=yes, progress=console_listener())
    say_notes(made.notes)
    say(f"{made.folder}: flow between {made.frames} frames by {settings.method}")


@command.command("mask", cls=SettingsCommand, short_help="Where one flow can be trusted, given its opposite.")
@click.argument("forward", metavar="FORWARD.flo", type=EXISTING)
@click.argument("backward", metavar="BACKWARD.flo", type=EXISTING)
@output_option
@overwrite_option
def mask(forward: Path, backward: Path, output: str, yes: bool) -> None:
    """Say where the flow FORWARD can be trusted, given BACKWARD between the same two frames: a .pgm picture.

    \b
    nststab flow mask flows/forward_1_2.flo flows/backward_2_1.flo -o mask.pgm

    255 is trust, 0 none: out of the frame, hidden in the other frame, or at the edge of a motion.
    """
    refuse_early(output, yes)
    from nststab.tasks.flow import flow_mask

    flow_mask(forward, backward, Path(output), overwrite=yes)


@command.command("show", cls=SettingsCommand, short_help="A flow as a picture in Middlebury's colours.")
@click.argument("source", metavar="FILE.flo", type=EXISTING)
@output_option
@click.option(
    "--max",
    "maximum",
    type=POSITIVE,
    default=None,
    metavar="PIXELS",
    help="The motion that has its full colour, by default the longest in the file, or in all of a folder's.",
)
@overwrite_option
def show(source: Path, output: str, maximum: float | None, yes: bool) -> None:
    """Show the flow FILE.flo as a picture: the direction is the colour, no motion is white, unknown flow is black.

    \b
    nststab flow show flows/forward_1_2.flo -o flow.png

    Colours are Middlebury's (Baker et al. 2007). What is longer than --max PIXELS is darkened. Of a folder all .flo
    files are shown, in the folder OUT.
    """
    refuse_early(output, yes)
    from nststab.tasks.flow import show_flow

    longest = show_flow(source, Path(output), maximum=maximum, overwrite=yes, progress=console_listener())
    say(f"{output}: the full colours are motions of {longest:.2f} pixels")
