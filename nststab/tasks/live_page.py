"""The page that shows `live` on this machine: the newest painted frame as a stream of JPEGs, figures, and controls."""

import secrets
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Any, ClassVar

import numpy as np

from nststab.report.private_page import PrivateHandler, PrivateServer
from nststab.video.images import encode_picture, from_uint8
from nststab.video.live import Picture

_BOUNDARY = "nststab"


class LivePage(PrivateServer):
    """Serves the page to this machine alone, to who knows its `address`, from `with` to the end of its block.

    A browser that is slow is sent fewer frames, and delays nobody.

    Args:
        status: what the page is told as JSON: figures, and what is painted how.
        change: takes what was changed there, as a mapping of names and numbers; raises ValueError for what is none.

    Raises SettingError where the port cannot be had; 0 is any that is free.
    """

    def __init__(
        self, port: int, status: Callable[[], Mapping[str, Any]], change: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self.status, self.change = status, change
        self._new = threading.Condition()
        self._coding = threading.Lock()
        self._number, self._picture = 0, np.empty(0, np.uint8)
        self._coded = (0, b"")
        super().__init__("127.0.0.1", port, secrets.token_urlsafe(12), _Handler)
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


class _Handler(PrivateHandler):
    server: LivePage
    page_headers: ClassVar = {
        "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    }

    def do_GET(self) -> None:
        path = self.path_behind_token()
        if path == "":
            page = files("nststab.tasks").joinpath("live.html").read_bytes()
            self.send(HTTPStatus.OK, "text/html; charset=utf-8", page)
        elif path == "status":
            self.send_json(HTTPStatus.OK, self.server.status())
        elif path == "stream":
            self._stream()
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        asked = self.body()
        if self.path_behind_token() != "look":
            self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
            return
        if asked is None:
            self.refuse(HTTPStatus.BAD_REQUEST, "expected JSON")
            return
        try:
            self.server.change(asked)
        except (ValueError, TypeError, OverflowError) as error:
            self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self.send_json(HTTPStatus.OK, self.server.status())

    def _stream(self) -> None:
        """Frames until the browser goes; a browser shows each when the boundary behind it has come."""
        self.close_connection = True
        self.begin(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
        number = 0
        while True:
            number, data = self.server.after(number)
            if number < 0:
                return
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(head.encode() + data + f"\r\n--{_BOUNDARY}\r\n".encode())
