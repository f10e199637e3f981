"""One HTML file of its own style, script and data, under a policy that lets the browser run and fetch nothing else."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any


def part(name: str, package: str = "nststab.report") -> str:
    """The text of a file in the folder `page` of a package."""
    return files(package).joinpath("page", name).read_text("utf-8")


def document(
    template: str,
    *,
    style: str,
    script: Sequence[str],
    data: Mapping[str, Any],
    title: str,
    videos: str = "",
    fetches: bool = False,
) -> str:
    """The `template` with its parts in the place of `@style@` and the like.

    The files of `script` become one, in their order: each uses what stands before it. `data` may hold any text, also
    names that are no UTF-8. fetches: whether the script may ask where the page comes from, and nobody else.

    Raises ValueError where a figure in `data` is NaN or infinite.
    """
    told = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    code = '"use strict";\n(() => {\n' + "\n".join(script) + "})();\n"
    parts = {
        "policy": policy(code, style, fetches),
        "title": html.escape(title),
        "style": style,
        "data": told.replace("<", "\\u003c"),  # the only way out of a script element begins so
        "videos": videos,
        "script": code,
    }
    page = re.sub(r"@(\w+)@", lambda match: parts[match[1]], template)
    return page.encode(errors="backslashreplace").decode()  # as JSON escapes what stands for a byte of such a name


def policy(script: str, style: str, fetches: bool) -> str:
    """A Content-Security-Policy under which nothing but the page's own parts is run, shown or fetched."""
    own = "connect-src 'self'; " if fetches else ""
    return (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; {own}"
        "img-src data:; media-src blob:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
