"""nststab optimize."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import CLIP_PATH, STYLE, refuse_clip_early, workers_options
from nststab.cli.options import SettingsCommand
from nststab.cli.stylize import stylize_options, stylized

_COMMON = (
    *("output", "yes", "plan", "size", "work_size", "start", "duration", "style_weights", "mask", "preserve_color"),
    *("gatys_iterations", "gatys_init", "loss_content_weight", "loss_style_weight", "jobs"),
)


@click.command("optimize", cls=SettingsCommand, common=_COMMON, short_help="Stylize by optimisation.")
@click.argument("content", type=CLIP_PATH)
@click.argument("style_images", nargs=-1, required=True, type=STYLE, metavar="STYLE_IMAGE...")
@click.option("--no-temporal", is_flag=True, help="Stylize each frame of a clip on its own.")
@workers_options
@stylize_options()
def command(content: Path, style_images: tuple[str, ...], no_temporal: bool, output: str, **options: Any) -> None:
    """Stylize CONTENT after STYLE_IMAGE: a picture by the method of Gatys et al., a clip by that of Ruder et al.

    \b
    nststab optimize photo.jpg painting.jpg -o out.png
    nststab optimize clip.mp4 painting.jpg -o ruder.mp4 --size 432
    nststab optimize photo.jpg painting.jpg other.jpg -o both.png --style-weights 3,7

    STYLE_IMAGE may also be the name of a shipped style, or a checkpoint; several are blended. After a kill the
    same command goes on.
    """
    refuse_clip_early(output, options["yes"] or options["plan"])
    from nststab.tasks.stylize import optimisation_of

    stylized(content, output, style_images, optimisation_of(content, not no_temporal), **options)
