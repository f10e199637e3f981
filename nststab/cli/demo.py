"""nststab demo."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import device_options, overwrite_option, say, verbosity_options


@click.command("demo", short_help="Stylize the bundled clip.")
@click.option("-o", "--output", default="demo.mp4", show_default=True, metavar="OUT", help="Where the result goes.")
@overwrite_option
@device_options
@verbosity_options
def command(**options: Any) -> None:
    """Stylize the bundled clip with the recurrent network, then say where the result is."""
    from nststab.cli.stylize import run
    from nststab.methods.build import OptimizerOptions
    from nststab.styles.shipped import demo_clip
    from nststab.styles.source import style_source

    options |= {"size": None, "no_audio": False, "no_cuts": False, "preserve_color": False}
    run(demo_clip(), style_source("the_great_wave"), "recurrent", OptimizerOptions(), options)
    say(f"stylized: {Path(options['output']).resolve()}")
