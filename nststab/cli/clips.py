"""Clips on the command line: what may be read, which part of it, at which rate; and where the result goes."""

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.common import given, setting

if TYPE_CHECKING:
    from nststab.video.clip import Clip

Command = TypeVar("Command", bound=Callable[..., Any])
STANDARD = "-"  # standard input, or standard output
_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")
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


class Time(click.ParamType):  # type: ignore[type-arg]
    """A time in seconds: 2.5, 1:02.5 or 1:00:02.5."""

    name = "time"

    def __init__(self, positive: bool = False) -> None:
        self._positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        match = _TIME.fullmatch(str(value).strip())
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups()) if match else (Fraction(-1),) * 3
        time = hours * 3600 + minutes * 60 + seconds
        if time < 0 or (hours and minutes >= 60) or (time > seconds >= 60) or (self._positive and not time):
            more = ", more than 0" if self._positive else ""
            self.fail(f"{value!r}: expected a time as 2.5 (seconds) or 1:02:03.5{more}", param, ctx)
        return time


class Rate(click.ParamType):  # type: ignore[type-arg]
    """Frames per second: 25, 29.97 or 30000/1001."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if rate <= 0:
            self.fail(f"{value!r}: expected frames per second as 25, 29.97 or 30000/1001", param, ctx)
        return rate


class FrameSize(click.ParamType):  # type: ignore[type-arg]
    """Width and height: 640x480."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r}: expected width and height in pixels as 640x480", param, ctx)
        return int(match[1]), int(match[2])


CLIP_PATH = ClipPath()
_OPTIONS = (
    setting("--start", "the beginning", "Begin at this time: seconds, or [hh:]mm:ss.", Time(), "TIME"),
    setting("--duration", "to the end", "Take this much of the clip: seconds, or [hh:]mm:ss.", Time(True), "TIME"),
    setting("--fps", "as it is", "Drop or repeat frames to this rate; the rate of pictures, else 25.", Rate(), "RATE"),
    setting("--raw-size", "it is y4m", "What comes from - is bare rgb24 frames of this size.", FrameSize(), "WxH"),
)
raw_option = click.option("--raw", is_flag=True, help="Write bare rgb24 frames to -, not y4m.")


def excerpt_options(command: Command) -> Command:
    """--start, --duration, --fps and --raw-size, of which `open_source` takes the values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_source(source: Path, options: Mapping[str, Any]) -> "Clip":
    """The clip that INPUT and those of the options --size, --start, --duration, --fps and --raw-size name."""
    from nststab.video.clip import RawFormat, open_clip

    part = given(**{name: options.get(name) for name in ("start", "duration", "fps")})
    if options.get("raw_size") is not None:
        part["raw"] = RawFormat(*options["raw_size"], **given(fps=part.get("fps")))
    return open_clip(source, options.get("size"), **part)


def told_names(clips: Sequence[Path]) -> list[str]:
    """What tables and reports call clips: by their names, with as few folders before these as tell them apart.

    A pattern of pictures is called by the folder that they lie in.
    """
    called = [_called(path) for path in clips]
    if len(set(called)) < len(called):
        called = list(clips)
    depths = [1] * len(called)
    while True:
        names = ["/".join(path.parts[-depth:]) for path, depth in zip(called, depths, strict=True)]
        alike = [i for i, name in enumerate(names) if names.count(name) > 1 and depths[i] < len(called[i].parts)]
        if not alike:
            return names
        for i in alike:
            depths[i] += 1


def _called(path: Path) -> Path:
    if str(path) == STANDARD:
        return Path("standard input")
    if path.name in ("", ".."):
        return path.resolve()
    return path.parent if path.parent.name and not path.exists() and _PATTERN.search(path.name) else path


def name_of(output: str) -> str:
    """What messages call the output."""
    return "standard output" if output == STANDARD else output
