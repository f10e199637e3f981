"""The report of a comparison as one HTML file, which needs neither network nor anything beside it."""

import base64
import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nststab.errors import NststabError
from nststab.flow.estimators import ESTIMATORS, FlowFunction, FlowSource, between_frames, require_estimator
from nststab.report.document import document, part
from nststab.report.recorder import MEASURES, SceneRecorder, Times, shown_times
from nststab.report.scene import Scene, data_uri, make_scene
from nststab.report.settings import ReportSettings
from nststab.storage.durable import write_durably
from nststab.storage.tables import Table, versions, without_nan
from nststab.styles.shipped import style_in
from nststab.styles.source import StyleSource
from nststab.video.clip import Clip, needs_av
from nststab.video.images import read_picture, resize
from nststab.video.picture_files import is_pattern
from nststab.video.pipes import STANDARD

log = logging.getLogger(__name__)

Json = Any

MOST_BYTES = 15_000_000  # of a file that goes by mail
_THUMBNAIL = 160  # pixels
QUICK = "dis"
"""The flow that is looked for where none was computed."""

# In the order of their definitions: a script uses what stands before it, and the last one starts the page.
SCRIPTS = ("dom", "player", "panels", "curves", "stills", "tables", "header", "bar", "scene", "keyboard", "main")

STYLES = ("base", "report", "bar")


def report_html(data: Mapping[str, Json], videos: Sequence[bytes]) -> str:
    """The page that shows `data`, with `videos` (MP4 files) as "video-0", "video-1" and so on.

    Texts in `data` may be anything, also names that are no UTF-8: they are shown as text. The page's policy lets the
    browser run the page's own script alone, and fetch nothing.

    Raises ValueError where a scene names a video that there is not, or a figure is NaN or infinite.
    """
    for scene in data["scenes"]:
        if scene["video"] not in {f"video-{number}" for number in range(len(videos))}:
            raise NststabError(
                f"expected each scene's video among {len(videos)}, got {scene['video']} for {scene['name']}"
            )
    shown = "\n".join(
        f'<script type="text/plain" id="video-{number}">{base64.b64encode(video).decode()}</script>'
        for number, video in enumerate(videos)
    )
    return document(
        part("report.html"),
        style="".join(part(f"{name}.css") for name in STYLES),
        script=[part(f"{name}.js") for name in SCRIPTS],
        data=data,
        title=data["title"],
        videos=shown,
    )


def require_report() -> None:
    """Raises OSError, which says what to install, where no report can be made."""
    require_estimator(QUICK)
    with needs_av():
        import nststab.video.writer  # noqa: F401


@contextmanager
def scene_recorder(
    names: Sequence[str], times: Times, size: int, folder: Path | None = None
) -> Iterator[SceneRecorder]:
    """Records clips of a longest side of `size` in `folder`, or in one that goes with the block.

    Raises as `require_report`.
    """
    require_report()
    with TemporaryDirectory(prefix="nststab_") if folder is None else nullcontext(folder) as where:
        yield SceneRecorder(names, times, Path(where), size)


@contextmanager
def clip_recorder(
    clip: Clip,
    names: Sequence[str],
    html: str | Path | None,
    report: ReportSettings,
    limit: int | None = None,
    folder: Path | None = None,
) -> Iterator[SceneRecorder | None]:
    """Records the beginning of clips, of the first `limit` frames at most, for a report; None where `html` is None.

    folder: where the frames wait; None stands for one that goes with the block.
    """
    if html is None:
        yield None
        return
    with scene_recorder(names, shown_times(clip, report.seconds, limit), report.size, folder) as recorder:
        yield recorder


def report_flow(source: FlowSource | None) -> tuple[FlowFunction, str]:
    """The flow that a report follows the motion by, and its name: that of `source` ("files" where it reads files).

    None stands for a quick one, which is not kept. Raises OSError where it cannot be estimated here.
    """
    if source is not None:
        return source.function(), source.method if source.files is None else "files"
    require_estimator(QUICK)
    log.info(f"flow: {QUICK}")
    return between_frames(ESTIMATORS[QUICK]), QUICK


