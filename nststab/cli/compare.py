"""nststab compare."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, STANDARD, name_of
from nststab.cli.common import (
    OPTIMISERS,
    console_listener,
    device_options,
    frames_of,
    methods_option,
    refuse_overwriting,
    say,
    show_plan,
    verbosity_options,
)
from nststab.cli.html import check_html, html_options, report_settings
from nststab.cli.optimizing import OptimizerCommand, collect, optimizer_options, refuse_unused
from nststab.cli.options import gathered, settings_options
from nststab.cli.stylize import clip_options, style_option
from nststab.measure.settings import MeasureSettings

if TYPE_CHECKING:
    from nststab.tasks.compare import Comparison

# Options of the optimisers that the measurement uses as well, whatever the methods, and those of the flow.
_MEASUREMENT = ("seed", "network", "vgg_weights", "style_scale", "style_weights")
_FLOW = ("flow", "flow_method", "flow_cache")
_PASSED = (
    *("output", "size", "start", "duration", "fps", "raw_size", "differences", "preserve_color", "raw"),
    *("html", "device", "precision", "style_weights"),
)


@click.command("compare", cls=OptimizerCommand, short_help="Several methods side by side.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@methods_option("independent,recurrent", plugins=True)
@settings_options(MeasureSettings, "patches")
@click.option("--differences", is_flag=True, help="Show below each clip what changes and motion does not explain.")
@html_options
@clip_options
@optimizer_options
@device_options
@verbosity_options
def command(source: Path, styles: tuple[str, ...], methods: tuple[str, ...], **options: Any) -> None:
    """Stylize INPUT with several methods: a clip with all of them side by side, input first, and a table of figures.

    PSNR and SSIM compare corresponding patches of adjacent frames (Gupta et al. 2017, section 5.3); the input's own
    are the ceiling. Flicker is the mean change, in levels of 255, where the input stands still. Stability counts only
    beside the style and content loss of the same frames: a blurred or unstylized clip is stable too.

    --html writes a report that can be sent to anyone: the clips in step, their curves, what is steady and what is not.
    It and --differences follow the motion by the optical flow that ruder uses; without ruder by dis, which is faster.
    """
    used = tuple(method for method in methods if method in OPTIMISERS)
    measured = (*_MEASUREMENT, *_FLOW) if options["html"] or options["differences"] else _MEASUREMENT
    refuse_unused({**options, **dict.fromkeys(measured)}, used or methods)
    check_html(options, [source])
    if options["raw"] and options["output"] != STANDARD:
        raise click.UsageError(f"--raw is for video to -, got {options['output']}")
    if options["output"] != STANDARD and not options["plan"]:
        refuse_overwriting(Path(options["output"]), options["yes"])
    from nststab.tasks.compare import compare, plan_compare

    optimizer = collect(options)
    if options["plan"]:
        same = {name: options[name] for name in ("output", "device", "precision", "style_weights")}
        part = {name: options[name] for name in ("size", "start", "duration", "fps")}
        show_plan(plan_compare(source, style=styles, methods=methods, optimizer=optimizer, **same, **part))
        return

    def show(comparison: "Comparison") -> None:
        click.echo(comparison.table(), err=options["output"] == STANDARD)
        say(f"{name_of(options['output'])}: {frames_of(comparison.frames)}")

    compare(
        source,
        style=styles,
        methods=methods,
        audio=not options["no_audio"],
        report=report_settings(options),
        optimizer=optimizer,
        flow_is_asked=any(options[name] for name in _FLOW),
        settings=gathered(MeasureSettings, {**options, "cuts": not options["no_cuts"]}),
        progress=console_listener(),
        on_figures=show,
        **{name: options[name] for name in _PASSED},
    )
