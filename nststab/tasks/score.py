"""How steady are clips that any program made of an original? Figures beside its own, ranks, and a report to look at."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch

from nststab.errors import NststabError, SettingError
from nststab.flow.estimators import ESTIMATORS, FlowFunction, between_frames, require_estimator
from nststab.flow.source import FlowSource, flow_source
from nststab.listener import Listener, reported, silent
from nststab.losses import LossSettings
from nststab.measure.pairing import Pairing
from nststab.measure.score import UNITS, ClipScore, ContentLoss, ScoreMeter, ranks, table
from nststab.measure.score import score as measure_score
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import CONTENT, FrameLosses, StabilitySettings, perceptual_losses
from nststab.methods.build import Machine, machine, measuring_losses
from nststab.networks.perceptual import layers_of, perceptual_name, perceptual_network
from nststab.report.colors import SERIES
from nststab.report.findings import HARDLY_CHANGED
from nststab.report.html import clip_names, clip_recorder, clip_report, style_json
from nststab.report.recorder import SceneRecorder
from nststab.report.settings import ReportSettings, check_report
from nststab.shots import split_shots
from nststab.storage.durable import write_durably
from nststab.storage.tables import Json, Table, versions, without_nan
from nststab.styles.source import style_source
from nststab.video.clip import Clip, RawFormat, open_clip
from nststab.video.streams import STANDARD
from nststab.video.timing import Seconds

log = logging.getLogger(__name__)

_FLOW = "dis"  # safer than deepflow where motion is fast, as it is over several frames (docs/flow.md), and faster


@dataclass(frozen=True)
class ScoredClip:
    """One of the clips: where it was read, what tables call it, its place by SSIM (1 the best) and its figures."""

    path: Path
    name: str
    rank: int | None
    score: ClipScore

    def json(self) -> dict[str, Json]:
        """The figures in the units of `UNITS`, after path and rank."""
        return {"path": str(self.path), "rank": self.rank, **self.score.as_row()}

    def failures(self, under: Mapping[str, float], over: Mapping[str, float]) -> Iterator[str]:
        """A line for each figure below its limit in `under` or above that in `over`.

        The figures are those of `settings.HIGHER_IS_BETTER` and `settings.LOWER_IS_BETTER`. One that could not be
        measured keeps no limit.
        """
        figures = self.score.as_row()
        for side, sign, limits in (("under", 1, under), ("over", -1, over)):
            for figure, limit in limits.items():
                value = figures[figure]
                if math.isnan(value):
                    yield f"{self.path}: {figure} could not be measured, the limit is {limit:g}"
                elif sign * value < sign * limit:
                    yield f"{self.path}: {figure} {value:.4g} is {side} {limit:g}"


@dataclass(frozen=True)
class Scores:
    """What `score` found.

    Attributes:
        frames, shots: how many were measured.
        input: the original's own figures, which nothing can surpass honestly.
        clips: in the order in which they were given.
        settings: all that decides the figures, as JSON values; with `seed` the same call gives the same figures.
    """

    original: Path
    frames: int
    shots: int
    input: ClipScore
    clips: tuple[ScoredClip, ...]
    settings: Mapping[str, Json]
    seed: int

    @property
    def figures(self) -> Table:
        """The figures of the original, then of the clips, the best first."""
        return table(self.input, [(clip.name, clip.score) for clip in self.clips])

    def table(self) -> str:
        """`figures` as text for a terminal."""
        return replace(self.figures, note="").text()

    def markdown(self) -> str:
        """`figures` in Markdown."""
        return self.figures.markdown()

    def json(self) -> dict[str, Json]:
        """All figures with their units, and what decides them; None stands for what could not be measured."""
        found = {
            "settings": self.settings,
            "seed": self.seed,
            "original": str(self.original),
            "frames": self.frames,
            "shots": self.shots,
            "input": self.input.as_row(),
            "clips": [clip.json() for clip in self.clips],
            "units": UNITS,
            "versions": versions(),
        }
        return dict(without_nan(found))

    def json_text(self) -> str:
        """`json` as the text of a file."""
        return json.dumps(self.json(), indent=1, allow_nan=False) + "\n"

    def write_json(self, file: str | Path) -> None:
        """Writes `json_text`, whole or not at all."""
        write_durably(Path(file), self.json_text().encode())

    def notes(self) -> Iterator[str]:
        """What the table does not say by itself."""
        yield self.figures.note
        for clip in self.clips:
            if clip.score.stability.content_loss < HARDLY_CHANGED:
                loss = clip.score.stability.content_loss
                yield f"{clip.name} is hardly more than the input (content loss {loss:.3f})"
        if not self.input.stability.n:
            yield "no patch was measured: the frames, or what the masks leave of them, are too small"
        if math.isnan(self.input.stability.style_loss):
            yield "style was not measured (--style): a clip may be steady because it does little"


def score(
    original: str | Path,
    stylized: Sequence[str | Path],
    *,
    style: str | Path | None = None,
    masks: str | Path | None = None,
    flow: str | Path | None = None,
    size: int | None = None,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    fps: Seconds | None = None,
    raw_size: tuple[int, int] | None = None,
    html: str | Path | None = None,
    report: ReportSettings | None = None,
    device: str = "auto",
    settings: ScoreSettings | None = None,
    progress: Listener = silent,
    on_figures: Callable[[Scores], None] | None = None,
) -> Scores:
    """Measures how steady the clips `stylized` are, which any program made of `original`; several are ranked.

        print(nststab.score("clip.mp4", ["mine.mp4"], style="painting.jpg").table())

    Clips are videos, folders of pictures or patterns of them. They must have the same frames: as many, of one shape,
    scaled or not, and at the same times where both have times. A clip that is unstylized, blurred or mixed with the
    frame before is steady too: its losses tell.

    Args:
        style: the style they were given, a name, a picture or a checkpoint; without it style is not measured.
        masks: pictures of the original's foreground (above 0), where no patch may lie.
        flow: a folder of .flo files, `forward_1_2.flo` and `backward_2_1.flo` and so on; else flow is estimated.
        size: the longest side in pixels to measure at; by default that of the smallest clip.
        start, duration, fps: the part of the original that was stylized, in seconds and frames per second.
        raw_size: width and height of what comes from standard input as bare rgb24 frames.
        html: a report to write, as large as `report` says.
        on_figures: gets the result before the report is written, which may fail.

    Raises:
        SettingError: settings contradict each other, or the report cannot be written.
        NststabError, OSError: a clip cannot be read, or does not fit the original.
    """
    settings, report = ScoreSettings.of(settings), report or ReportSettings()
    original, paths = Path(original), [Path(path) for path in stylized]
    _refuse_twice(original, paths)
    if html is not None:
        check_report(html, [original, *paths])
    raw = (
        None if raw_size is None else RawFormat(*raw_size) if fps is None else RawFormat(*raw_size, Fraction(str(fps)))
    )
    source, clips = open_clip(original, start=start, duration=duration, fps=fps, raw=raw), list(map(open_clip, paths))
    for clip in (source, *clips):
        if clip.kind == "picture":
            raise NststabError(f"{clip.path}: expected a clip, got a single picture")
    foreground = None if masks is None else _masks(Path(masks), source, start, duration, fps)
    pairing = Pairing(source, clips, foreground, size=size, limit=settings.limit)
    where = machine(device, "float32")
    meter = ScoreMeter(len(clips), settings, _losses(pairing, style, where, settings))
    flows, flow_function = _flow(flow, settings)
    names = clip_names(paths)
    shown = [CONTENT, *names][: len(SERIES)]
    with clip_recorder(source, shown, html, report, settings.limit) as recorder:
        pictures = [] if style is None or html is None else [style_json(style_source(str(style)))]
        frames = _measured(pairing, meter, flows, flow_function, recorder, settings.cuts, progress)
        own, *figures = meter.result()
        for note in dict.fromkeys(note for clip in (source, *clips) for note in clip.notes):
            log.warning(note)
        for clip in clips:
            if clip.width * clip.height > pairing.width * pairing.height:
                log.warning(f"{clip.path}: scaled from {clip.width}x{clip.height}, which steadies a clip a little")
        scored = map(ScoredClip, paths, names, ranks(figures), figures)
        decisive = _decisive(pairing, settings, flows, style, masks is not None, (start, duration, fps), where)
        result = Scores(original, frames, meter.shots, own, tuple(scored), decisive, settings.seed)
        for note in result.notes():
            log.warning(note)
        if on_figures is not None:
            on_figures(result)
        if html is not None and recorder is not None:
            rows = {CONTENT: own.as_row()} | {clip.name: clip.score.as_row() for clip in result.clips}
            asked = {**decisive, "seed": settings.seed}
            page = clip_report(source, recorder, pictures, rows, result.figures, asked, report, "nststab.score")
            if unseen := names[len(shown) - 1 :]:
                count = "one more clip" if len(unseen) == 1 else f"{len(unseen)} more clips"
                page.left_out.append(f"The pictures and curves of {count}: {', '.join(unseen)}.")
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
    method = settings.flow_method or (None if files else _FLOW)
    source = flow_source(None if files is None else Path(files), method, settings.flow_cache)
    if files or settings.flow_cache:
        return source, source.function()
    require_estimator(source.method)
    log.info(f"flow: {source.method}")
    return source, between_frames(ESTIMATORS[source.method])


def _measured(
    pairing: Pairing,
    meter: ScoreMeter,
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
    with reported(progress, "score", known) as advance:
        for done in measure_score(
            split_shots(frames) if cuts else [frames], pairing.counterparts, meter, flow, recorder
        ):
            advance(done)
    pairing.finish()
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
