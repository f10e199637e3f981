"""--html of the commands that compare clips: its options, and what is checked before any work."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from nststab.cli.clips import Time
from nststab.cli.common import refuse_overwriting, setting

Command = TypeVar("Command", bound=Callable[..., Any])
SIZE = 480
SECONDS = 5
_OPTIONS = (
    click.option("--html", metavar="FILE", help="Write a report to look at: one file with clips, curves and pictures."),
    setting("--html-size", SIZE, "Longest side of the clips in it, in pixels.", click.IntRange(min=16), "PIXELS"),
    setting("--html-seconds", SECONDS, "How much of the clips it shows.", Time(positive=True), "SECONDS"),
)


def html_options(command: Command) -> Command:
    """--html, --html-size and --html-seconds."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def check_html(options: Mapping[str, Any], read: Iterable[Path] = (), made: Path | None = None) -> None:
    """Raises a usage error where the report cannot be written, or one of its options says nothing.

    read: what the command reads. made: a folder that it will make.
    """
    if options["html"] is None:
        for name in ("html_size", "html_seconds"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} has no effect without --html")
        return
    if Path(options["html"]).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{options['html']!r}: expected a name that ends in .html", param_hint="'--html'")
    check_written("--html", options["html"], options["yes"], read, made)


def check_written(flag: str, target: str, yes: bool, read: Iterable[Path], made: Path | None = None) -> None:
    """Raises a usage error unless the file `target` can be written: over none without -y, over none of `read`."""
    path = Path(target)
    if made is not None and path.parent == made and not made.exists():
        return
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder: expected a file", param_hint=f"'{flag}'")
    if not path.parent.is_dir():
        raise click.BadParameter(f"{path.parent} is no folder", param_hint=f"'{flag}'")
    if not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{path.parent} may not be written to", param_hint=f"'{flag}'")
    refuse_overwriting(path, yes)
    if any(source.is_file() and path.exists() and path.samefile(source) for source in read):
        raise click.UsageError(f"{path} is read by this command; write to another name")
