"""nststab compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import (
    CLIP_PATH,
    STANDARD,
    console_listener,
    frames_of,
    methods_option,
    name_of,
    refuse_clip_early,
    say,
    show_plan,
)
from nststab.cli.html import check_html, html_options, report_settings
from nststab.cli.options import SettingsCommand, gathered, settings_options
from nststab.cli.stylize import style_option, stylize_options
from nststab.tasks.settings import CompareSettings

if TYPE_CHECKING:
    from nststab.tasks.compare import Comparison


_COMMON = (
    *("styles", "methods", "output", "yes", "plan", "size", "work_size", "start", "duration", "mask", "preserve_color"),
    *("deflicker", "patches", "differences", "html"),
)


@click.command("compare", cls=SettingsCommand, common=_COMMON, short_help="Several methods side by side.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@methods_option("independent,recurrent", plugins=True)
@settings_options(CompareSettings, "patches", "differences")
@html_options
@stylize_options(CompareSettings)
def command(
    source: Path,
    styles: tuple[str, ...],
    methods: tuple[str, ...],
    output: str,
    yes: bool,
    plan: bool,
    assignments: tuple[tuple[str, str], ...],
    **options: Any,
) -> None:
    """Stylize INPUT with several methods: a clip with all of them side by side, input first, and a table of figures.

    \b
    nststab compare clip.mp4 -o compared.mp4 --style the_great_wave
    nststab compare clip.mp4 -o all.mp4 --style mosaic --methods independent,recurrent,ruder --html report.html

    PSNR and SSIM compare corresponding patches of adjacent frames (Gupta et al. 2017, section 5.3); the input's own
    stand beside. Flicker is the mean change, in levels of 255, where the input stands still. Stability counts only
    beside the style and content loss of the same frames: a blurred or unstylized clip is stable too.

    --html writes a report that can be sent to anyone: the clips in step, their curves, what is steady and what is not.
    It and --differences follow the motion by the optical flow that ruder uses; without ruder by dis, which is faster.
    """
    refuse_clip_early(output, yes or plan)
    check_html({**options, "yes": yes}, [source])
    from nststab.tasks.compare import compare, plan_compare

    settings = gathered(CompareSettings, options, dict(assignments))
    if plan:
        show_plan(plan_compare(source, output, style=styles, methods=methods, settings=settings))
        return

    def show(comparison: "Comparison") -> None:
        click.echo(comparison.table(), err=output == STANDARD)
        say(f"{name_of(output)}: {frames_of(comparison.frames)}")

    compare(
        source,
        output,
        style=styles,
        methods=methods,
        html=options["html"],
        report=report_settings(options),
        overwrite=yes,
        settings=settings,
        progress=console_listener(),
        on_figures=show,
    )
