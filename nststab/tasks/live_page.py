"""The page that shows `live` on this machine: the newest painted frame as a stream of JPEGs, figures, and controls."""

import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

import numpy as np

from nststab.errors import SettingError
from nststab.video.images import encode_picture, from_uint8
from nststab.video.live import Picture

log = logging.getLogger(__name__)

_BOUNDARY = "nststab"
_LARGEST = 1000  # bytes of a request
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class LivePage(ThreadingHTTPServer):
    """Serves the page to this machine alone, to who knows its `address`, from `with` to the end of its block.

    A browser that is slow is sent fewer frames, and delays nobody.

    Args:
        status: what the page is told as JSON: figures, and what is painted how.
        change: takes what was changed there, as a mapping of names and numbers; raises ValueError for what is none.

    Raises SettingError where the port cannot be had; 0 is any that is free.
    """

    daemon_threads = True

    def __init__(
        self, port: int, status: Callable[[], Mapping[str, Any]], change: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self.status, self.change = status, change
        self.token = secrets.token_urlsafe(12)
        self._new = threading.Condition()
        self._coding = threading.Lock()
        self._number, self._picture = 0, np.empty(0, np.uint8)
        self._coded = (0, b"")
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise SettingError(f"port: {port} cannot be used: {error.strerror}") from error
        self.address = f"http://localhost:{self.server_port}/{self.token}/"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="page", daemon=True)

    def __enter__(self) -> "LivePage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        with self._new:
            self._number = -1
            self._new.notify_all()
        self.server_close()

    def show(self, picture: Picture) -> None:
        """Shows a picture to all who look; it is made a JPEG only for them."""
        with self._new:
            self._number, self._picture = self._number + 1, picture
            self._new.notify_all()

    def after(self, number: int) -> tuple[int, bytes]:
        """The number of the newest picture and its JPEG, once there is one after `number`; -1 at the end."""
        with self._new:
            self._new.wait_for(lambda: self._number not in (0, number))
            newest, picture = self._number, self._picture
        if newest < 0:
            return -1, b""
        with self._coding:
            if self._coded[0] < newest:
                self._coded = newest, encode_picture(".jpg", from_uint8(picture))
            return self._coded

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A browser that goes away is no error; others are logged."""
        log.debug("a request failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: LivePage
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nststab", ""
    timeout = 60  # seconds without a word from the browser

    def do_GET(self) -> None:
        path = self._path()
        if path == "":
            page = files("nststab.tasks").joinpath("live.html").read_bytes()
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", page)
        elif path == "status":
            self._json(HTTPStatus.OK, self.server.status())
        elif path == "stream":
            self._stream()
        else:
            self._json(HTTPStatus.NOT_FOUND, {"error": "there is nothing here"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self._path() != "look" or not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            self._json(HTTPStatus.NOT_FOUND, {"error": "there is nothing here"})
            return
        try:
            self.server.change(json.loads(self.rfile.read(int(length))))
        except (ValueError, TypeError, AttributeError) as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        else:
            self._json(HTTPStatus.OK, self.server.status())

    def _path(self) -> str | None:
        """What stands behind the token; None where the token is missing or wrong."""
        token, found, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        return rest if found and known else None

    def _stream(self) -> None:
        """Frames until the browser goes; a browser shows each when the boundary behind it has come."""
        self.close_connection = True
        self._head(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
        number = 0
        while True:
            number, data = self.server.after(number)
            if number < 0:
                return
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + f"\r\n--{_BOUNDARY}\r\n".encode())

    def _json(self, status: HTTPStatus, value: Mapping[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self._head(status, kind, len(data))
        self.wfile.write(data)

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing of each request."""
