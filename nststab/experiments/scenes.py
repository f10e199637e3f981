"""The report of Table 1: scenes of styles and sequences, as many as a mail takes."""

import itertools
import logging
import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from nststab.experiments.cast import part_name
from nststab.experiments.runner import Results, Work
from nststab.flow.estimators import ESTIMATORS, flow_source
from nststab.flow.pairs import flow_ahead
from nststab.frames import as_frames
from nststab.listener import Listener, reported, silent
from nststab.measure.intervals import paired_differences
from nststab.measure.rows import sequence_means
from nststab.measure.stability import CONTENT, StabilityMeter, patches_of
from nststab.measure.verdict import findings
from nststab.report.html import (
    MOST_BYTES,
    QUICK,
    Report,
    report_flow,
    require_report,
    scene_recorder,
    style_json,
)
from nststab.report.scene import Scene, make_scene
from nststab.report.settings import ReportSettings
from nststab.storage.tables import Row
from nststab.video.images import read_picture, write_picture
from nststab.video.timing import PICTURE_RATE

if TYPE_CHECKING:
    from nststab.experiments.stability import Clip, Table1

log = logging.getLogger(__name__)


class KeptFrames:
    """The first `count` frames of what candidates made of sequences, as pictures in folders of `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count

    def keep(self, part: str, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """The frames, which are kept as they pass by."""
        folder = self._folder / part
        folder.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(frames):
            if number < self._count:
                write_picture(folder / f"{number:06d}.png", frame)
            yield frame

    def read(self, part: str, count: int, make: Callable[[], Generator[Tensor, None, None]]) -> Iterator[Tensor]:
        """The kept frames of a sequence of `count`; made again where an earlier run did not keep them."""
        wanted = min(count, self._count)
        paths = [self._folder / part / f"{number:06d}.png" for number in range(wanted)]
        if not all(path.is_file() for path in paths):
            log.info(f"{part}: the report needs {wanted} frames that no earlier run kept; stylizing them again")
            shutil.rmtree(self._folder / part, ignore_errors=True)
            with closing(make()) as frames:
                for _ in itertools.islice(self.keep(part, frames), wanted):
                    pass
        return (read_picture(path).rgb for path in paths)


class StabilityReport:
    """The report of an experiment; what it needs is looked for when it is made, before hours of work.

    Raises ValueError or OSError for what is missing.
    """

    def __init__(
        self, experiment: "Table1", html: str | Path, settings: ReportSettings, progress: Listener = silent
    ) -> None:
        require_report()
        self._experiment, self._html, self._settings, self._progress = experiment, html, settings, progress
        cast, asked = experiment.cast, experiment.settings
        own_flow = "ruder" in cast.methods or asked.flow_cache or asked.flow_method != "deepflow"
        self._flow, self._flow_name = report_flow(flow_source(cast.methods_settings().flow) if own_flow else None)
        self._styles = [style_json(source) for source in cast.sources.values()]

    @property
    def most_frames(self) -> int:
        """How many frames of a sequence it shows at most, at the rate of pictures."""
        return max(2, math.ceil(self._settings.seconds * PICTURE_RATE))

    def write(self, results: Results, work: Work) -> None:
        """Writes the report with as many scenes as `MOST_BYTES` hold: first where methods differ most, then least."""
        experiment = self._experiment
        methods, clips = experiment.cast.methods, list(experiment.clips.values())
        figures = {row["method"]: row for row in results.more["means"]}
        ssims = {m: sequence_means([row for row in results.rows if row["method"] == m], "ssim") for m in methods}
        differences = paired_differences(ssims, experiment.settings.seed, block=1)
        said = findings(figures[CONTENT], {method: figures[method] for method in methods}, differences)
        title = ", ".join(clip.name for clip in clips) if len(clips) < 4 else f"{len(clips)} sequences"
        settings = {**results.settings, "flow_method": self._flow_name}
        asked = self._settings
        report = Report(title, self._styles, said, [results.shown], settings, maker=asked.maker, command=asked.command)
        wanted = list(itertools.product(experiment.cast.texts, clips))
        found: dict[tuple[str, str], Scene] = {}
        size = len(report.html())
        with reported(self._progress, "report", len(wanted)) as advance:
            for style, clip in _telling(wanted, results.rows, methods):
                scene = self._scene(style, clip, work)
                size += scene.bytes
                if found and size > MOST_BYTES:
                    break
                found[style, clip.name] = scene
                advance(len(found))
        report.scenes += [found[style, clip.name] for style, clip in wanted if (style, clip.name) in found]
        missing = [f"{clip.name} in {style}" for style, clip in wanted if (style, clip.name) not in found]
        if missing:
            left_out = f"{len(missing)} of {len(wanted)} scenes, to stay below {MOST_BYTES / 1e6:.0f} MB"
            report.left_out.append(f"{left_out}: {', '.join(missing)}.")
        report.write(self._html)

    def _scene(self, style: str, clip: "Clip", work: Work) -> Scene:
        """A clip beside what the methods made of it in a style."""
        experiment = self._experiment
        styles, methods = list(experiment.cast.texts), experiment.cast.methods
        shown = min(clip.frames, self.most_frames)
        times = [(number / PICTURE_RATE, 1 / PICTURE_RATE) for number in range(shown)]
        assert work.shown is not None
        kept = KeptFrames(work.shown, self.most_frames)

        def stream(method: str) -> Iterator[Tensor]:
            name = part_name(style, method, clip.name)
            return kept.read(name, clip.frames, lambda: experiment.again(style, method, clip, work.of(name)))

        streams = [stream(method) for method in methods]
        meter = StabilityMeter(experiment.protocol, patches=patches_of(work.finished(f"patches {clip.name}")))
        content = itertools.islice(clip.content(), shown)
        with (
            scene_recorder([CONTENT, *methods], times, self._settings.size) as recorder,
            closing(flow_ahead(as_frames(content), self._flow)) as frames,
        ):
            for frame, flows in frames:
                made = [next(stream) for stream in streams]
                meter.update(frame.rgb, dict(zip(methods, made, strict=True)))
                recorder.update([frame.rgb, *made], meter.pair, flows.get(1))
            name = f"{clip.name}, {style}" if len(styles) > 1 else clip.name
            note = f"the first {shown} of {clip.frames} frames" if shown < clip.frames else ""
            return make_scene(name, recorder, ESTIMATORS[QUICK], styles.index(style), note)


def _telling(
    wanted: "Sequence[tuple[str, Clip]]", rows: Sequence[Row], methods: Sequence[str]
) -> "list[tuple[str, Clip]]":
    """First where the methods' SSIM differs most and where it differs least, then the others."""
    ssims: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["method"] in methods:
            for one in row["sequences"]:
                ssims.setdefault((row["style"], one["sequence"]), []).append(one["ssim"])

    def spread(pair: "tuple[str, Clip]") -> float:
        known = [value for value in ssims[pair[0], pair[1].name] if not math.isnan(value)]
        return max(known) - min(known) if known else 0.0

    ranked = sorted(wanted, key=spread, reverse=True)
    return [ranked[0], *([ranked[-1]] if len(ranked) > 1 else []), *ranked[1:-1]]
