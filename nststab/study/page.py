"""The page that asks: one file of HTML beside the videos, on a server of ours or on any other."""

import logging
import re
import shutil
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nststab.errors import NststabError, SettingError
from nststab.report.document import document, part
from nststab.report.private_page import PrivateHandler, PrivateServer
from nststab.storage.folders import refuse_overwriting, whole_folder
from nststab.study.answers import AnsweredTwice, Answers
from nststab.study.design import MEDIA, Sheet, Study, read_study
from nststab.study.settings import LOOPBACK, PORT, QUESTIONS

log = logging.getLogger(__name__)

TITLE = "Which of two clips?"
_PACKAGE = "nststab.study"
_MARK = b"nststab-study-"  # of store.js, by which a packed study is known
_ANSWERING = 12  # seconds to answer the questions on a pair, beside watching it twice


def study_page(study: Study, packed: bool) -> str:
    """The page; a packed one holds all sheets, and keeps its answers. It knows neither clips' names nor catch pairs."""
    data: dict[str, Any] = {
        "id": study.id,
        "questions": [[key, QUESTIONS[key]] for key in study.questions],
        "styles": [{"image": style["image"]} for style in study.styles],
        "scenes": [
            {
                name: getattr(scene, name)
                for name in ("media", "width", "height", "aspect", "times", "end", "rects", "style")
            }
            for scene in study.scenes
        ],
        "pairs": max(map(len, study.sheets)),
        "minutes": minutes(study),
    }
    if packed:
        data["sheets"] = [sheet_trials(study, sheet) for sheet in study.sheets]
    return document(
        part("study.html", _PACKAGE),
        style=part("base.css") + part("study.css", _PACKAGE),
        script=[
            *(part(f"{name}.js") for name in ("dom", "player")),
            *(part(f"{name}.js", _PACKAGE) for name in ("store", "trial", "study")),
        ],
        data=data,
        title=TITLE,
        fetches=True,
    )


def sheet_trials(study: Study, sheet: Sheet) -> list[tuple[int, int, int]]:
    """A sheet as the page is told it: of each pair the scene and the rectangles on the left and on the right."""
    return [(study.trials[trial].scene, *study.rects(trial, swapped)) for trial, swapped in sheet]


def minutes(study: Study) -> int:
    """About how long a person takes."""
    ends: Mapping[int, float] = {number: scene.end for number, scene in enumerate(study.scenes)}
    longest = max(sum(2 * ends[study.trials[trial].scene] + _ANSWERING for trial, _ in sheet) for sheet in study.sheets)
    return max(1, round(longest / 60))


def pack_study(folder: str | Path, output: str | Path, *, overwrite: bool = False) -> Path:
    """Writes the page and its videos into the folder `output`, for any static host; who judges hands in a code.

    Raises SettingError where `output` exists, unless it may be overwritten; NststabError where `folder` is no study.
    """
    study, output = read_study(folder), Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        refuse_overwriting(output, overwrite)
        page = output / "index.html"
        if not (page.is_file() and _MARK in page.read_bytes()):
            raise SettingError(f"{output} exists, and is no packed study")
    with whole_folder(output) as made:
        (made / "index.html").write_text(study_page(study, packed=True), "utf-8")
        shutil.copytree(Path(folder) / MEDIA, made / MEDIA)
    return output / "index.html"


class StudyServer(PrivateServer):
    """Serves the study in a folder until `shutdown`; `address` is what those who take part open in their browsers.

    A server that is started again, on the same host and port, has the same address, and goes on.

    Raises NststabError where there is no study, SettingError where host and port cannot be had.
    """

    def __init__(self, folder: str | Path, host: str = LOOPBACK, port: int = PORT) -> None:
        self.folder = Path(folder)
        self.study = read_study(folder)
        self.answers = Answers(folder, self.study)
        super().__init__(host, port, self.study.token, _Handler)

    @cached_property
    def page(self) -> bytes:
        """What is shown."""
        return study_page(self.study, packed=False).encode()

    @cached_property
    def media(self) -> dict[str, Path]:
        """The videos by the names that the page calls them."""
        return {scene.media: self.folder / MEDIA / scene.media for scene in self.study.scenes}


class _Handler(PrivateHandler):
    server: StudyServer

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError as error:  # such as a full disk: the page tries again
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            log.error(str(error))
            self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the answer cannot be kept now")

    def do_GET(self) -> None:
        path = self.path_behind_token()
        if path == "":
            self.send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif path is not None and (file := self.server.media.get(path.removeprefix(f"{MEDIA}/"))):
            self.send(HTTPStatus.OK, "video/mp4", file.read_bytes(), "private, max-age=86400")
        elif path is not None and (match := re.fullmatch(r"people/([0-9a-f]{16})", path)):
            self._person(match[1])
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        path, body = self.path_behind_token(), self.body()
        if path == "people" and body is not None:
            self.send_json(HTTPStatus.CREATED, {"person": self.server.answers.begin()})
        elif path == "answers" and body is not None:
            self._answer(body)
        elif path is None or body is not None:
            self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        else:
            self.refuse(HTTPStatus.BAD_REQUEST, "expected JSON")

    def _person(self, person: str) -> None:
        study = self.server.study
        sheet = self.server.answers.sheet_of(person)
        if sheet is None:
            self.refuse(HTTPStatus.NOT_FOUND, "there is no such person")
            return
        answered = self.server.answers.trials_of(person)
        places = [place for place, (trial, _) in enumerate(study.sheets[sheet]) if trial in answered]
        self.send_json(HTTPStatus.OK, {"trials": sheet_trials(study, study.sheets[sheet]), "answered": places})

    def _answer(self, body: dict[str, Any]) -> None:
        names = {"person": str, "place": int, "choices": str, "milliseconds": int, "replays": int}
        if any(type(body.get(name)) is not kind for name, kind in names.items()):
            self.refuse(HTTPStatus.BAD_REQUEST, f"expected {', '.join(names)}")
            return
        try:
            self.server.answers.add(*(body[name] for name in names))
        except AnsweredTwice as error:
            self.refuse(HTTPStatus.CONFLICT, str(error))
        except NststabError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self.send_json(HTTPStatus.CREATED, {})
