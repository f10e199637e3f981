"""How steady are clips that any program made of an original? Figures beside its own, ranks, and a report to look at."""

import logging
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from nststab.errors import NststabError, SettingError
from nststab.experiments.figures import draw_style_plane
from nststab.flow.estimators import ESTIMATORS, FlowFunction, FlowSource, between_frames, flow_source, require_estimator
from nststab.flow.settings import FlowMethod, FlowSettings
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.losses import LossSettings
from nststab.measure.pairing import Counterparts, LagFinder, Pairing
from nststab.measure.published import PairFunction, PairMeasure, published
from nststab.measure.score import ContentLoss, ScoreMeter
from nststab.measure.score import score as measure_score
from nststab.measure.scores import ScoredClip, Scores, clip_ranks
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import CONTENT, FrameLosses, StabilitySettings, perceptual_losses
from nststab.methods.build import Machine, machine, measuring_losses
from nststab.networks.perceptual import layers_of, perceptual_name, perceptual_network
from nststab.report.colors import SERIES
from nststab.report.html import clip_names, clip_recorder, clip_report, style_json
from nststab.report.recorder import SceneRecorder
from nststab.report.settings import ReportSettings, check_report
from nststab.shots import split_shots
from nststab.storage.tables import Json
from nststab.styles.source import style_source
from nststab.video.clip import Clip, RawFormat, open_clip
from nststab.video.pipes import STANDARD
from nststab.video.timing import Seconds

log = logging.getLogger(__name__)

_FLOW: FlowMethod = "dis"  # safer than deepflow in fast motion, as over several frames (docs/flow.md), and faster


def score(
    original: str | Path | Clip,
    stylized: Sequence[str | Path | Clip],
    *,
    style: str | Path | None = None,
    masks: str | Path | None = None,
    flow: str | Path | None = None,
    size: int | None = None,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    fps: Seconds | None = None,
    raw_size: tuple[int, int] | None = None,
    measures: Mapping[str, PairFunction] | None = None,
    html: str | Path | None = None,
    report: ReportSettings | None = None,
    device: str = "auto",
    settings: ScoreSettings | None = None,
    progress: Listener = silent,
    on_figures: Callable[[Scores], None] | None = None,
) -> Scores:
    """Measures how steady the clips `stylized` are, which any program made of `original`; in a `style` they are ranked.

        print(nststab.score("clip.mp4", ["mine.mp4"], style="painting.jpg").table())

    Clips are videos, folders of pictures or patterns of them, or frames in memory by `nststab.clip_of`. They must
    have the same frames: as many, of one shape, scaled or not, and at the same times where both have times. A clip that
    is unstylized, blurred or mixed with the frame before is steady too: its losses tell.

    Args:
        style: the style they were given, a name, a picture or a checkpoint; without it style is not measured.
        masks: pictures of the original's foreground (above 0), where no patch may lie.
        flow: a folder of .flo files, `forward_1_2.flo` and `backward_2_1.flo` and so on; else flow is estimated.
        size: the longest side in pixels to measure at; by default that of the smallest clip.
        start, duration, fps: the part of the original that was stylized, in seconds and frames per second.
        raw_size: width and height of what comes from standard input as bare rgb24 frames.
        measures: your own, by name: each gets a `measure.published.FramePair` and gives a number.
        html: a report to write, as large as `report` says.
        on_figures: gets the result before the report is written, which may fail.

    Raises:
        SettingError: settings contradict each other, or the report cannot be written.
        NststabError, OSError: a clip cannot be read, or does not fit the original.
    """
    settings, report = ScoreSettings.of(settings), report or ReportSettings()
    path, *paths = (one.path if isinstance(one, Clip) else Path(one) for one in (original, *stylized))
    _refuse_twice(path, paths)
    if html is not None:
        check_report(html, [path, *paths])
    raw = RawFormat.of(raw_size, None if fps is None else Fraction(str(fps)))
    source = open_clip(original, start=start, duration=duration, fps=fps, raw=raw)
    clips = list(map(open_clip, stylized))
    for clip in (source, *clips):
        if clip.kind == "picture":
            raise NststabError(f"{clip.path}: expected a clip, got a single picture")
    foreground = None if masks is None else _masks(Path(masks), source, start, duration, fps)
    pairing = Pairing(source, clips, foreground, size=size, limit=settings.limit)
    where = machine(device, "float32")
    flows, flow_function = _flow(flow, settings)
    computed, absent = _measures(measures or {}, flows)
    losses = _losses(pairing, style, where, settings)
    meter = ScoreMeter(len(clips), settings, losses, computed, references=style is not None)
    lags = LagFinder(len(clips))
    names = clip_names(paths)
    shown = [CONTENT, *names][: len(SERIES)]
    with clip_recorder(source, shown, html, report, settings.limit) as recorder:
        pictures = [] if style is None or html is None else [style_json(style_source(str(style)))]
        frames = _measured(pairing, meter, lags, flows, flow_function, recorder, settings.cuts, progress)
        own, *figures = meter.result()
        starts, lagging = zip(*lags.found, strict=True)
        for note in dict.fromkeys(note for clip in (source, *clips) for note in clip.notes):
            log.warning(note)
        for clip in clips:
            if clip.width * clip.height > pairing.width * pairing.height:
                log.warning(f"{clip.path}: scaled from {clip.width}x{clip.height}, which steadies a clip a little")
        places = clip_ranks(own, figures, lagging)
        scored = tuple(map(ScoredClip, paths, names, places, figures, lagging, starts))
        decisive = _decisive(pairing, settings, flows, style, masks is not None, (start, duration, fps), where)
        result = Scores(
            path, frames, meter.shots, own, meter.references(), scored, computed, absent, decisive, settings.seed
        )
        for note in result.notes():
            log.warning(note)
        if on_figures is not None:
            on_figures(result)
        if html is not None and recorder is not None:
            asked = {**decisive, "seed": settings.seed}
            tables = (result.figures, result.published)
            said = result.findings()
            page = clip_report(source, recorder, pictures, said, tables, asked, report, "nststab.score")
            if unseen := names[len(shown) - 1 :]:
                count = "one more clip" if len(unseen) == 1 else f"{len(unseen)} more clips"
                page.left_out.append(f"The pictures and curves of {count}: {', '.join(unseen)}.")
            if style is not None:
                with TemporaryDirectory() as folder:
                    page.plane = draw_style_plane(result, Path(folder, "plane"))[0].read_bytes()
            page.write(html)
    return result


