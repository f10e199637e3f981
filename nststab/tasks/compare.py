"""Several methods side by side: a clip with all of them, the figures of each, and a report to look at."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from nststab.color import PreserveColor
from nststab.errors import NststabError, SettingError
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair
from nststab.frames import Frame, Stylizer
from nststab.listener import Listener, reported, silent
from nststab.measure.intervals import mean_of_known
from nststab.measure.rows import stability_table
from nststab.measure.settings import MeasureSettings
from nststab.measure.stability import CONTENT, MethodStability, StabilityMeter, StabilitySettings, in_step
from nststab.methods.build import OptimizerOptions, machine, measuring_losses, stylizer
from nststab.methods.plugin import checked, load_stylizer
from nststab.metrics import unexplained_change
from nststab.networks.perceptual import perceptual_name
from nststab.report.colors import series_of
from nststab.report.findings import findings
from nststab.report.html import Report, clip_scene, report_flow, scene_recorder, style_json
from nststab.report.layout import ComparisonLayout
from nststab.report.recorder import SceneRecorder, shown_times
from nststab.report.settings import ReportSettings, check_report
from nststab.shots import by_shot
from nststab.storage.tables import Json, Table, versions, without_nan
from nststab.styles.source import Style, chosen_style
from nststab.tasks.clip_plan import clip_work
from nststab.tasks.plan import Plan, check, plan
from nststab.tasks.stylize import passes_folder
from nststab.video.clip import Clip, RawFormat, check_output, convert_clip, open_clip
from nststab.video.timing import Seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        output: the clip with all methods side by side, of so many `frames`.
        rows: the figures of the input, which nothing can surpass honestly, then of each method.
        settings: all that decides the figures, as JSON values.
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
    """Turns the frames of a shot into the frames of the comparison, which it measures and records meanwhile."""

    stylizers: Mapping[str, Stylizer]
    meter: StabilityMeter
    layout: ComparisonLayout
    differences: bool
    flow: FlowFunction | None
    recorder: SceneRecorder | None

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        self.meter.start_shot()
        self.layout.start_shot()
        if self.recorder is not None:
            self.recorder.start_shot()
        before: list[Tensor] = []
        previous: Frame | None = None
        for frame, made in in_step(frames, self.stylizers):
            self.meter.update(frame.rgb, made)
            shown, pair = [frame.rgb, *made.values()], self.meter.pair
            flow = None if previous is None else self._flow(previous, frame)
            if self.recorder is not None:
                self.recorder.update(shown, pair, flow)
            ssims = [math.nan] * len(shown) if pair is None else [mean_of_known(values) for values in pair.ssims]
            yield frame.with_rgb(self.layout.render(shown, ssims, self._changes(before, shown, flow)))
            before, previous = shown, frame

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


def compare(
    source: str | Path,
    output: str | Path,
    *,
    style: str | Sequence[str],
    methods: Sequence[str] = ("independent", "recurrent"),
    stylizers: Mapping[str, Stylizer] = {},
    size: int | None = None,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    fps: Seconds | None = None,
    raw_size: tuple[int, int] | None = None,
    differences: bool = False,
    preserve_color: bool = False,
    audio: bool = True,
    raw: bool = False,
    html: str | Path | None = None,
    report: ReportSettings | None = None,
    device: str = "auto",
    precision: str = "auto",
    style_weights: Sequence[float] | None = None,
    optimizer: OptimizerOptions | None = None,
    flow_is_asked: bool = False,
    settings: MeasureSettings | None = None,
    progress: Listener = silent,
    on_figures: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Stylizes `source` with several methods, and writes a clip with all of them side by side, the input first.

        print(nststab.compare("clip.mp4", "compared.mp4", style="mosaic", stylizers={"mine": my_callable}).table())

    PSNR and SSIM compare corresponding patches of adjacent frames (Gupta et al. 2017, section 5.3); the input's own are
    the ceiling. Flicker is the mean change, in levels of 255, where the input stands still. Stability counts only
    beside the style and content loss of the same frames: a blurred or unstylized clip is stable too.

    Args:
        output: a video, a folder of pictures (ends in a slash), or `-` for y4m on standard output (`raw`: rgb24).
        style: a shipped style, a folder, a picture or a checkpoint; several are blended by `style_weights`.
        methods: of ours, and any of one's own as `module:callable`, which `load_stylizer` finds.
        stylizers: more methods of one's own by the names that tables and the report call them.
        size: the longest side of a panel in pixels; by default the clip's own.
        start, duration, fps: the part of the clip, in seconds and frames per second.
        raw_size: width and height of what comes from standard input as bare rgb24 frames.
        differences: shows below each clip what changes and motion does not explain.
        html: a report to write, as large as `report` says.
        flow_is_asked: follow the motion by `optimizer.flow`, which ruder uses, also where no method does.
        on_figures: gets the result before the report is written, which may fail.

    Raises:
        SettingError: settings contradict each other, or a method has no name of its own.
        NststabError, OSError: something cannot be read or written, or there is not enough memory.
    """
    settings, report = settings or MeasureSettings(), report or ReportSettings()
    optimizer = optimizer or OptimizerOptions()
    plugins = {**{name: load_stylizer(name) for name in methods if ":" in name}}
    plugins |= {name: checked(name, one) for name, one in stylizers.items()}
    own = tuple(name for name in methods if name not in plugins)
    names = list(dict.fromkeys([*methods, *stylizers]))
    series = series_of([CONTENT, *names])
    if CONTENT in names:
        raise SettingError(f"{CONTENT!r} is the name of the input; a method needs another one")
    frames_of_pipe = None if raw_size is None else RawFormat(*raw_size, *([] if fps is None else [Fraction(fps)]))
    clip = open_clip(source, size, start=start, duration=duration, fps=fps, raw=frames_of_pipe)
    try:
        check_output(clip, output)
    except NststabError as error:
        raise SettingError(str(error)) from error
    if html is not None:
        check_report(html, [clip.path])
        if clip.kind == "picture":
            raise SettingError(f"--html shows what changes from frame to frame, {source} is a picture")
    where = machine(device, precision)
    chosen = chosen_style([style] if isinstance(style, str) else style, style_weights)
    _refuse_writing_over(chosen, output)
    if own:  # of others nothing is known
        check(clip_work(clip, str(output), own, chosen, optimizer.settings(), where, 1 + len(names)))
    optimizer.flow.require_size(clip.height, clip.width)
    side = max(clip.width, clip.height)
    asked = {"network": settings.network, "vgg_weights": settings.vgg_weights}
    losses = measuring_losses(chosen, asked, side, where, optimizer.style_scale)
    meter = StabilityMeter(StabilitySettings(settings.patches, seed=settings.seed), losses)
    layout = ComparisonLayout([CONTENT, *names], series, clip.frame_count, differences)
    looked_at, flow = html is not None or differences, optimizer.flow if "ruder" in own or flow_is_asked else None
    pictures = [style_json(one) for one in chosen.sources] if html is not None else []
    function, flow_name = report_flow(flow) if looked_at else (None, "")
    with _recorder(clip, [CONTENT, *names], html is not None, report) as recorder:
        with (
            passes_folder(None, optimizer.passes) as folder,
            reported(progress, "compare", clip.frame_count) as advance,
        ):

            def iteration(number: int, terms: dict[str, float]) -> None:
                advance(note=f"{number}: " + "  ".join(f"{name} {value:.4g}" for name, value in terms.items()))

            built = {
                name: plugins[name]
                if name in plugins
                else stylizer(name, chosen, optimizer, side, where, iteration, folder=folder)
                for name in names
            }
            if preserve_color:
                built = {name: PreserveColor(one) for name, one in built.items()}
            panels = Panels(built, meter, layout, differences, function, recorder)

            result = convert_clip(
                clip,
                output,
                (lambda frames: by_shot(panels, frames)) if settings.cuts else panels,
                audio=audio,
                raw=raw,
                progress=lambda done, total: advance(done, total),
            )
        for note in result.notes:
            log.warning(note)
        decisive = _decisive(clip, meter.settings, flow_name, settings)
        comparison = Comparison(str(output), result.frames, meter.result(), decisive)
        if on_figures is not None:
            on_figures(comparison)
        if recorder is not None and html is not None:
            _write_report(comparison, clip, pictures, recorder, report, html)
    return comparison


