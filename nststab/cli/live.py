"""nststab live."""

import sys
from pathlib import Path
from typing import Any

import click

from nststab.cli.common import (
    STANDARD,
    Parsed,
    clip_path,
    console_listener,
    network_option,
    overwrite_option,
    refuse_clip_early,
    say,
    say_notes,
)
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.cli.stylize import style_option
from nststab.tasks.settings import LiveSettings


def live_source(text: str) -> str:
    """A camera's number, a stream's address, or a clip."""
    if sys.platform.startswith("linux") and text.isdecimal() and not Path(f"/dev/video{text}").exists():
        raise ValueError(f"camera {text}: there is none")
    if not (text.isdecimal() or "://" in text or Path(text).is_char_device()):
        clip_path(text)
    return text


@click.command("live", cls=SettingsCommand, short_help="Stylize a camera or a stream as its frames arrive.")
@click.argument("source", metavar="SOURCE", type=Parsed("source", live_source))
@style_option
@click.option("-o", "--output", metavar="OUT", help="Also write it: a video, a folder, or - for y4m.")
@network_option
@settings_options(LiveSettings)
@overwrite_option
def command(source: str, styles: tuple[str, ...], output: str | None, method: str, yes: bool, **options: Any) -> None:
    """Stylize frames as they arrive, the newest first: of a camera, a stream, or a clip at its own pace.

    \b
    nststab live 0
    nststab live rtsp://camera/stream --style mosaic --work-size 256
    nststab live 0 --style light/candy --strength 0.6
    ffmpeg -i clip.mp4 -f yuv4mpegpipe - | nststab live - -o - --show none --style mosaic | ffplay -

    SOURCE is a camera's number, the address of a stream, or a clip as for `nststab stylize`. It is shown in a window,
    or on a page for this machine alone. What cannot be kept up with is dropped and counted; a camera or a stream that
    goes away is waited for. Several --style, by default the light/ styles, can be changed between while it runs.

    \b
    n p 1-9    the next style, the one before, one by its number
    + -        strength, and [ ] the size of the strokes, of the light/ styles
    q          end; so does closing the window, and Ctrl-C
    """
    if output is not None:
        refuse_clip_early(output, yes)
    from nststab.tasks.live import live

    made = live(
        source,
        output,
        style=styles,
        method=method,  # type: ignore[arg-type]
        settings=gathered(LiveSettings, options),
        overwrite=yes,
        progress=console_listener(),
        on_page=lambda address: click.echo(f"{address}  (Ctrl-C ends it)", err=output == STANDARD),
    )
    say_notes(made.notes)
    say(made.table())
