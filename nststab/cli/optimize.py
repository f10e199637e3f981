"""nststab optimize."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.clips import CLIP_PATH
from nststab.cli.common import device_options, verbosity_options
from nststab.cli.optimizing import OptimizerCommand, collect, optimizer_options, refuse_unused
from nststab.cli.stylize import clip_options, run


@click.command("optimize", cls=OptimizerCommand, short_help="Stylize by optimisation.")
@click.argument("content", type=CLIP_PATH)
@click.argument("style_images", nargs=-1, required=True, metavar="STYLE_IMAGE...")
@click.option("--no-temporal", is_flag=True, help="Stylize each frame of a clip on its own.")
@clip_options
@optimizer_options
@device_options
@verbosity_options
def command(content: Path, style_images: tuple[str, ...], no_temporal: bool, **options: Any) -> None:
    """Stylize CONTENT after STYLE_IMAGE: a picture by the method of Gatys et al., a clip by that of Ruder et al.

    STYLE_IMAGE may also be the name of a shipped style, or a checkpoint; several are blended. After a kill the
    same command goes on.
    """
    from nststab.styles.source import chosen_style
    from nststab.video.clip import kind_of

    method = "gatys" if no_temporal or kind_of(content) == "picture" else "ruder"
    refuse_unused(options, (method,))
    run(content, chosen_style(style_images, options["style_weights"]), method, collect(options), options)