def plan_compare(
    source: str | Path,
    output: str | Path,
    *,
    style: str | Sequence[str],
    methods: Sequence[str],
    optimizer: OptimizerOptions,
    device: str,
    precision: str,
    style_weights: Sequence[float] | None = None,
    **part: Any,
) -> Plan:
    """What a comparison will take; of methods of one's own nothing is known. part: as `open_clip` takes it."""
    own, where = tuple(name for name in methods if ":" not in name), machine(device, precision)
    clip, chosen = open_clip(source, **part), chosen_style([style] if isinstance(style, str) else style, style_weights)
    return plan(clip_work(clip, str(output), own, chosen, optimizer.settings(), where, 1 + len(methods)))


def _refuse_writing_over(style: Style, output: str | Path) -> None:
    path = Path(output)
    for source in style.sources:
        if path.is_file() and Path(source.text).is_file() and path.samefile(source.text):
            raise SettingError(f"{path} is read by this command; write to another name")


@contextmanager
def _recorder(clip: Clip, names: Sequence[str], wanted: bool, report: ReportSettings) -> Iterator[SceneRecorder | None]:
    """Records the beginning of the comparison, if there is to be a report."""
    if not wanted:
        yield None
        return
    with scene_recorder(names, shown_times(clip, report.seconds), report.size) as recorder:
        yield recorder


def _decisive(clip: Clip, measured: StabilitySettings, flow: str, settings: MeasureSettings) -> dict[str, Json]:
    """What decides the figures."""
    patches = measured.of_frames(clip.height, clip.width)
    return {
        "width": clip.width,
        "height": clip.height,
        "patches": patches.count,
        "patch_size": patches.size,
        "radius": patches.radius,
        "flow": flow,
        "seed": settings.seed,
        "perceptual_network": perceptual_name({"network": settings.network, "vgg_weights": settings.vgg_weights}),
    }


def _write_report(
    comparison: Comparison,
    clip: Clip,
    styles: Sequence[Mapping[str, Any]],
    recorder: SceneRecorder,
    report: ReportSettings,
    html: str | Path,
) -> None:
    """The report of what was recorded, with the figures of the whole clip."""
    scene = clip_scene(clip, recorder, style=0 if len(styles) == 1 else None)  # a blend is in the style of all
    rows = {name: row.as_row() for name, row in comparison.rows.items()}
    said = findings(rows.pop(CONTENT), rows)
    page = Report(scene.data["name"], styles, said, [comparison.figures], comparison.settings, scenes=[scene])
    page.maker, page.command = report.maker or "nststab.compare", report.command
    page.write(html)
