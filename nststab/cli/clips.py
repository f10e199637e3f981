"""Clips on the command line: what may be read, and where the result goes."""

import difflib
import os
import re
from pathlib import Path
from typing import Any

import click

STANDARD = "-"  # standard input, or standard output
_PATTERN = re.compile(r"%\d*d|[*?\[]")
_NAMES = 1000  # files of a folder that a misspelt name is compared with


class ClipPath(click.ParamType):  # type: ignore[type-arg]
    """A file or folder that exists, a pattern (frames/%05d.png) or glob of pictures, or - for standard input."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if value == STANDARD:
            return path
        if str(path) == STANDARD:  # ./- is a file of this name
            path = path.absolute()
        if not path.exists() and not _PATTERN.search(str(path)):
            self.fail(f"Path {str(value)!r} does not exist{nearest_file(path)}", param, ctx)
        if path.exists() and not os.access(path, os.R_OK):
            self.fail(f"Path {str(value)!r} is not readable.", param, ctx)
        return path


def nearest_file(path: Path) -> str:
    """A hint at a name beside `path` that may have been meant."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_NAMES), strict=False)]
    except OSError:
        return ""
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"; did you mean {path.with_name(nearest[0])}?" if nearest else ""


CLIP_PATH = ClipPath()


def name_of(output: str) -> str:
    """What messages call the output."""
    return "standard output" if output == STANDARD else output