def _refuse_twice(original: Path, paths: Sequence[Path]) -> None:
    for path in paths:
        if list(paths).count(path) > 1 and path != STANDARD:
            raise SettingError(f"{path} is given twice")
    if [original, *paths].count(STANDARD) > 1:
        raise SettingError("- stands for several clips; standard input is one")


def _masks(path: Path, source: Clip, start: Seconds | None, duration: Seconds | None, fps: Seconds | None) -> Clip:
    """The masks of the part of the original, whose numbers are those of its frames."""
    if start is not None or duration is not None:
        fps = fps or (None if source.source is None else source.source.rate)
    masks = open_clip(path, start=start, duration=duration, fps=fps)
    if masks.kind == "video":
        raise NststabError(f"{masks.path}: expected masks in a folder of pictures, got a video")
    return masks


def _losses(pairing: Pairing, style: str | Path | None, where: Machine, settings: ScoreSettings) -> FrameLosses:
    """Content loss, and style loss where the style is known, with weights of one."""
    if style is not None:
        return measuring_losses(
            style_source(str(style)), settings.perceptual, max(pairing.width, pairing.height), where
        )
    network = perceptual_network(where.device, settings.perceptual)
    layers = layers_of(network).get("content_layers", LossSettings().content_layers)
    return perceptual_losses(ContentLoss(network, layers), where.device)


def _flow(files: str | Path | None, settings: ScoreSettings) -> tuple[FlowSource, FlowFunction]:
    """Where the flow comes from, and the flow between two frames; it is kept only where that is asked for."""
    for name in ("flow_method", "flow_cache"):
        if files and getattr(settings, name) is not None:
            raise SettingError(f"{name} has no effect where the flow is read from files")
    folder = None if files is None else Path(files)
    source = flow_source(FlowSettings(settings.flow_method or _FLOW, folder, settings.flow_cache))
    if files or settings.flow_cache:
        return source, source.function()
    require_estimator(source.method)
    log.info(f"flow: {source.method}")
    return source, between_frames(ESTIMATORS[source.method])


def _measures(own: Mapping[str, PairFunction], flow: FlowSource) -> tuple[tuple[PairMeasure, ...], dict[str, str]]:
    """Other authors' measures and one's own that can be computed, and why the others cannot."""
    measures, absent = published()
    files = flow.files
    if files is not None:
        for measure in measures:
            if not files.reaches(measure.gap):
                absent[measure.name] = f"needs the flow over {measure.gap} frames, which {files.folder} does not hold"
    for name, function in own.items():
        if not callable(function):
            raise SettingError(f"measures: expected something to call as {name}, got {function!r}")
    computed = tuple(measure for measure in measures if measure.name not in absent)
    return (*computed, *(PairMeasure(name, function) for name, function in own.items())), absent


def _measured(
    pairing: Pairing,
    meter: ScoreMeter,
    lags: LagFinder,
    source: FlowSource,
    flow: FlowFunction,
    recorder: SceneRecorder | None,
    cuts: bool,
    progress: Listener,
) -> int:
    """Feeds the meter with all frames, and gives their number."""
    known = pairing.frame_count
    count = "an unknown number of frames" if known is None else f"{known} frame{'s' * (known != 1)}"
    log.info(f"{count} to measure, {pairing.width}x{pairing.height}")
    source.require_size(pairing.height, pairing.width)
    frames = pairing.original_frames()
    done = 0

    def counterparts(content: Frame) -> Counterparts:
        made = pairing.counterparts()
        lags.update([content.rgb, *made.stylized])
        return made

    with reported(progress, "score", known) as advance:
        for done in measure_score(split_shots(frames) if cuts else [frames], counterparts, meter, flow, recorder):
            advance(done)
    pairing.finish()
    lags.finish()
    return done


def _decisive(
    pairing: Pairing,
    settings: ScoreSettings,
    flow: FlowSource,
    style: str | Path | None,
    masked: bool,
    part: tuple[Seconds | None, ...],
    where: Machine,
) -> dict[str, Json]:
    """What decides the figures, beside the seed."""
    patches = StabilitySettings(settings.patches).of_frames(pairing.height, pairing.width)
    return {
        "width": pairing.width,
        "height": pairing.height,
        "patches": settings.patches,
        "patch_size": patches.size,
        "radius": patches.radius,
        "masks": masked,
        "gaps": list(settings.gaps),
        "loss_every": settings.loss_every,
        "flow": flow.method if flow.files is None else "files",
        "cuts": settings.cuts,
        "style": None if style is None else Path(style).name,
        "perceptual_network": perceptual_name(settings.perceptual),
        "limit": settings.limit,
        **{
            name: None if value is None else float(Fraction(value))
            for name, value in zip(("start", "duration", "fps"), part, strict=True)
        },
        "device": where.device.type,
        "threads": torch.get_num_threads(),
    }
