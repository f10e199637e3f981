"""Several methods side by side: a clip with all of them, the figures of each, and a report to look at."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Unpack

from torch import Tensor

from nststab.errors import SettingError
from nststab.flow.estimators import FlowFunction, flow_source
from nststab.flow.pairs import FlowPair
from nststab.frames import Frame, Stylizer
from nststab.listener import Listener, named, reported, silent
from nststab.measure.intervals import mean_of_known, paired_differences
from nststab.measure.rows import stability_table
from nststab.measure.settings import MeasureSettings
from nststab.measure.stability import CONTENT, MethodStability, StabilityMeter, StabilitySettings, in_step
from nststab.measure.verdict import findings
from nststab.methods.build import Around, Machine, build, losses_beside, machine
from nststab.methods.plugin import checked, load_stylizer, source_file
from nststab.methods.settings import OPTIMISERS
from nststab.metrics import unexplained_change
from nststab.networks.perceptual import perceptual_name
from nststab.report.colors import series_of
from nststab.report.html import clip_recorder, clip_report, report_flow, style_json
from nststab.report.layout import ComparisonLayout
from nststab.report.moments import KEPT
from nststab.report.recorder import SceneRecorder
from nststab.report.settings import ReportSettings, check_report
from nststab.storage.jobs import content_hash, overwrites
from nststab.storage.parts import State
from nststab.storage.tables import Json, Table, versions, without_nan
from nststab.styles.source import Style
from nststab.tasks.clip_plan import clip_work
from nststab.tasks.plan import Plan, Seconds, between, check, plan
from nststab.tasks.settings import CompareSettings
from nststab.tasks.stylize import (
    SingleSettings,
    Styles,
    by_units,
    check_engine,
    checked_clip,
    checked_output,
    chosen_settings,
    clip_identity,
    dressed,
    files_read,
    kept_output,
    opened,
    passes_folder,
    shots_of,
    styled,
)
from nststab.video.clip import Clip, convert_clip
from nststab.video.pipes import STANDARD

log = logging.getLogger(__name__)

_MEASURED = 4  # frames that a plan measures


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        output: the clip with all methods side by side, of so many `frames`.
        rows: the figures of the input, then of each method.
        settings: the style, and how it was measured, as JSON values.
    """

    output: str
    frames: int
    rows: Mapping[str, MethodStability]
    settings: Mapping[str, Json]

    @property
    def figures(self) -> Table:
        """The figures of the input, then of each method."""
        return stability_table({name: row.as_row() for name, row in self.rows.items()})

    def table(self) -> str:
        """`figures` as text for a terminal."""
        return self.figures.text()

    def markdown(self) -> str:
        """`figures` in Markdown."""
        return self.figures.markdown()

    def json(self) -> dict[str, Json]:
        """All figures, and what decides them; None stands for what could not be measured."""
        rows = {name: row.as_row() for name, row in self.rows.items()}
        found = {"settings": self.settings, "frames": self.frames, "rows": rows, "versions": versions()}
        return dict(without_nan(found))


@dataclass(frozen=True)
class Panels:
    """Turns the frames of a shot into the frames of the comparison, which it measures and records meanwhile.

    Frames that are finished as `state` says come back as they were: what was measured of them stands in it.
    """

    stylizers: Mapping[str, Stylizer]
    meter: StabilityMeter
    layout: ComparisonLayout
    differences: bool
    flow: FlowFunction | None
    recorder: SceneRecorder | None
    state: State | None
    rows: list[tuple[bool, list[float]]] = field(default_factory=list)  # of the curve: whether a shot begins, SSIMs

    def __post_init__(self) -> None:
        if self.state is not None and self.state.frames:
            kept = self.state.restored(KEPT)
            self.meter.resume(kept["meter"])
            height, width = kept["size"]
            self.layout.resume(height, width, kept["rows"])
            self.rows.extend(kept["rows"])
            if self.recorder is not None:
                self.recorder.resume(kept["recorder"], self.meter.previous)

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        before: list[Tensor] = []
        previous: Frame | None = None
        for frame, made in in_step(frames, self.stylizers):
            if self.state is not None and frame.number < self.state.frames:
                previous = frame
                yield frame
                continue
            if previous is None:
                self._start_shot()
            elif not before:
                before = self.meter.previous
            self.meter.update(frame.rgb, made)
            shown, pair = [frame.rgb, *made.values()], self.meter.pair
            flow = None if previous is None else self._flow(previous, frame)
            if self.recorder is not None:
                self.recorder.update(shown, pair, flow)
            ssims = [math.nan] * len(shown) if pair is None else [mean_of_known(values) for values in pair.ssims]
            panels = self.layout.render(shown, ssims, self._changes(before, shown, flow))
            self.rows.append((previous is None, ssims))
            if self.state is not None and self.state.is_due(frame.number + 1):
                size = [*frame.rgb.shape[-2:]]
                recorded = None if self.recorder is None else self.recorder.state()
                state = {"meter": self.meter.state(), "size": size, "rows": self.rows, "recorder": recorded}
                self.state.keep(frame.number + 1, state)
            yield frame.with_rgb(panels)
            before, previous = shown, frame

    def _start_shot(self) -> None:
        self.meter.start_shot()
        self.layout.start_shot()
        if self.recorder is not None:
            self.recorder.start_shot()

    def _flow(self, before: Frame, content: Frame) -> FlowPair | None:
        """The flow between two frames, where somebody looks at it."""
        if self.flow is None or not (self.differences or (self.recorder and not self.recorder.full)):
            return None
        return FlowPair.of(self.flow(before, content), self.flow(content, before))

    def _changes(self, before: Sequence[Tensor], shown: Sequence[Tensor], flow: FlowPair | None) -> list[Tensor] | None:
        if not self.differences or flow is None:
            return None
        pairs = zip(before, shown, strict=True)
        return [unexplained_change(old, new, flow.backward, flow.trusted) for old, new in pairs]


