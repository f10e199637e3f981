"""nststab deflicker."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import CLIP_PATH, STANDARD, console_listener, output_option, overwrite_option, refuse_clip_early
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.cli.stylize import told
from nststab.methods.settings import DeflickerSettings


@click.command("deflicker", cls=SettingsCommand, short_help="Take the flicker out of a clip.")
@click.argument("clips", metavar="[ORIGINAL] PROCESSED", type=CLIP_PATH, nargs=-1, required=True)
@output_option
@settings_options(DeflickerSettings)
@click.option("--no-cuts", is_flag=True, help="Take the clip for one shot; do not look for cuts.")
@click.option("--no-audio", is_flag=True, help="Leave the audio out.")
@overwrite_option
def command(clips: tuple[Path, ...], output: str, no_cuts: bool, no_audio: bool, yes: bool, **options: Any) -> None:
    """Steady PROCESSED, which any program made of ORIGINAL frame by frame: a style, colour, a restoration.

    \b
    nststab deflicker clip.mp4 theirs.mp4 -o steady.mp4

    The motion is that of ORIGINAL; without it that of PROCESSED itself, which is followed less well. Clips are videos,
    folders of pictures or patterns of them; PROCESSED may be - for standard input. OUT is a video file, a folder of
    PNGs (ends in /), or - for y4m on standard output, and has the size, timing and audio of PROCESSED.

    ORIGINAL may have another size, another frame rate, or a lag of some frames: it is said what was found.
    """
    if len(clips) > 2:
        raise click.UsageError(f"expected one or two clips, got {len(clips)}")
    *original, processed = clips
    if original and str(original[0]) == STANDARD:
        raise click.UsageError("ORIGINAL cannot come from standard input; PROCESSED can")
    refuse_clip_early(output, yes)
    from nststab.tasks.deflicker import deflicker

    made = deflicker(
        processed,
        output,
        original=original[0] if original else None,
        cuts=not no_cuts,
        audio=not no_audio,
        settings=gathered(DeflickerSettings, options),
        overwrite=yes,
        progress=console_listener(),
    )
    told(made)
