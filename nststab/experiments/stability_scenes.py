"""What `nststab evaluate stability --html` shows: scenes of styles and sequences, as many as a mail takes."""

import itertools
import logging
import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from nststab.cli.common import frames_of, progress
from nststab.cli.html import report_settings
from nststab.flow.estimators import ESTIMATORS, FlowFunction
from nststab.flow.pairs import flow_ahead
from nststab.frames import as_frames
from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings
from nststab.methods.build import OptimizerOptions
from nststab.metrics import Patches
from nststab.report.findings import findings
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
from nststab.storage.tables import Row, Table
from nststab.styles.source import StyleSource
from nststab.video.images import read_picture, write_picture
from nststab.video.timing import PICTURE_RATE

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What a report needs besides what is measured: the styles as `style_json` has them, the flow, its name."""

    styles: list[dict[str, Any]]
    flow: FlowFunction
    flow_name: str


def prepared(styles: Mapping[str, StyleSource], optimizer: OptimizerOptions, options: Mapping[str, Any]) -> Prepared:
    """Looks for all of it; raises ValueError or OSError for what is missing."""
    require_report()
    methods = options["methods"]
    asked = "ruder" in methods or any(options.get(name) for name in ("flow", "flow_method", "flow_cache"))
    flow, name = report_flow(optimizer.flow if asked else None)
    return Prepared([style_json(source) for source in styles.values()], flow, name)


class Clip(Protocol):
    """The first frames of a sequence."""

    @property
    def name(self) -> str: ...
    @property
    def frames(self) -> int: ...
    def content(self) -> Iterator[Tensor]: ...


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
            log.info(
                f"{part}: the report needs {frames_of(wanted)} that an earlier run did not keep; stylizing them again"
            )
            shutil.rmtree(self._folder / part, ignore_errors=True)
            with closing(make()) as frames:
                for _ in itertools.islice(self.keep(part, frames), wanted):
                    pass
        return (read_picture(path).rgb for path in paths)


@dataclass(frozen=True)
class Scenes:
    """Makes the scenes of an experiment.

    Attributes:
        made: what a candidate makes of a clip, its kept frames.
        patches: of a clip's pairs, as the experiment found them.
    """

    clips: Sequence[Clip]
    styles: Sequence[str]
    methods: Sequence[str]
    made: Callable[[str, str, Clip], Iterator[Tensor]]
    patches: Callable[[Any], list[Patches]]
    settings: StabilitySettings
    flow: FlowFunction
    options: Mapping[str, Any]

    def of(self, style: str, clip: Clip) -> Scene:
        """A clip beside what the methods made of it in a style."""
        shown = min(clip.frames, most_frames(self.options))
        times = [(number / PICTURE_RATE, 1 / PICTURE_RATE) for number in range(shown)]
        streams = [self.made(style, method, clip) for method in self.methods]
        meter = StabilityMeter(self.settings, patches=self.patches(clip))
        content = itertools.islice(clip.content(), shown)
        with (
            scene_recorder([CONTENT, *self.methods], times, report_settings(self.options).size) as recorder,
            closing(flow_ahead(as_frames(content), self.flow)) as frames,
        ):
            for frame, flows in frames:
                made = [next(stream) for stream in streams]
                meter.update(frame.rgb, dict(zip(self.methods, made, strict=True)))
                recorder.update([frame.rgb, *made], meter.pair, flows.get(1))
            name = f"{clip.name}, {style}" if len(self.styles) > 1 else clip.name
            note = f"the first {shown} of {clip.frames} frames" if shown < clip.frames else ""
            return make_scene(name, recorder, ESTIMATORS[QUICK], self.styles.index(style), note)


def most_frames(options: Mapping[str, Any]) -> int:
    """How many frames of a sequence a report shows at most: --html-seconds of it, at the rate of pictures."""
    return max(2, math.ceil(report_settings(options).seconds * PICTURE_RATE))


def write_stability_report(
    scenes: Scenes,
    styles: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    means: Sequence[Row],
    table: Table,
    settings: Mapping[str, Any],
) -> None:
    """Writes the report with as many scenes as `MOST_BYTES` hold: first where methods differ most, then least."""
    figures = {row["method"]: row for row in means}
    said = findings(figures[CONTENT], {method: figures[method] for method in scenes.methods})
    title = ", ".join(clip.name for clip in scenes.clips) if len(scenes.clips) < 4 else f"{len(scenes.clips)} sequences"
    asked = report_settings(scenes.options)
    report = Report(title, styles, said, [table], settings, maker=asked.maker, command=asked.command)
    wanted = list(itertools.product(scenes.styles, scenes.clips))
    found: dict[tuple[str, str], Scene] = {}
    size = len(report.html())
    with progress("report", len(wanted)) as advance:
        for style, clip in _telling(wanted, rows, scenes.methods):
            scene = scenes.of(style, clip)
            size += scene.bytes
            if found and size > MOST_BYTES:
                break
            found[style, clip.name] = scene
            advance(len(found))
    report.scenes += [found[style, clip.name] for style, clip in wanted if (style, clip.name) in found]
    missing = [f"{clip.name} in {style}" for style, clip in wanted if (style, clip.name) not in found]
    if missing:
        report.left_out.append(
            f"{len(missing)} of {len(wanted)} scenes, to stay below {MOST_BYTES / 1e6:.0f} MB: {', '.join(missing)}."
        )
    report.write(scenes.options["html"])


def _telling(wanted: Sequence[tuple[str, Clip]], rows: Sequence[Row], methods: Sequence[str]) -> list[tuple[str, Clip]]:
    """First where the methods' SSIM differs most and where it differs least, then the others."""
    ssims: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["method"] in methods:
            for one in row["sequences"]:
                ssims.setdefault((row["style"], one["sequence"]), []).append(one["ssim"])

    def spread(pair: tuple[str, Clip]) -> float:
        known = [value for value in ssims[pair[0], pair[1].name] if not math.isnan(value)]
        return max(known) - min(known) if known else 0.0

    ranked = sorted(wanted, key=spread, reverse=True)
    return [ranked[0], *([ranked[-1]] if len(ranked) > 1 else []), *ranked[1:-1]]