def clip_names(clips: Sequence[Path]) -> list[str]:
    """What tables and reports call clips: by their names, with as few folders before these as tell them apart.

    A pattern of pictures is called by the folder that they lie in.
    """
    called = [_called(path) for path in clips]
    if len(set(called)) < len(called):
        called = list(clips)
    depths = [1] * len(called)
    while True:
        names = ["/".join(path.parts[-depth:]) for path, depth in zip(called, depths, strict=True)]
        alike = [i for i, name in enumerate(names) if names.count(name) > 1 and depths[i] < len(called[i].parts)]
        if not alike:
            return names
        for i in alike:
            depths[i] += 1


def _called(path: Path) -> Path:
    if path == STANDARD:
        return Path("standard input")
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent if path.parent.name and is_pattern(path) else path


def clip_scene(clip: Clip, recorder: SceneRecorder, style: int | None) -> Scene:
    """The scene of a whole clip; `style` is its number in the report."""
    aspect = Fraction(1) if clip.source is None else clip.source.aspect
    (name,) = clip_names([clip.path])
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
    path = source.picture or source.shipped
    picture = None if path is None else resize(read_picture(path).on_white(), _THUMBNAIL)
    text = [] if style is None else style.known("title", "artist", "year")
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
    """What the file holds. `styles` are as `style_json` gives them, which the scenes name by their numbers.

    maker, command: as in `ReportSettings`. plane: stability against style loss, a PNG.
    """

    title: str
    styles: Sequence[Mapping[str, Any]] = ()
    findings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    maker: str = "nststab"
    command: str = ""
    plane: bytes = b""

    def html(self) -> bytes:
        """The file."""
        return report_html(without_nan(self._data()), [scene.video for scene in self.scenes]).encode()

    def write(self, path: str | Path) -> None:
        """Writes the file, and says so."""
        html = self.html()
        write_durably(Path(path), html)
        log.info(f"{path}: {len(html) / 1e6:.1f} MB")
        if len(html) > MOST_BYTES:
            log.warning(
                f"many mail servers refuse more than {MOST_BYTES / 1e6:.0f} MB; less of the clips makes it smaller"
            )

    def _data(self) -> dict[str, Any]:
        from nststab.video.writer import REPORT

        coded = f"The clips are scaled and coded anew ({REPORT}), to look at. All figures are of the frames themselves."
        return {
            "title": self.title,
            "subtitle": f"{self.maker}, {datetime.date.today().isoformat()}",
            "findings": self.findings,
            "measures": list(MEASURES),
            "styles": list(self.styles),
            "scenes": [{**scene.data, "video": f"video-{number}"} for number, scene in enumerate(self.scenes)],
            "tables": [
                {"title": table.title, "columns": list(table.columns), "rows": list(table.rows), "note": table.note}
                for table in self.tables
            ],
            "plane": f"data:image/png;base64,{base64.b64encode(self.plane).decode()}" if self.plane else None,
            "settings": self.settings,
            "versions": versions(),
            "command": self.command,
            "left_out": [*([coded] if self.scenes else []), *self.left_out],
        }


def clip_report(
    clip: Clip,
    recorder: SceneRecorder,
    styles: Sequence[Mapping[str, Any]],
    said: Sequence[str],
    tables: Sequence[Table],
    settings: Mapping[str, Any],
    report: ReportSettings,
    maker: str,
) -> Report:
    """The report of what was recorded of one clip, with what was found of the whole clip, in sentences and tables.

    `maker` stands for that of `report` where it names none.
    """
    scene = clip_scene(clip, recorder, 0 if len(styles) == 1 else None)  # a blend is in the style of all
    page = Report(scene.data["name"], styles, list(said), list(tables), settings, scenes=[scene])
    page.maker, page.command = report.maker or maker, report.command
    return page
