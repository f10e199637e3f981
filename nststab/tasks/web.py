"""A page that stylizes the camera in the browser: a folder for any web server, and a server on this machine."""

import json
import lzma
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from nststab.errors import SettingError
from nststab.listener import Listener, reported, silent
from nststab.storage.durable import write_durably
from nststab.storage.folders import refuse_overwriting
from nststab.styles.shipped import LIGHT, light_network, light_styles, styles
from nststab.styles.source import chosen_style
from nststab.tasks.export import export
from nststab.tasks.settings import PORT


def _policy() -> str:
    """The page's own, which holds for its workers only where it comes as a header, too."""
    page = files("nststab").joinpath("web", "index.html").read_text("utf-8")
    return page.partition('Content-Security-Policy" content="')[2].partition('"')[0]


HEADERS = {  # without the first two a page gets no threads
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Security-Policy": _policy(),
    "Cache-Control": "no-cache",
}


def write_site(
    output: str | Path,
    *,
    style: Sequence[str | Path] = (),
    method: Literal["recurrent", "independent"] = "recurrent",
    overwrite: bool = False,
    progress: Listener = silent,
) -> Path:
    """Writes a static folder: the page, ONNX Runtime Web, and the networks; it loads nothing from elsewhere.

    Args:
        style: each a network, as for `nststab.export`; several styles of one network have commas between. All that are
            shipped where none is given.

    Raises:
        SettingError: the folder holds something else, or a style has no such network. OSError: it cannot be written.
    """
    folder = Path(output)
    refuse_overwriting(folder, overwrite and folder.is_dir())
    before = _models(folder)
    chosen = list(style) or _shipped(method)
    for source in (source for one in chosen for source in chosen_style(one).sources):
        if not source.has(method):
            source.trained(method)  # raises, before anything is written
    (folder / "models").mkdir(parents=True, exist_ok=True)
    models = []
    with reported(progress, "networks", len(chosen)) as advance:
        for number, one in enumerate(chosen):
            path = folder / "models" / f"{number}.onnx"
            made = export(one, path, method=method, overwrite=True)
            models.append({"file": f"models/{path.name}", "rows": made.styles, "recurrent": "previous" in made.inputs})
            advance(number + 1)
    _unpack(files("nststab").joinpath("web"), folder)
    write_durably(folder / "models.json", json.dumps(models).encode())
    for path in (folder / "models").glob("*.onnx"):
        if f"models/{path.name}" in before - {model["file"] for model in models}:
            path.unlink()
    return folder


def _models(folder: Path) -> set[str]:
    """The networks of the site in a folder, none where it is empty; raises SettingError where something else is."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return set()
    try:
        return {model["file"] for model in json.loads((folder / "models.json").read_bytes())}
    except (OSError, ValueError, TypeError, LookupError):
        raise SettingError(f"{folder} exists, and is no page of nststab web") from None


def _shipped(method: str) -> list[str]:
    if light_network(method).is_file():
        return [",".join(f"{LIGHT}/{name}" for name in light_styles())]
    return [style.name for style in styles() if method in style.methods]


def _unpack(source: Traversable, folder: Path) -> None:
    """Copies a folder of the package; what is packed there is unpacked."""
    folder.mkdir(exist_ok=True)
    for one in source.iterdir():
        if one.is_dir():
            _unpack(one, folder / one.name)
        else:
            data = one.read_bytes()
            packed = one.name.endswith(".xz")
            write_durably(folder / one.name.removesuffix(".xz"), lzma.decompress(data) if packed else data)


def site_server(folder: str | Path, port: int = PORT) -> ThreadingHTTPServer:
    """A server of a folder for this machine alone, with the headers that threads need; `serve_forever` runs it.

    Raises SettingError where the port is taken; 0 is any that is free.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except OSError as error:
        raise SettingError(f"port: {port} cannot be used: {error.strerror}") from error


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Says nothing of each request."""
