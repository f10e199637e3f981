"""Builds the file of --html from what a command recorded and found."""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from nststab.assets import style_in
from nststab.cli.build import OptimizerOptions
from nststab.cli.clips import STANDARD
from nststab.cli.common import say
from nststab.cli.html import SECONDS, SIZE
from nststab.cli.style_source import StyleSource
from nststab.durable import write_durably
from nststab.evaluate.results import Table, versions, without_nan
from nststab.flow import ESTIMATORS, FlowFunction, require_estimator
from nststab.images import read_picture, resize
from nststab.report.page import report_html
from nststab.report.recorder import MEASURES, SceneRecorder
from nststab.report.scene import Scene, data_uri, make_scene
from nststab.report.times import Times
from nststab.video import Clip, needs_av

MOST_BYTES = 15_000_000  # of a file that goes by mail
_THUMBNAIL = 160  # pixels
QUICK = "dis"
"""The flow that is looked for where none was computed."""


def shown_seconds(options: Mapping[str, Any]) -> Fraction:
    """What --html-seconds says."""
    return Fraction(SECONDS) if options["html_seconds"] is None else Fraction(options["html_seconds"])


@contextmanager
def scene_recorder(names: Sequence[str], times: Times, options: Mapping[str, Any]) -> Iterator[SceneRecorder]:
    """Records in a folder that goes with the block. Raises OSError at once where no report could be made of it."""
    require_estimator(QUICK)
    with needs_av():
        import nststab.media.embedded  # noqa: F401
    with TemporaryDirectory(prefix="nststab_") as folder:
        yield SceneRecorder(names, times, Path(folder), options["html_size"] or SIZE)


def report_flow(methods: Sequence[str], options: Mapping[str, Any], optimizer: OptimizerOptions) -> FlowFunction:
    """The flow that ruder uses, or that was asked for; else a quick one. OSError where it cannot be estimated here."""
    if "ruder" in methods or any(options.get(name) for name in ("flow", "flow_method", "flow_cache")):
        return optimizer.flow.function()
    require_estimator(QUICK)
    return ESTIMATORS[QUICK]


def clip_scene(clip: Clip, recorder: SceneRecorder, style: int | None) -> Scene:
    """The scene of a whole clip; `style` is its number in the report."""
    aspect = Fraction(1) if clip.source is None else clip.source.aspect
    name = "standard input" if str(clip.path) == STANDARD else clip.path.stem
    return make_scene(name, recorder, ESTIMATORS[QUICK], style, _length_note(clip, recorder.times), aspect)


def _length_note(clip: Clip, shown: Sequence[tuple[Fraction, Fraction]]) -> str:
    """How much of a clip a report shows, where that is not the whole; empty where it is, or nobody knows."""
    if clip.frame_count is None or clip.frame_count <= len(shown):
        return ""
    end = sum(shown[-1])
    return f"the first {float(end):.1f} s: {len(shown)} of {clip.frame_count} frames"


def style_json(source: StyleSource) -> dict[str, Any]:
    """The style as a page shows it: its name, a small picture where there is one, and what its card says."""
    style = None if source.folder is None else style_in(source.folder)
    card = {} if style is None else style.card
    path = source.picture or source.shipped
    picture = None if path is None else resize(read_picture(path).rgb, _THUMBNAIL)
    text = [str(card[key]) for key in ("title", "artist", "year") if card.get(key) not in (None, "", "unknown")]
    name = Path(source.text).stem if style is None else style.name
    return {
        "name": name,
        "image": None if picture is None else data_uri(".jpg", picture),
        "text": ", ".join(text),
    }


@dataclass
class Report:
    """What the file holds besides its scenes, and how large it is with them."""

    title: str
    styles: Sequence[StyleSource] = ()
    findings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)

    def write(self, path: str) -> None:
        """Writes the file, and says so."""
        html = report_html(without_nan(self._data()), [scene.video for scene in self.scenes])
        write_durably(Path(path), html.encode())
        say(f"{path}: {len(html.encode()) / 1e6:.1f} MB")

    def _data(self) -> dict[str, Any]:
        from nststab.media.embedded import CODING

        context = click.get_current_context()
        coded = f"The clips are scaled and coded anew ({CODING}), to look at. All figures are of the frames themselves."
        return {
            "title": self.title,
            "subtitle": f"{context.command_path}, {datetime.date.today().isoformat()}",
            "findings": self.findings,
            "measures": list(MEASURES),
            "styles": [style_json(style) for style in self.styles],
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
    """The command as it was given, files by their names alone: a report says nothing about the machine."""
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
                words.append(_word(one))
    return " ".join(words)


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value))
    if isinstance(value, Fraction):
        return f"{float(value):g}"
    text = Path(value).name if isinstance(value, Path) or "/" in str(value) else str(value)
    return f"'{text}'" if " " in text else text
