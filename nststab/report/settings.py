"""What decides the size of a report, and whether its file can be written."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from nststab.errors import SettingError
from nststab.settings import Settings, setting
from nststab.storage.folders import refuse_inputs
from nststab.video.settings import parse_time


@dataclass(frozen=True)
class ReportSettings(Settings):
    """How much a report shows, and what it says of where it comes from.

    Attributes:
        maker, command: what made it, as the report tells: `nststab compare` and the whole command. By default the name
            of the function that writes it, and nothing.
    """

    size: int = setting(480, "Longest side of the clips in it, in pixels.", least=16, metavar="PIXELS")
    seconds: Fraction = setting(
        Fraction(5), "How much of the clips it shows.", above=0, metavar="SECONDS", parse=parse_time
    )
    maker: str = ""
    command: str = ""


def check_report(file: str | Path, read: Iterable[Path] = (), made: Path | None = None) -> None:
    """As `check_written`; raises SettingError as well where the name is not that of a page."""
    if Path(file).suffix.lower() not in (".html", ".htm"):
        raise SettingError(f"{str(file)!r}: expected a name that ends in .html")
    check_written(file, read, made)


def check_written(file: str | Path, read: Iterable[Path] = (), made: Path | None = None) -> None:
    """Raises SettingError unless `file` can be written beside what is `read`; `made` is a folder that will be made."""
    path = Path(file)
    if made is not None and path.parent == made and not made.exists():
        return
    if path.is_dir():
        raise SettingError(f"{path} is a folder: expected a file")
    if not path.parent.is_dir():
        raise SettingError(f"{path.parent} is no folder")
    if not os.access(path.parent, os.W_OK):
        raise SettingError(f"{path.parent} may not be written to")
    refuse_inputs(path, read)
