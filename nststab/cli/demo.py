"""nststab demo."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.common import console_listener, overwrite_option, refuse_clip_early, say
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.cli.stylize import told
from nststab.tasks.settings import StylizeSettings


@click.command("demo", cls=SettingsCommand, short_help="Stylize the bundled clip.")
@click.option("-o", "--output", default="demo.mp4", show_default=True, metavar="OUT", help="Where the result goes.")
@overwrite_option
@settings_options(StylizeSettings, "device", "precision")
def command(output: str, yes: bool, **options: Any) -> None:
    """Stylize the bundled clip with the recurrent network, then say where the result is.

    \b
    nststab demo -o demo.mp4
    """
    refuse_clip_early(output, yes)
    from nststab.tasks.stylize import stylize_demo

    settings = gathered(StylizeSettings, options)
    told(stylize_demo(output, settings=settings, overwrite=yes, progress=console_listener()))
    say(f"stylized: {Path(output).resolve()}")
