"""Serves a study's page: on this machine alone, unless another host is named, and only to who knows its address."""

import logging
import re
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from nststab.errors import NststabError
from nststab.report.private_page import PrivateHandler, PrivateServer
from nststab.study.answers import AnsweredTwice, Answers
from nststab.study.design import MEDIA, read_study
from nststab.study.page import sheet_trials, study_page
from nststab.study.settings import LOOPBACK, PORT

log = logging.getLogger(__name__)


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
