"""nststab preview."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from nststab.cli.common import CLIP_PATH, STYLE, Commas, Parsed, console_listener, overwrite_option, refuse_early
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.tasks.settings import StylizeSettings
from nststab.video.settings import parse_time, parse_work_size


@click.command("preview", cls=SettingsCommand, short_help="One frame in several styles and strokes.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@click.option(
    "--styles",
    required=True,
    type=Commas(STYLE),
    metavar="NAME|IMAGE,...",
    help="Shipped styles, folders of `train style` and paintings, separated by commas.",
)
@click.option("-o", "--output", metavar="OUT", default=None, help="The sheet, a picture.")
@click.option("--at", type=Parsed("time", parse_time), metavar="TIME", help="Which frame.  [default: the middle]")
@click.option(
    "--work-sizes",
    type=Commas(Parsed("size", parse_work_size)),
    metavar="PIXELS|full,...",
    default=str(StylizeSettings().work_size),
    show_default=True,
    help="Longest sides at which to paint: less makes larger strokes.",
)
@click.option(
    "--strengths",
    type=Commas(click.FLOAT),
    metavar="X,...",
    default="1",
    show_default=True,
    help="From 0, the photograph, to 1; of a network of many styles.",
)
@click.option("--html", metavar="FILE", default=None, help="A page with a wipe between any two of them.")
@settings_options(StylizeSettings, "size", "preserve_color", "device", "precision")
@overwrite_option
def command(
    source: Path,
    styles: tuple[str, ...],
    output: str | None,
    at: Fraction | None,
    work_sizes: tuple[Any, ...],
    strengths: tuple[float, ...],
    html: str | None,
    yes: bool,
    **options: Any,
) -> None:
    """Draw one frame of INPUT in several styles and working sizes on one sheet, each with what it takes.

    \b
    nststab preview clip.mp4 --styles mosaic,starry_night -o sheet.png
    nststab preview clip.mp4 --at 1:20.5 --styles mosaic,painting.jpg --work-sizes 320,640,1080 -o sheet.png
    nststab preview photo.jpg --styles painting.jpg --html page.html

    A painting that no network was trained for is drawn by a short optimisation, and marked: its strokes and colours are
    near to what `nststab train style` would make of it.
    """
    for written in (output, html):
        if written is not None:
            refuse_early(written, yes)
    from nststab.tasks.preview import preview

    settings = gathered(StylizeSettings, options)
    preview(
        source,
        output,
        styles=styles,
        at=at,
        work_sizes=work_sizes,
        strengths=strengths,
        html=html,
        settings=settings,
        overwrite=yes,
        progress=console_listener(),
    )
