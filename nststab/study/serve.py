"""Serves a study's page: on this machine alone, unless another host is named, and only to who knows its address."""

import hmac
import json
import logging
import re
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nststab.errors import NststabError, SettingError
from nststab.study.answers import AnsweredTwice, Answers
from nststab.study.design import MEDIA, read_study
from nststab.study.page import sheet_trials, study_page
from nststab.study.settings import LOOPBACK, PORT

log = logging.getLogger(__name__)

_LARGEST = 10_000  # bytes of a request
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class StudyServer(ThreadingHTTPServer):
    """Serves the study in a folder until `shutdown`; `address` is what those who take part open in their browsers.

    A server that is started again, on the same host and port, has the same address, and goes on.

    Raises NststabError where there is no study, SettingError where host and port cannot be had.
    """

    daemon_threads = True

    def __init__(self, folder: str | Path, host: str = LOOPBACK, port: int = PORT) -> None:
        self.folder = Path(folder)
        self.study = read_study(folder)
        self.answers = Answers(folder, self.study)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise SettingError(f"port: {host}:{port} cannot be served on ({error.strerror}); name another") from None
        self.address = f"http://{host}:{self.server_port}/{self.study.token}/"

    @cached_property
    def page(self) -> bytes:
        """What is shown."""
        return study_page(self.study, packed=False).encode()

    @cached_property
    def media(self) -> dict[str, Path]:
        """The videos by the names that the page calls them."""
        return {scene.media: self.folder / MEDIA / scene.media for scene in self.study.scenes}

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A browser that goes away is no error; others are logged."""
        log.debug("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nststab", ""
    timeout = 60  # seconds without a word from the browser

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError as error:  # such as a full disk: the page tries again
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            log.error(str(error))
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the answer cannot be kept now")

    def do_GET(self) -> None:
        path = self._path()
        if path == "":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif path is not None and (file := self.server.media.get(path.removeprefix(f"{MEDIA}/"))):
            self._send(HTTPStatus.OK, "video/mp4", file.read_bytes(), "private, max-age=86400")
        elif path is not None and (match := re.fullmatch(r"people/([0-9a-f]{16})", path)):
            self._person(match[1])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        path, body = self._path(), self._body()
        if path == "people" and body is not None:
            self._json(HTTPStatus.CREATED, {"person": self.server.answers.begin()})
        elif path == "answers" and body is not None:
            self._answer(body)
        elif path is None or body is not None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "expected JSON")

    def _path(self) -> str | None:
        """What stands behind the token; None where the token is missing or wrong."""
        token, found, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(errors="replace"), self.server.study.token.encode())
        return rest if found and known else None

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def _person(self, person: str) -> None:
        study = self.server.study
        sheet = self.server.answers.sheet_of(person)
        if sheet is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such person")
            return
        answered = self.server.answers.trials_of(person)
        places = [place for place, (trial, _) in enumerate(study.sheets[sheet]) if trial in answered]
        self._json(HTTPStatus.OK, {"trials": sheet_trials(study, study.sheets[sheet]), "answered": places})

    def _answer(self, body: dict[str, Any]) -> None:
        names = {"person": str, "place": int, "choices": str, "milliseconds": int, "replays": int}
        if any(type(body.get(name)) is not kind for name, kind in names.items()):
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected {', '.join(names)}")
            return
        try:
            self.server.answers.add(*(body[name] for name in names))
        except AnsweredTwice as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except NststabError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._json(HTTPStatus.CREATED, {})

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._json(status, {"error": text})

    def _json(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes, cache: str = "no-store") -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Cache-Control": cache}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: ARG002
        """Who asks from where is not kept."""
        log.debug("served")
