"""The frames and the report of `nststab compare`."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.table import Table as RichTable
from torch import Tensor

from nststab.cli.common import print_table
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair
from nststab.measure.intervals import mean_of_known
from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings, in_step
from nststab.networks.checkpoints import Stylizer
from nststab.networks.perceptual import perceptual_name
from nststab.report.findings import findings
from nststab.report.heat import unexplained_change
from nststab.report.html import Report, clip_scene, scene_recorder, shown_seconds
from nststab.report.layout import ComparisonLayout
from nststab.report.recorder import SceneRecorder
from nststab.report.times import shown_times
from nststab.storage.tables import Table
from nststab.video.clip import Clip


@dataclass(frozen=True)
class Panels:
    """Turns the frames of a shot into the frames of the comparison, which it measures and records meanwhile."""

    stylizers: Mapping[str, Stylizer]
    meter: StabilityMeter
    layout: ComparisonLayout
    differences: bool
    flow: FlowFunction | None
    recorder: SceneRecorder | None

    def __call__(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        self.meter.start_shot()
        self.layout.start_shot()
        if self.recorder is not None:
            self.recorder.start_shot()
        before: list[Tensor] = []
        for content, made in in_step(frames, self.stylizers):
            self.meter.update(content, made)
            shown, pair = [content, *made.values()], self.meter.pair
            flow = self._flow(before[0], content) if before else None
            if self.recorder is not None:
                self.recorder.update(shown, pair, flow)
            ssims = [math.nan] * len(shown) if pair is None else [mean_of_known(values) for values in pair.ssims]
            yield self.layout.render(shown, ssims, self._changes(before, shown, flow))
            before = shown

    def _flow(self, before: Tensor, content: Tensor) -> FlowPair | None:
        """The flow between two frames, where somebody looks at it."""
        if self.flow is None or not (self.differences or (self.recorder and not self.recorder.full)):
            return None
        return FlowPair.of(self.flow(before, content), self.flow(content, before))

    def _changes(self, before: Sequence[Tensor], shown: Sequence[Tensor], flow: FlowPair | None) -> list[Tensor] | None:
        if not self.differences or flow is None:
            return None
        pairs = zip(before, shown, strict=True)
        return [unexplained_change(old, new, flow.backward, flow.trusted) for old, new in pairs]


@contextmanager
def comparison_recorder(clip: Clip, names: Sequence[str], options: Mapping[str, Any]) -> Iterator[SceneRecorder | None]:
    """Records the beginning of the comparison for its report, if --html asks for one."""
    if options["html"] is None:
        yield None
        return
    with scene_recorder(names, shown_times(clip, shown_seconds(options)), options) as recorder:
        yield recorder


def write_comparison_report(
    clip: Clip,
    styles: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Mapping[str, Any]],
    measured: StabilitySettings,
    recorder: SceneRecorder,
    flow: str,
    options: Mapping[str, Any],
) -> None:
    """Writes the report of what was recorded, with the `rows` of the whole clip.

    `styles` are as `style_json` has them; `flow` says how the flow was estimated.
    """
    patches = measured.of_frames(clip.height, clip.width)
    settings = {
        "width": clip.width,
        "height": clip.height,
        "patches": patches.count,
        "patch_size": patches.size,
        "radius": patches.radius,
        "flow": flow,
        "seed": measured.seed,
        "perceptual_network": perceptual_name(options),
    }
    scene = clip_scene(clip, recorder, style=0 if len(styles) == 1 else None)  # a blend is in the style of all
    said = findings(rows[CONTENT], {name: row for name, row in rows.items() if name != CONTENT})
    table = stability_table(rows)
    Report(scene.data["name"], styles, said, [table], settings, scenes=[scene]).write(options["html"])


def stability_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """What `MethodStability.as_row` gives, by the rows' names."""
    digits = {"psnr": 2, "ssim": 3, "flicker": 2, "style_loss": 3, "content_loss": 3}
    columns = ("", "PSNR dB", "SSIM", "flicker", "style loss", "content loss")
    return Table(
        "",
        columns,
        [[name, *(_figure(row[key], count) for key, count in digits.items())] for name, row in rows.items()],
    )


def print_stability(rows: Mapping[str, Mapping[str, Any]], stderr: bool = False) -> None:
    """`stability_table` on the terminal."""
    table, shown = stability_table(rows), RichTable()
    for title in table.columns:
        shown.add_column(title, justify="right" if title else "left")
    for row in table.rows:
        shown.add_row(*row)
    print_table(shown, stderr)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
