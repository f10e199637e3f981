"""Pages that a program serves to who knows their address, which holds a secret; by Python's own HTTP server."""

import hmac
import json
import logging
import socket
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from nststab.errors import SettingError

log = logging.getLogger(__name__)


class PrivateServer(ThreadingHTTPServer):
    """Serves on host and port under `token`; `address` is what those who know it open in their browsers.

    Raises SettingError where host and port cannot be had; port 0 is any that is free.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, token: str, handler: type["PrivateHandler"]) -> None:
        self.token = token
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            raise SettingError(f"port: {host}:{port} cannot be used ({error.strerror}); name another") from None
        self.address = f"http://{_reached(host)}:{self.server_port}/{token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A browser that goes away is no error; others are logged."""
        log.debug("a request failed", exc_info=True)


def _reached(host: str) -> str:
    """What browsers ask for: of a server that listens to all of the machine's addresses the one that others reach."""
    if host not in ("", "0.0.0.0"):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737: it sends nothing, and the system says by which way it would
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class PrivateHandler(BaseHTTPRequestHandler):
    """What is common to the answers; `page_headers` are further ones of each."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nststab", ""
    timeout = 60  # seconds without a word from the browser
    largest = 10_000  # bytes of a request
    page_headers: ClassVar[Mapping[str, str]] = {}

    def path_behind_token(self) -> str | None:
        """What stands behind the token; None where the token is missing or wrong."""
        assert isinstance(self.server, PrivateServer)
        token, found, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        return rest if found and known else None

    def body(self) -> dict[str, Any] | None:
        """The JSON object that was sent; None where there is none, or a larger one than `largest`."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > self.largest:
            self.close_connection = True
            return None
        try:
            value = json.loads(self.rfile.read(int(length)))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def refuse(self, status: HTTPStatus, text: str) -> None:
        """Answers with what is wrong."""
        self.send_json(status, {"error": text})

    def send_json(self, status: HTTPStatus, value: Any) -> None:
        """Answers with JSON."""
        self.send(status, "application/json", json.dumps(value).encode())

    def send(self, status: HTTPStatus, kind: str, data: bytes, cache: str = "no-store") -> None:
        """Answers with `data`."""
        self.begin(status, kind, len(data), cache)
        self.wfile.write(data)

    def begin(self, status: HTTPStatus, kind: str, length: int | None = None, cache: str = "no-store") -> None:
        """The head of an answer, of a known length or until the connection is closed."""
        self.send_response(status)
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Frame-Options": "DENY",
            **self.page_headers,
            "Content-Type": kind,
            "Cache-Control": cache,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Who asks from where is not kept."""