class CompareOptions(SingleSettings, total=False):
    """The settings of `compare` that are given by themselves, and all others together."""

    raw_size: tuple[int, int] | None
    patches: int | None
    differences: bool | None
    raw: bool | None
    settings: CompareSettings | None


def compare(
    source: str | Path,
    output: str | Path,
    *,
    style: Styles = (),
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: Mapping[str, Stylizer] = {},
    html: str | Path | None = None,
    report: ReportSettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
    on_figures: Callable[[Comparison], None] | None = None,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Stylizes `source` with several methods, and writes a clip with all of them side by side, the input first.

        print(nststab.compare("clip.mp4", "compared.mp4", style="mosaic", stylizers={"mine": my_callable}).table())

    PSNR and SSIM compare corresponding patches of adjacent frames (Gupta et al. 2017, section 5.3); the input's own are
    beside them. Flicker is the mean change, in levels of 255, where the input stands still. Stability counts only
    beside the style and content loss of the same frames: a blurred or unstylized clip is stable too.

    Args:
        output: a video, a folder of pictures (ends in a slash), or `-` for y4m on standard output (`raw`: rgb24).
        style: a shipped style, a folder, a picture or a checkpoint; several are blended.
        methods: of ours, and any of one's own as `module:callable`, which `load_stylizer` finds.
        stylizers: more methods of one's own by the names that tables and the report call them.
        html: a report to write, as large as `report` says. It and `differences` follow the motion by the flow that
            ruder uses, or that the settings name, else by a quick one.
        overwrite: replace what stands at `output`.
        on_figures: gets the result before the report is written, which may fail.
        options: settings by themselves, or all of them as `settings`.

    Raises:
        SettingError: settings contradict each other, or a method has no name of its own. NststabError, OSError:
            something cannot be read or written, or there is not enough memory.
    """
    settings, report = chosen_settings(CompareSettings, options), report or ReportSettings()
    plugins = {**{name: load_stylizer(name) for name in methods if ":" in name}}
    plugins |= {name: checked(name, one) for name, one in stylizers.items()}
    own = tuple(name for name in methods if name not in plugins)
    names = list(dict.fromkeys([*methods, *stylizers]))
    if CONTENT in names:
        raise SettingError(f"{CONTENT!r} is the name of the input; a method needs another one")
    looked_at = html is not None or settings.differences
    _check_settings(settings, own, looked_at)
    chosen = styled(style, settings)
    clip, kind = checked_clip(source, output, settings)
    if html is not None:
        check_report(html, [clip.path])
        if clip.kind == "picture":
            raise SettingError(f"html: {source} is a picture, in which nothing changes from frame to frame")
    where = machine(settings.device, settings.precision, settings.engine)
    resumes = not stylizers and clip.is_seekable and kind != "picture" and Path(output) != STANDARD
    mine = resumes and overwrites(Path(output))
    checked_output(output, files_read(settings, chosen.sources), raw=settings.raw, overwrite=overwrite or mine)
    if own:  # of others nothing is known
        check(clip_work(clip, str(output), own, chosen, settings, where, 1 + len(names)))
    flow_asked = "ruder" in own or any(one.name.startswith("flow.") for one in settings.given())
    source_of_flow = flow_source(settings.flow) if flow_asked else None
    if source_of_flow is not None:
        source_of_flow.require_size(clip.height, clip.width)
    side = max(clip.width, clip.height)
    meter, layout = _measuring(clip, chosen, names, settings, where)
    pictures = [style_json(one) for one in chosen.sources] if html is not None else []
    function, flow_name = report_flow(source_of_flow) if looked_at else (None, "")
    identity = None
    if resumes:
        identity = clip_identity(
            clip,
            settings,
            methods={name: content_hash(source_file(name)) if ":" in name else None for name in names},
            device=where.device.type,
            arithmetic=where.precision,
            engine=where.engine,
            style=[source.identity(names) for source in chosen.sources],
            html=None if html is None else [report.size, str(report.seconds)],
        )
    with (
        kept_output(clip, output, identity, overwrite=overwrite) as kept,
        clip_recorder(clip, [CONTENT, *names], html, report, folder=kept.job.folder if kept.job else None) as recorder,
    ):
        with (
            passes_folder(kept.job, settings.ruder.passes) as folder,
            reported(progress, "compare", clip.frame_count) as advance,
        ):

            def iteration(number: int, terms: dict[str, float]) -> None:
                advance(note=f"{number}: {named(terms)}")

            def stylizer(name: str) -> Stylizer:
                if name in plugins:
                    return plugins[name]
                state = None if settings.deflicker else kept.state(name)
                keep = kept.job.keep if kept.job else None
                around = Around(iteration=iteration, keep=keep, state=state, folder=folder)
                return build(
                    name, chosen, settings, longest_side=settings.work_side(side), machine=where, around=around
                )

            built = {name: dressed(stylizer(name), clip, settings, chosen) for name in names}
            panels = Panels(built, meter, layout, settings.differences, function, recorder, kept.state("measured"))
            replayed = any(name in OPTIMISERS for name in own)  # what they kept is read from the first frame on
            result = convert_clip(
                clip,
                kept.output,
                by_units(panels, shots_of(settings), replace(kept, parts=None) if replayed else kept),
                audio=settings.audio,
                raw=settings.raw,
                parts=kept.parts,
                progress=lambda done, total: advance(done, total),
            )
        kept.publish()
        for note in result.notes:
            log.warning(note)
        decisive: dict[str, Json] = {"style": [one.text for one in chosen.sources]}
        decisive |= _decisive(clip, meter.settings, flow_name, settings.measured)
        if settings.deflicker:
            decisive["deflicker"] = settings.deflicker
        comparison = Comparison(str(output), result.frames, meter.result(), decisive)
        if on_figures is not None:
            on_figures(comparison)
        if recorder is not None and html is not None:
            rows = {name: row.as_row() for name, row in comparison.rows.items()}
            curves = {name: comparison.rows[name].curves.ssim for name in names}
            said = findings(rows.pop(CONTENT), rows, paired_differences(curves, settings.gatys.seed))
            figures, maker = [comparison.figures], "nststab.compare"
            clip_report(clip, recorder, pictures, said, figures, decisive, report, maker).write(html)
    return comparison


def plan_compare(
    source: str | Path,
    output: str | Path,
    *,
    style: Styles = (),
    methods: Sequence[str] = ("independent", "recurrent"),
    **options: Unpack[CompareOptions],
) -> Plan:
    """What a comparison will take; of methods of one's own nothing is known."""
    settings, own = chosen_settings(CompareSettings, options), tuple(name for name in methods if ":" not in name)
    if others := [name for name in methods if name not in own]:
        unknown = f"of {', '.join(others)} nothing is known that could be planned"
        if not own:
            raise SettingError(unknown)
        log.warning(unknown)
    chosen = styled(style, settings)
    clip, where = opened(source, settings), machine(settings.device, settings.precision, settings.engine)
    work = clip_work(clip, str(output), own, chosen, settings, where, 1 + len(methods))

    def measured() -> Seconds:
        meter, layout = _measuring(clip, chosen, methods, settings, where)
        function = report_flow(None)[0] if settings.differences else None
        stylizers = dict.fromkeys(methods, _mirrored)
        panels = Panels(stylizers, meter, layout, settings.differences, function, None, None)
        return Seconds.of(between([time.monotonic() for _ in panels(islice(clip.frames(), _MEASURED))]))

    return plan(replace(work, others=(*work.others, measured)) if clip.is_seekable else work)


def _mirrored(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames that are others than the input's, of which less is measured."""
    return (frame.with_rgb(frame.rgb.flip(3)) for frame in frames)


def _measuring(
    clip: Clip, style: Style, names: Sequence[str], settings: CompareSettings, where: Machine
) -> tuple[StabilityMeter, ComparisonLayout]:
    """What measures the frames of methods, and what lays them out."""
    shown, side = [CONTENT, *names], max(clip.width, clip.height)
    losses = losses_beside(style, settings.gatys, side, where, settings.gatys.style_scale)
    meter = StabilityMeter(StabilitySettings(settings.patches, seed=settings.gatys.seed), losses)
    return meter, ComparisonLayout(shown, series_of(shown), clip.frame_count, settings.differences)


def _check_settings(settings: CompareSettings, methods: Sequence[str], looked_at: bool) -> None:
    """Raises SettingError for what neither a method nor the measurement reads."""
    measured = [f"gatys.{name}" for name in ("seed", "network", "vgg_weights", "style_scale")]
    settings.check(methods, [*measured, "flow"] if looked_at else measured)
    check_engine(settings, methods)
    if settings.memory is not None:
        raise SettingError("memory has no effect on a comparison")


def _decisive(clip: Clip, measured: StabilitySettings, flow: str, settings: MeasureSettings) -> dict[str, Json]:
    patches = measured.of_frames(clip.height, clip.width)
    return {
        "width": clip.width,
        "height": clip.height,
        "patches": patches.count,
        "patch_size": patches.size,
        "radius": patches.radius,
        "flow": flow,
        "seed": settings.seed,
        "perceptual_network": perceptual_name(settings.perceptual),
    }
