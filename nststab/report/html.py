"""Builds the file of --html from what a command recorded and found."""

import datetime
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from nststab.cli.clips import FrameSize, told_names
from nststab.cli.html import SECONDS, SIZE
from nststab.flow.estimators import ESTIMATORS, FlowFunction, require_estimator
from nststab.methods.build import OptimizerOptions
from nststab.report.page import report_html
from nststab.report.recorder import MEASURES, SceneRecorder
from nststab.report.scene import Scene, data_uri, make_scene
from nststab.report.times import Times
from nststab.storage.durable import write_durably
from nststab.storage.tables import Table, versions, without_nan
from nststab.styles.shipped import style_in
from nststab.styles.source import StyleSource
from nststab.video.clip import Clip, needs_av
from nststab.video.images import read_picture, resize

log = logging.getLogger(__name__)

MOST_BYTES = 15_000_000  # of a file that goes by mail
_THUMBNAIL = 160  # pixels
QUICK = "dis"
"""The flow that is looked for where none was computed."""


def shown_seconds(options: Mapping[str, Any]) -> Fraction:
    """What --html-seconds says."""
    return Fraction(SECONDS) if options["html_seconds"] is None else Fraction(options["html_seconds"])


def require_report() -> None:
    """Raises OSError, which says what to install, where no report can be made."""
    require_estimator(QUICK)
    with needs_av():
        import nststab.video.embedded  # noqa: F401


@contextmanager
def scene_recorder(names: Sequence[str], times: Times, options: Mapping[str, Any]) -> Iterator[SceneRecorder]:
    """Records in a folder that goes with the block. Raises as `require_report`."""
    require_report()
    with TemporaryDirectory(prefix="nststab_") as folder:
        yield SceneRecorder(names, times, Path(folder), options["html_size"] or SIZE)


def report_flow(methods: Sequence[str], options: Mapping[str, Any], optimizer: OptimizerOptions) -> FlowFunction:
    """The flow that ruder uses, or that was asked for; else a quick one. OSError where it cannot be estimated here."""
    if _takes_its_flow(methods, options):
        return optimizer.flow.function()
    require_estimator(QUICK)
    return ESTIMATORS[QUICK]


def report_flow_name(methods: Sequence[str], options: Mapping[str, Any], optimizer: OptimizerOptions) -> str:
    """How the flow of `report_flow` is estimated, as --flow-method names it; "files" where it is read."""
    if not _takes_its_flow(methods, options):
        return QUICK
    return optimizer.flow.method if optimizer.flow.files is None else "files"


def _takes_its_flow(methods: Sequence[str], options: Mapping[str, Any]) -> bool:
    return "ruder" in methods or any(options.get(name) for name in ("flow", "flow_method", "flow_cache"))


def clip_scene(clip: Clip, recorder: SceneRecorder, style: int | None) -> Scene:
    """The scene of a whole clip; `style` is its number in the report."""
    aspect = Fraction(1) if clip.source is None else clip.source.aspect
    (name,) = told_names([clip.path])
    name = Path(name).stem if clip.path.is_file() else name
    return make_scene(name, recorder, ESTIMATORS[QUICK], style, _length_note(recorder), aspect)


def _length_note(recorder: SceneRecorder) -> str:
    """How much of the measured frames a report shows, where that is not all."""
    shown = recorder.times
    if recorder.passed == len(shown):
        return ""
    return f"the first {float(sum(shown[-1])):.1f} s: {len(shown)} of {recorder.passed} frames"


def style_json(source: StyleSource) -> dict[str, Any]:
    """The style as a page shows it: its name, a small picture where there is one, and what its card says.

    Raises ValueError or OSError where the picture cannot be read: take it before any work.
    """
    style = None if source.folder is None else style_in(source.folder)
    card = {} if style is None else style.card
    path = source.picture or source.shipped
    picture = None if path is None else resize(read_picture(path).rgb, _THUMBNAIL)
    text = [str(card[key]) for key in ("title", "artist", "year") if card.get(key) not in (None, "", "unknown")]
    name = Path(source.text).stem if style is None else style.name
    if [part.lower().replace(" ", "_") for part in text] == [name]:  # says nothing more
        text = []
    return {
        "name": name,
        "image": None if picture is None else data_uri(".jpg", picture),
        "text": ", ".join(text),
    }


@dataclass
class Report:
    """What the file holds. `styles` are as `style_json` gives them, which the scenes name by their numbers."""

    title: str
    styles: Sequence[Mapping[str, Any]] = ()
    findings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)

    def html(self) -> bytes:
        """The file."""
        return report_html(without_nan(self._data()), [scene.video for scene in self.scenes]).encode()

    def write(self, path: str) -> None:
        """Writes the file, and says so."""
        html = self.html()
        write_durably(Path(path), html)
        log.info(f"{path}: {len(html) / 1e6:.1f} MB")
        if len(html) > MOST_BYTES:
            log.warning(
                f"many mail servers refuse more than {MOST_BYTES / 1e6:.0f} MB; less is shown by --html-seconds"
            )

    def _data(self) -> dict[str, Any]:
        from nststab.video.embedded import CODING

        context = click.get_current_context()
        coded = f"The clips are scaled and coded anew ({CODING}), to look at. All figures are of the frames themselves."
        return {
            "title": self.title,
            "subtitle": f"{context.command_path}, {datetime.date.today().isoformat()}",
            "findings": self.findings,
            "measures": list(MEASURES),
            "styles": list(self.styles),
            "scenes": [{**scene.data, "video": f"video-{number}"} for number, scene in enumerate(self.scenes)],
            "tables": [
                {"title": table.title, "columns": list(table.columns), "rows": list(table.rows), "note": table.note}
                for table in self.tables
            ],
            "settings": self.settings,
            "versions": versions(),
            "command": command_line(context),
            "left_out": [coded, *self.left_out],
        }


def command_line(context: click.Context) -> str:
    """The command as it was given, files by their names alone: where they lie is nobody's business."""
    words = [context.command_path]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if context.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE or value is None:
            continue
        values = value if parameter.multiple or parameter.nargs != 1 else [value]
        for one in values:
            if isinstance(parameter, click.Option):
                words.append(max(parameter.opts, key=len))
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                separator = "x" if isinstance(parameter.type, FrameSize) else ","
                words.append(shlex.quote(_plain(one, separator)))
    return " ".join(words)


def _plain(value: Any, separator: str = ",") -> str:
    if isinstance(value, tuple | list):
        return separator.join(map(_plain, value))
    if isinstance(value, Fraction):
        return f"{float(value):.10g}"
    return Path(value).name or "." if isinstance(value, Path) or "/" in str(value) else str(value)
