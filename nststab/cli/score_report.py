"""The report of `nststab score`."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from nststab.cli.html_report import Report, scene_recorder, shown_seconds
from nststab.cli.style_source import style_source
from nststab.evaluate.score import ClipScore, table
from nststab.evaluate.stability import CONTENT
from nststab.report.colors import SERIES
from nststab.report.findings import findings
from nststab.report.recorder import SceneRecorder
from nststab.report.scene import Scene
from nststab.report.times import shown_times
from nststab.video import Clip


def score_recorder(
    source: Clip, names: Sequence[str], options: Mapping[str, Any]
) -> AbstractContextManager[SceneRecorder]:
    """Records the beginning of the clips for the report: of as many clips as there are colours."""
    times = shown_times(source, shown_seconds(options), options["limit"])
    return scene_recorder([CONTENT, *names][: len(SERIES)], times, options)


def write_score_report(
    scene: Scene,
    own: ClipScore,
    scores: Mapping[str, ClipScore],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Writes the report: the original's own figures, and those of the clips by their names."""
    report = Report(
        scene.data["name"],
        [] if options["style"] is None else [style_source(options["style"])],
        findings({CONTENT: own.as_row(), **{name: score.as_row() for name, score in scores.items()}}),
        [table(own, list(scores.items()))],
        settings,
        scenes=[scene],
    )
    unseen = list(scores)[len(scene.data["clips"]) - 1 :]
    if unseen:
        report.left_out.append(f"The pictures and curves of {len(unseen)} more clips: {', '.join(unseen)}.")
    report.write(options["html"])
