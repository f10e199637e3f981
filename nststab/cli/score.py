"""nststab score."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.clips import CLIP_PATH, STANDARD, excerpt_options, open_source, told_names
from nststab.cli.common import (
    COUNT,
    NearestChoice,
    device_option,
    flow_option,
    frames_of,
    network_option,
    overwrite_option,
    progress,
    say,
    seed_option,
    setting,
    verbosity_options,
    vgg_option,
)
from nststab.cli.html import check_html, check_written, html_options
from nststab.cli.limits import failures, limit_options
from nststab.cli.optimizing import Distances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from nststab.flow.estimators import FlowFunction
    from nststab.flow.source import FlowSource
    from nststab.measure.pairing import Pairing
    from nststab.measure.score import ScoreMeter
    from nststab.measure.stability import FrameLosses
    from nststab.methods.build import Machine
    from nststab.report.recorder import SceneRecorder
    from nststab.tasks.score_report import ScoreReport
    from nststab.video.clip import Clip

_FLOW = "dis"  # safer than deepflow where motion is fast, as it is over several frames (docs/flow.md), and faster


@click.command("score", short_help="Measure the stability of clips.")
@click.argument("original", metavar="ORIGINAL", type=CLIP_PATH)
@click.argument("stylized", metavar="STYLIZED...", type=CLIP_PATH, nargs=-1, required=True)
@click.option("--style", metavar="STYLE", help="The style they were given: name, picture or checkpoint.")
@click.option(
    "--masks", type=CLIP_PATH, metavar="DIR", help="Foreground of ORIGINAL (above 0), where no patch may lie."
)
@click.option(
    "--patches", type=COUNT, metavar="N", default=10, show_default=True, help="Patches of each pair of frames."
)
@setting("--gaps", "1,5", "Frames over which the warping error is taken.", Distances())
@setting(
    "--size", "that of the smallest clip", "Longest side in pixels to measure at.", click.IntRange(min=16), "PIXELS"
)
@setting("--limit", "all", "Take only the first frames of every clip.", click.IntRange(min=2), "N")
@excerpt_options
@click.option("--no-cuts", is_flag=True, help="Take the clip for one shot; else no figure spans a cut of ORIGINAL.")
@flow_option
@setting(
    "--flow-method",
    _FLOW,
    "How optical flow is estimated; deepflow is more exact where motion is slow.",
    NearestChoice(("deepflow", "dis")),
)
@setting(
    "--flow-cache",
    "it is not kept",  # at 1920x1080 a frame has 66 MB
    "Folder to keep optical flow in, by content, so that another run reads it.",
    click.Path(file_okay=False, path_type=Path),
    "DIR",
)
@network_option
@vgg_option
@seed_option
@html_options
@click.option("--json", "json_file", metavar="FILE", help="Write all figures to this file, or - for standard output.")
@overwrite_option
@limit_options
@device_option
@verbosity_options
def command(original: Path, stylized: tuple[Path, ...], **options: Any) -> None:
    """Measure how stable STYLIZED is, which any program made of ORIGINAL; several are ranked.

    Clips are videos, folders of pictures or patterns of them. They must have the same frames: as many, of one shape,
    scaled or not, and at the same times where both have times. --start, --duration and --fps say which part of ORIGINAL
    was stylized.

    \b
    PSNR, SSIM    corresponding patches of adjacent frames (Gupta et al. 2017);
                  the rank is by SSIM, and the input's own is the ceiling
    warp          squared difference from the frame before, moved by the flow of
                  ORIGINAL, where that can be trusted (mean, of a range of 1)
    flicker       change where ORIGINAL stands still, in levels of 255
    drift         largest slope of brightness, R, G or B, in levels of 255 a frame

    A clip that is unstylized, blurred or mixed with the frame before is stable too: its losses tell. --style measures
    the style as well. --html writes a report that can be sent to anyone: the clips in step, their curves, what is
    steady and what is not.
    """
    from nststab.measure.pairing import Pairing
    from nststab.measure.score import ScoreMeter, ScoreSettings, ranks
    from nststab.methods.build import machine
    from nststab.tasks.score_results import decisive, print_scores, write_json

    _refuse_misuse(original, stylized, options)
    source, clips, masks = _opened(original, stylized, options)
    pairing = Pairing(source, clips, masks, size=options["size"], limit=options["limit"])
    settings = ScoreSettings(options["patches"], options["gaps"] or ScoreSettings().gaps, seed=options["seed"] or 0)
    where = machine(options["device"], "float32")
    meter = ScoreMeter(len(clips), settings, _losses(pairing, where, options))
    numbering, flow = _flow(options)
    names = told_names(stylized)
    with _report(source, names, options) as report:
        recorder = None if report is None else report.recorder
        frames = _measured(pairing, meter, numbering, flow, recorder, cuts=not options["no_cuts"])
        own, *scores = meter.result()
        for note in dict.fromkeys(note for clip in (source, *clips) for note in clip.notes):
            say(f"note: {note}")
        for clip in clips:
            if clip.width * clip.height > pairing.width * pairing.height:
                say(f"note: {clip.path}: scaled from {clip.width}x{clip.height}, which steadies a clip a little")
        rows = [
            {"path": str(path), "rank": place, **score.as_row()}
            for path, place, score in zip(stylized, ranks(scores), scores, strict=True)
        ]
        found = dict(zip(names, scores, strict=True))
        print_scores(own, found, options["json_file"] == STANDARD)
        decided = decisive(pairing, settings, numbering, where, options)
        if options["json_file"] is not None:
            said = {"original": str(original), "frames": frames, "shots": meter.shots}
            write_json({**decided, **said, "input": own.as_row(), "clips": rows}, options["json_file"])
        if report is not None:  # last: the figures are there whatever becomes of it
            report.write(own, found, {**decided["settings"], "seed": decided["seed"]})
    failed = [text for row in rows for text in failures(row["path"], row, options)]
    if failed:
        raise click.ClickException("; ".join(failed))


def _refuse_misuse(original: Path, stylized: tuple[Path, ...], options: "Mapping[str, Any]") -> None:
    """Wrong usage, before any work is done."""
    paths = [str(path) for path in stylized]
    for path in paths:
        if paths.count(path) > 1 and path != STANDARD:
            raise click.UsageError(f"{path} is given twice")
    if [str(original), *paths].count(STANDARD) > 1:
        raise click.UsageError("- stands for several clips; standard input is one")
    clips = (original, *stylized)
    check_html(options, clips)
    if options["json_file"] not in (None, STANDARD):
        check_written("--json", options["json_file"], options["yes"], clips)
        if options["html"] is not None and Path(options["json_file"]).absolute() == Path(options["html"]).absolute():
            raise click.UsageError(f"--json and --html name the same file, {options['html']}")


def _opened(
    original: Path, stylized: tuple[Path, ...], options: "Mapping[str, Any]"
) -> "tuple[Clip, list[Clip], Clip | None]":
    """The clips in their own sizes: the part of the original that was stylized with its masks, all of the others."""
    from nststab.video.clip import open_clip

    part = {name: options[name] for name in ("start", "duration", "fps", "raw_size")}
    source = open_source(original, part)
    clips = [open_clip(path) for path in stylized]
    for clip in (source, *clips):
        if clip.kind == "picture":
            raise ValueError(f"{clip.path}: expected a clip, got a single picture")
    if options["masks"] is None:
        return source, clips, None
    if part["start"] is not None or part["duration"] is not None:
        part["fps"] = part["fps"] or (None if source.source is None else source.source.rate)
    masks = open_source(options["masks"], {**part, "raw_size": None})
    if masks.kind == "video":
        raise ValueError(f"{masks.path}: expected masks in a folder of pictures, got a video")
    return source, clips, masks


def _losses(pairing: "Pairing", where: "Machine", options: "Mapping[str, Any]") -> "FrameLosses":
    """Content loss, and style loss where the style is known, with weights of one."""
    from nststab.losses import LossSettings
    from nststab.measure.score import ContentLoss
    from nststab.measure.stability import perceptual_losses
    from nststab.methods.build import measuring_losses
    from nststab.networks.perceptual import layers_of, perceptual_network
    from nststab.styles.source import style_source

    if options["style"] is not None:
        return measuring_losses(style_source(options["style"]), options, max(pairing.width, pairing.height), where)
    network = perceptual_network(options["vgg_weights"], where.device, options["network"])
    layers = layers_of(network).get("content_layers", LossSettings().content_layers)
    return perceptual_losses(ContentLoss(network, layers), where.device)


def _flow(options: "Mapping[str, Any]") -> "tuple[FlowSource, FlowFunction]":
    """Where the flow comes from, and the flow between two frames; it is kept only where that is asked for."""
    from nststab.flow.estimators import ESTIMATORS, require_estimator
    from nststab.flow.source import flow_source

    method = options["flow_method"] or (None if options["flow"] else _FLOW)
    source = flow_source(options["flow"], method, options["flow_cache"])
    if options["flow"] or options["flow_cache"]:
        return source, source.function()
    require_estimator(source.method)
    say(f"flow: {source.method}")
    return source, ESTIMATORS[source.method]


def _measured(
    pairing: "Pairing",
    meter: "ScoreMeter",
    source: "FlowSource",
    flow: "FlowFunction",
    recorder: "SceneRecorder | None",
    cuts: bool,
) -> int:
    """Feeds the meter with all frames, and gives their number."""
    from nststab.measure.score import score
    from nststab.shots import split_shots

    count = "an unknown number of frames" if pairing.frame_count is None else frames_of(pairing.frame_count)
    say(f"{count} to measure, {pairing.width}x{pairing.height}")
    frames = source.numbered(pairing.original_frames())
    done = 0
    with progress("score", pairing.frame_count) as advance:
        for done in score(split_shots(frames) if cuts else [frames], pairing.counterparts, meter, flow, recorder):
            advance(done)
    pairing.finish()
    return done


def _report(
    source: "Clip", names: "Sequence[str]", options: "Mapping[str, Any]"
) -> "AbstractContextManager[ScoreReport | None]":
    """What records the beginning of the clips for --html, and writes it."""
    if options["html"] is None:
        return nullcontext()
    from nststab.tasks.score_report import score_report

    return score_report(source, names, options)
