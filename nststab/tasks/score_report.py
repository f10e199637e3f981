"""The report of `nststab score`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nststab.measure.score import ClipScore, table
from nststab.measure.stability import CONTENT
from nststab.report.colors import SERIES
from nststab.report.findings import findings
from nststab.report.html import Report, clip_scene, scene_recorder, shown_seconds, style_json
from nststab.report.recorder import SceneRecorder
from nststab.report.times import shown_times
from nststab.styles.source import style_source
from nststab.video.clip import Clip


@dataclass(frozen=True)
class ScoreReport:
    """A report in the making.

    Attributes:
        styles: as `style_json` has them.
        recorder: what is to see the frames.
    """

    source: Clip
    styles: Sequence[Mapping[str, Any]]
    recorder: SceneRecorder
    file: str

    def write(self, own: ClipScore, scores: Mapping[str, ClipScore], settings: Mapping[str, Any]) -> None:
        """Writes the report: the original's own figures, and those of the clips by their names."""
        scene = clip_scene(self.source, self.recorder, 0 if self.styles else None)
        rows = {name: score.as_row() for name, score in scores.items()}
        report = Report(
            scene.data["name"],
            self.styles,
            findings(own.as_row(), rows),
            [table(own, list(scores.items()))],
            settings,
            scenes=[scene],
        )
        unseen = list(scores)[len(self.recorder.names) - 1 :]
        if unseen:
            count = "one more clip" if len(unseen) == 1 else f"{len(unseen)} more clips"
            report.left_out.append(f"The pictures and curves of {count}: {', '.join(unseen)}.")
        report.write(self.file)


@contextmanager
def score_report(source: Clip, names: Sequence[str], options: Mapping[str, Any]) -> Iterator[ScoreReport]:
    """Records the beginning of the clips: of as many clips as there are colours.

    Raises ValueError or OSError at once where no report can be made.
    """
    styles = [] if options["style"] is None else [style_json(style_source(options["style"]))]
    times = shown_times(source, shown_seconds(options), options["limit"])
    with scene_recorder([CONTENT, *names][: len(SERIES)], times, options) as recorder:
        yield ScoreReport(source, styles, recorder, options["html"])
