"""Which pictures make a clip: those of a folder, of a numbered pattern (frames/%05d.png), of a glob (frames/*.png)."""

import re
from collections.abc import Iterable
from fractions import Fraction
from glob import glob
from math import ceil
from pathlib import Path

from nststab.errors import NststabError
from nststab.video.images import PICTURE_SUFFIXES
from nststab.video.timing import Excerpt, empty_excerpt

_NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")
_GLOB = re.compile(r"[*?\[]")
_KNOWN = ", ".join(sorted(PICTURE_SUFFIXES))


def is_pattern(path: Path) -> bool:
    """Whether `path` stands for several pictures; a file or folder that has this very name is none."""
    marked = _NUMBER.search(path.name) or _GLOB.search(str(path))
    return marked is not None and not path.exists()


def folder_pictures(folder: Path) -> tuple[Path, ...]:
    """The pictures in a folder in natural order (2 before 10), without the hidden ones; raises ValueError if none."""
    pictures = _sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not pictures:
        raise NststabError(f"{folder}: expected a folder of pictures ({_KNOWN}), found none")
    return pictures


def pattern_pictures(pattern: Path) -> tuple[Path, ...]:
    """The pictures `pattern` stands for: in the order of their numbers, or for a glob in natural order.

    Numbers begin with the lowest that there is and go on without a gap.

    Raises:
        FileNotFoundError: no picture fits, or a number is missing.
        ValueError: the pattern has several numbers, or is none of pictures.
    """
    if pattern.suffix.lower() not in PICTURE_SUFFIXES and not _GLOB.search(pattern.suffix):
        raise NststabError(f"{pattern}: expected a pattern of pictures ({_KNOWN})")
    if _NUMBER.search(pattern.name):
        return _numbered(pattern)
    pictures = _sorted(Path(name) for name in glob(str(pattern), recursive=True))
    if not pictures:
        raise FileNotFoundError(f"{pattern}: no picture fits this pattern")
    return pictures


def shown(pictures: tuple[Path, ...], part: Excerpt, rate: Fraction, name: Path) -> tuple[Path, ...]:
    """The pictures of an excerpt where picture n of all is shown at n / `rate`; raises ValueError if there is none."""
    begin = ceil(part.start * rate)
    end = None if part.end is None else ceil(part.end * rate)
    if not pictures[begin:end]:
        raise empty_excerpt(str(name), part, len(pictures) / rate)
    return pictures[begin:end]


def _sorted(paths: Iterable[Path]) -> tuple[Path, ...]:
    def natural(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", str(path).lower())
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    pictures = (path for path in paths if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    return tuple(sorted(pictures, key=natural))


def _numbered(pattern: Path) -> tuple[Path, ...]:
    parts = _NUMBER.split(pattern.name)
    if len(parts) != 3:
        raise NststabError(f"{pattern}: expected one number (%05d) in the pattern, got {len(parts) // 2}")
    before, width, after = parts[0].replace("%%", "%"), int(parts[1] or 0), parts[2].replace("%%", "%")

    def name(number: int) -> str:
        return f"{before}{number:0{width}d}{after}"

    fits = re.compile(f"{re.escape(before)}(\\d+){re.escape(after)}")
    found = [fits.fullmatch(path.name) for path in pattern.parent.iterdir()] if pattern.parent.is_dir() else []
    numbers = sorted(int(match[1]) for match in found if match and match[0] == name(int(match[1])))
    if not numbers:
        raise FileNotFoundError(f"{pattern}: no picture fits this pattern")
    for expected, number in enumerate(numbers, numbers[0]):
        if number != expected:
            missing = pattern.with_name(name(expected))
            raise FileNotFoundError(
                f"{missing}: missing, while {name(number)} is there; expected numbers without a gap"
            )
    return tuple(pattern.with_name(name(number)) for number in numbers)
