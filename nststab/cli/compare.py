"""nststab compare."""

from pathlib import Path
from typing import Any

import click

from nststab.cli.clips import CLIP_PATH, STANDARD, name_of
from nststab.cli.common import (
    OPTIMISERS,
    device_options,
    frames_of,
    methods_option,
    named,
    progress,
    say,
    verbosity_options,
)
from nststab.cli.html import check_html, html_options
from nststab.cli.optimizing import OptimizerCommand, collect, optimizer_options, refuse_unused
from nststab.cli.stylize import checked_clip, clip_options, colored, refuse_writing_over, shots, style_option

# Options of the optimisers that the measurement uses as well, whatever the methods, and those of the flow.
_MEASUREMENT = ("seed", "network", "vgg_weights", "style_scale", "style_weights")
_FLOW = ("flow", "flow_method", "flow_cache")


@click.command("compare", cls=OptimizerCommand, short_help="Several methods side by side.")
@click.argument("source", metavar="INPUT", type=CLIP_PATH)
@style_option
@methods_option("independent,recurrent")
@click.option(
    "--patches",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Patches measured in each pair of frames.",
)
@click.option("--differences", is_flag=True, help="Show below each clip what changes and motion does not explain.")
@html_options
@clip_options
@optimizer_options
@device_options
@verbosity_options
def command(source: Path, styles: tuple[str, ...], methods: tuple[str, ...], patches: int, **options: Any) -> None:
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
    from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings
    from nststab.methods.build import machine, measuring_losses, stylizer
    from nststab.report.colors import series_of
    from nststab.report.html import report_flow, report_flow_name, style_json
    from nststab.report.layout import ComparisonLayout
    from nststab.styles.source import chosen_style
    from nststab.tasks.comparison import Panels, comparison_recorder, print_stability, write_comparison_report
    from nststab.tasks.planned_jobs import clip_job
    from nststab.tasks.planning import planned
    from nststab.tasks.resuming import passes_folder
    from nststab.video.clip import convert_clip

    clip = checked_clip(source, options)
    if options["html"] and clip.kind == "picture":
        raise click.UsageError(f"--html shows what changes from frame to frame, {source} is a picture")
    where = machine(options["device"], options["precision"])
    style, optimizer = chosen_style(styles, options["style_weights"]), collect(options)
    if planned(clip_job(clip, options["output"], methods, style, optimizer, where, 1 + len(methods)), options["plan"]):
        return
    refuse_writing_over(style, options)
    pictures = [style_json(source) for source in style.sources] if options["html"] else []
    side = max(clip.width, clip.height)
    losses = measuring_losses(style, options, side, where, optimizer.style_scale)
    meter = StabilityMeter(StabilitySettings(patches, seed=options["seed"] or 0), losses)
    names = [CONTENT, *methods]
    layout = ComparisonLayout(names, series_of(names), clip.frame_count, options["differences"])
    flow = report_flow(methods, options, optimizer) if options["html"] or options["differences"] else None
    with comparison_recorder(clip, names, options) as recorder:
        with (
            passes_folder(None, optimizer.passes) as folder,
            progress("compare", clip.frame_count) as advance,
        ):

            def iteration(number: int, terms: dict[str, float]) -> None:
                advance(note=f"{number}: {named(terms)}")

            stylizers = {
                method: colored(stylizer(method, style, optimizer, side, where, iteration, folder=folder), options)
                for method in methods
            }
            panels = Panels(stylizers, meter, layout, options["differences"], flow, recorder)
            result = convert_clip(
                clip,
                options["output"],
                lambda frames: shots(panels, optimizer.flow.numbered(frames), cuts=not options["no_cuts"]),
                audio=not options["no_audio"],
                raw=options["raw"],
                progress=lambda done, total: advance(done, total),
            )
        rows = {name: row.as_row() for name, row in meter.result().items()}
        for note in result.notes:
            say(f"note: {note}")
        print_stability(rows, stderr=options["output"] == STANDARD)
        say(f"{name_of(options['output'])}: {frames_of(result.frames)}")
        if recorder is not None:  # last: the clip and its figures are there whatever becomes of the report
            told = report_flow_name(methods, options, optimizer)
            write_comparison_report(clip, pictures, rows, meter.settings, recorder, told, options)
