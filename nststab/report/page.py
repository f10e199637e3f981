"""The report of a comparison as one HTML file, which needs neither network nor anything beside it."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from nststab.errors import NststabError

Json = Any

# In the order of their definitions: a script uses what stands before it, and the last one starts the page.
SCRIPTS = ("dom", "player", "panels", "curves", "stills", "tables", "header", "bar", "scene", "keyboard", "main")

STYLES = ("report", "bar")


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
    style = "".join(_part(f"{name}.css") for name in STYLES)
    script = '"use strict";\n(() => {\n' + "\n".join(_part(f"{name}.js") for name in SCRIPTS) + "})();\n"
    parts = {
        "policy": _policy(script, style),
        "title": html.escape(data["title"]),
        "style": style,
        "data": _quoted(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))),
        "videos": "\n".join(_video(number, video) for number, video in enumerate(videos)),
        "script": script,
    }
    page = re.sub(r"@(\w+)@", lambda match: parts[match[1]], _part("report.html"))
    return page.encode(errors="backslashreplace").decode()  # as JSON escapes what stands for a byte of such a name


def _part(name: str) -> str:
    return files("nststab.report").joinpath("page", name).read_text("utf-8")


def _policy(script: str, style: str) -> str:
    """A Content-Security-Policy under which nothing but the page's own parts is run, shown or fetched."""
    return (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _quoted(text: str) -> str:
    """JSON that no text in it can end: the only way out of a script element begins with "<"."""
    return text.replace("<", "\\u003c")


def _video(number: int, video: bytes) -> str:
    return f'<script type="text/plain" id="video-{number}">{base64.b64encode(video).decode()}</script>'
