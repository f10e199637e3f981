"""How steady are clips that any program made of an original? Figures beside its own, ranks, and a report to look at."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from nststab.errors import NststabError, SettingError
from nststab.experiments.figures import draw_style_plane
from nststab.flow.estimators import ESTIMATORS, FlowFunction, FlowSource, between_frames, flow_source, require_estimator
from nststab.flow.settings import FlowMethod, FlowSettings
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.measure.intervals import mean_of_known
from nststab.measure.pairing import Counterparts, LagFinder, Pairing
from nststab.measure.published import PairFunction, PairMeasure, published
from nststab.measure.score import REFERENCES, ClipScore, ScoreMeter
from nststab.measure.score import score as measure_score
from nststab.measure.scores import Recorded, ScoredClip, Scores, clip_ranks
from nststab.measure.settings import HIGHER_IS_BETTER, LOWER_IS_BETTER, ScoreSettings
from nststab.measure.stability import (
    CONTENT,
    Curves,
    FrameLosses,
    MethodStability,
    StabilitySettings,
)
from nststab.methods.build import Machine, content_losses, machine, measuring_losses
from nststab.metrics import DriftSlopes
from nststab.networks.perceptual import perceptual_name
from nststab.report.colors import SERIES
from nststab.report.html import clip_names, clip_recorder, clip_report, style_json
from nststab.report.recorder import SceneRecorder
from nststab.report.settings import ReportSettings, check_report
from nststab.shots import split_shots
from nststab.storage.tables import Json, Row, Table, csv_text
from nststab.styles.source import style_source
from nststab.video.clip import Clip, RawFormat, open_clip
from nststab.video.picture_files import sequence_clip, sequences
from nststab.video.pipes import STANDARD
from nststab.video.settings import exact
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
    is unstylized, blurred or mixed with the frames before is steady too: its losses tell.

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
    names = clip_names(paths)
    for name in (CONTENT, *REFERENCES):
        if name in names:
            raise SettingError(f"{name!r} is what tables call a row of the original; a clip needs another name")
    if html is not None:
        check_report(html, [path, *paths])
    raw = RawFormat.of(raw_size, None if fps is None else exact(fps))
    source = open_clip(original, start=start, duration=duration, fps=fps, raw=raw)
    clips = list(map(open_clip, stylized))
    foreground = None if masks is None else _masks(Path(masks), source, start, duration, fps)
    pairing = Pairing(source, clips, foreground, size=size, limit=settings.limit)
    where = machine(device, "float32")
    flows, flow_function = _flow(flow, settings)
    computed, absent = _measures(measures or {}, flows)
    losses = _losses(pairing, style, where, settings)
    meter = ScoreMeter(len(clips), settings, losses, computed, references=style is not None)
    lags = LagFinder(len(clips))
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
    return content_losses(settings.perceptual, where)


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
        if name in {*absent, *(measure.name for measure in measures), *HIGHER_IS_BETTER, *LOWER_IS_BETTER}:
            raise SettingError(f"measures: {name} is a figure of ours, or of other authors; yours needs another name")
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


@dataclass(frozen=True)
class SequenceScores(Recorded):
    """What `score_sequences` found: the scores of each sequence by its name."""

    sequences: Mapping[str, Scores]

    @cached_property
    def mean(self) -> Scores:
        """The means over the sequences, with ranks of their own; intervals and tests are over the sequences."""
        first, *_ = found = list(self.sequences.values())
        own = _mean([one.input for one in found])
        clips = [_mean([one.clips[place].score for one in found]) for place in range(len(first.clips))]
        lags = [next((one.clips[place].lag for one in found if one.clips[place].lag), 0) for place in range(len(clips))]
        places = clip_ranks(own, clips, lags)
        scored = tuple(
            ScoredClip(clip.path.parent, clip.name, rank, one, lag)
            for clip, rank, one, lag in zip(first.clips, places, clips, lags, strict=True)
        )
        return replace(
            first,
            original=first.original.parent,
            frames=sum(one.frames for one in found),
            shots=sum(one.shots for one in found),
            input=own,
            references={name: _mean([one.references[name] for one in found]) for name in first.references},
            clips=scored,
            block=1,
        )

    @property
    def clips(self) -> tuple[ScoredClip, ...]:
        """The clips with their means."""
        return self.mean.clips

    @property
    def published(self) -> Table:
        """As `Scores.published`, of the means."""
        return self.mean.published

    @property
    def settings_line(self) -> str:
        """As `Scores.settings_line`."""
        sizes = {(one.settings["width"], one.settings["height"]) for one in self.sequences.values()}
        others = "" if len(sizes) == 1 else " (the first's size and patches)"
        return f"{self.mean.settings_line}; {len(self.sequences)} sequences: {', '.join(self.sequences)}{others}"

    @property
    def figures(self) -> Table:
        """A row for each sequence of the input and of each clip."""
        rows: list[list[str]] = []
        for place, clip in enumerate([CONTENT, *(clip.name for clip in self.clips)]):
            for sequence, scores in self.sequences.items():
                own = scores.shown(scores.input if place == 0 else scores.clips[place - 1].score)
                rows.append([f"{clip}: {sequence}", *own.values()])
        first, *_ = self.sequences.values()
        return Table("", ["clip", *first.shown(first.input)], rows)

    def table(self) -> str:
        """The table of the means, and that of the sequences, as text for a terminal."""
        interval = "with intervals over sequences" if len(self.sequences) > 2 else "of two no interval is given"
        means = f"Means of {len(self.sequences)} sequence{'s' * (len(self.sequences) > 1)}, {interval}"
        return f"{means}\n{self.mean.table()}\n\nBy sequence, with intervals over frames\n{self.figures.text()}"

    def latex(self) -> str:
        """The tables of the means for LaTeX; the settings are the caption."""
        return self.mean.figures.latex(self.settings_line) + "\n" + self.published.latex(self.settings_line)

    def csv(self) -> str:
        """As `Scores.csv`, with the sequence in front; the means come last, under `mean`."""
        rows: list[Row] = []
        for name, scores in {**self.sequences, "mean": self.mean}.items():
            rows += [{"sequence": name, **row} for row in scores.flat_rows()]
        return csv_text(rows)

    def json(self) -> dict[str, Json]:
        """The scores of each sequence and their means, as `Scores.json`."""
        found = {name: scores.json() for name, scores in self.sequences.items()}
        return {
            "schema": self.mean.json()["schema"],
            "settings_line": self.settings_line,
            "mean": self.mean.json(),
            "sequences": found,
        }


def score_sequences(
    originals: str | Path,
    stylized: Sequence[str | Path],
    *,
    masks: str | Path | None = None,
    flow: str | Path | None = None,
    **options: Any,
) -> SequenceScores:
    """Scores folders of sequences, such as DAVIS/JPEGImages/480p, results/mine and results/theirs.

    `originals` and each of `stylized` hold for a sequence a folder of pictures, or a video, of its name. Those
    sequences are scored that the first of `stylized` holds; `masks` and `flow` hold one folder for each.

    Args:
        options: of `score`, but for `html`.

    Raises:
        NststabError: no sequence is in all folders, or one is in some of them only; else as `score`.
    """
    if options.get("html") is not None:
        raise SettingError("html: a report is of one clip, not of folders of sequences")
    settings = ScoreSettings.of(options.pop("settings", None))
    folders, source = [Path(folder) for folder in stylized], Path(originals)
    names = sequences(source)
    if not names or not folders:
        raise NststabError(f"{source}: expected folders of pictures or videos, and a folder of clips to score")
    found = [{name: clip for name in names if (clip := sequence_clip(folder, name))} for folder in folders]
    for folder, clips in zip(folders, found, strict=True):
        if missing := [name for name in found[0] if name not in clips] or [n for n in clips if n not in found[0]]:
            raise NststabError(f"{folder}: expected the same sequences as in {folders[0]}, {missing[0]} differs")
    if not found[0]:
        raise NststabError(f"{folders[0]}: expected clips of the sequences of {source}, such as {names[0]}, found none")
    if len(found[0]) < len(names):
        log.info(f"{len(found[0])} of the {len(names)} sequences of {source} have clips")
    scored = {}
    for name in found[0]:
        log.info(f"sequence {name}")
        scores = score(
            sequence_clip(source, name) or source,
            [clips[name] for clips in found],
            masks=None if masks is None else Path(masks) / name,
            flow=None if flow is None else Path(flow) / name,
            settings=settings,
            **options,
        )
        named = zip(scores.clips, clip_names(folders), strict=True)
        scored[name] = replace(scores, clips=tuple(replace(clip, name=own) for clip, own in named))
    return SequenceScores(scored)


def _mean(scores: Sequence[ClipScore]) -> ClipScore:
    """The means of sequences, whose curves hold a number for each of them."""
    rows = [one.stability for one in scores]
    curves = Curves(
        [row.psnr for row in rows],
        [row.ssim for row in rows],
        [row.flicker for row in rows],
        {name: [row.losses[name] for row in rows] for name in rows[0].losses},
    )
    return ClipScore(
        MethodStability.of(curves, sum(row.n for row in rows)),
        {gap: mean_of_known(one.warp_errors[gap] for one in scores) for gap in scores[0].warp_errors},
        {gap: mean_of_known(one.trusted[gap] for one in scores) for gap in scores[0].trusted},
        mean_of_known(one.drift for one in scores),
        DriftSlopes(*(mean_of_known(map(abs, slopes)) for slopes in zip(*(one.slopes for one in scores), strict=True))),
        {name: [one.measures.get(name, float("nan")) for one in scores] for name in scores[0].curves},
    )
