"""Which pictures make a clip: those of a folder, a pattern or a glob; and which clips a folder of sequences holds."""

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from glob import escape, glob
from math import ceil, floor
from pathlib import Path

from nststab.errors import MissingFile, NststabError
from nststab.video.images import STILL_SUFFIXES, header_size, picture_size
from nststab.video.timing import Excerpt, empty_excerpt

_NUMBER = re.compile(r"%(?:0(\d{1,2}))?d")
_GLOB = re.compile(r"[*?\[]")
_KNOWN = ", ".join(sorted(STILL_SUFFIXES))
_NAMED = 5  # pictures with a fault that a message names


def is_pattern(path: Path) -> bool:
    """Whether `path` stands for several pictures; a file or folder that has this very name is none."""
    return not path.exists() and bool(_NUMBER.search(path.name) or _GLOB.search(str(_missing_part(path)[1])))


def _missing_part(path: Path) -> tuple[Path, Path]:
    """The nearest folder around a missing path, whose name may have any characters, and the path from there."""
    folder = next(parent for parent in path.parents if parent.exists())
    return folder, path.relative_to(folder)


def is_picture(path: Path) -> bool:
    """Whether a file in a folder is a picture by its name; a link that leads nowhere is, as it would be missed."""
    return path.suffix.lower() in STILL_SUFFIXES and (path.is_file() or (path.is_symlink() and not path.exists()))


def fault(path: Path, error: NststabError | OSError) -> str:
    """Why a picture cannot be read, in words that name it."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"{path}: leads nowhere"
    return str(error) if isinstance(error, NststabError) else f"{path}: {error.strerror or error}"


def some(texts: Sequence[str]) -> str:
    """The first of many texts, and how many others there are."""
    more = f"; and {len(texts) - _NAMED} others" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


def one_size(pictures: tuple[Path, ...], name: Path) -> tuple[int, int]:
    """Height and width of all `pictures`, by their headers.

    Raises NststabError that names those which cannot be read, and those of another size than the first.
    """
    shape: tuple[int, int] | None = None
    faults = []
    for path in pictures:
        try:
            size = header_size(path)
            if size != shape:
                size = picture_size(path)
        except (NststabError, OSError) as error:
            faults.append(fault(path, error))
        else:
            shape = shape or size
            if size != shape:
                wanted, got = (f"{width}x{height}" for height, width in (shape, size))
                faults.append(f"{path}: expected {wanted} pixels as in the first picture, got {got}")
    if shape is None or faults:
        count = f"{name}: {len(faults)} of {len(pictures)} pictures do not fit: " if len(faults) > 1 else ""
        raise NststabError(count + some(faults))
    return shape


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
        MissingFile: no picture fits, a number is missing, or the pattern is none of pictures.
        ValueError: the pattern has several numbers.
    """
    if pattern.suffix.lower() not in STILL_SUFFIXES and not _GLOB.search(pattern.suffix):
        raise MissingFile(f"{pattern}: there is no such file; expected a pattern of pictures ({_KNOWN})")
    if _NUMBER.search(pattern.name):
        return _numbered(pattern)
    folder, rest = _missing_part(pattern)
    pictures = _sorted(Path(name) for name in glob(str(Path(escape(str(folder)), rest)), recursive=True))
    if not pictures:
        raise MissingFile(f"{pattern}: no picture fits this pattern")
    return pictures


def shown(pictures: tuple[Path, ...], part: Excerpt, rate: Fraction, name: Path) -> tuple[Path, ...]:
    """The pictures of an excerpt where picture n of all is shown at n / `rate`; raises ValueError if there is none.

    Where none begins in it, it is the one that is shown at its start, as in `cut`.
    """
    begin = ceil(part.start * rate)
    end = None if part.end is None else ceil(part.end * rate)
    at_start = floor(part.start * rate)
    found = pictures[begin:end] or pictures[at_start : at_start + 1]
    if not found:
        raise empty_excerpt(str(name), part, len(pictures) / rate)
    return found


def _sorted(paths: Iterable[Path]) -> tuple[Path, ...]:
    def natural(path: Path) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", str(path).lower())
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return tuple(sorted(filter(is_picture, paths), key=natural))


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
        raise MissingFile(f"{pattern}: no picture fits this pattern")
    for expected, number in enumerate(numbers, numbers[0]):
        if number != expected:
            missing = pattern.with_name(name(expected))
            raise MissingFile(f"{missing}: missing, while {name(number)} is there; expected numbers without a gap")
    return tuple(pattern.with_name(name(number)) for number in numbers)


_RECORDS = (".json", ".txt", ".csv")  # beside clips


def sequences(folder: str | Path) -> list[str]:
    """The names of the sequences in a folder; none where it holds pictures itself, or is no folder."""
    path = Path(folder)
    if not path.is_dir() or any(map(is_picture, path.iterdir())):
        return []
    return sorted({_name(clip) for clip in _clips(path)})


def sequence_clip(folder: str | Path, name: str) -> Path | None:
    """The clip of a sequence in a folder, a folder of pictures before a file; NststabError where there are several."""
    found = [path for path in _clips(Path(folder)) if _name(path) == name]
    chosen = [path for path in found if path.is_dir()] or found
    if len(chosen) > 1:
        named = " and ".join(map(str, chosen))
        raise NststabError(f"{folder}: expected one clip of the sequence {name}, got {named}")
    return chosen[0] if chosen else None


def _clips(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        holds_pictures = path.is_dir() and any(map(is_picture, path.iterdir()))
        is_video = path.is_file() and path.suffix.lower() not in _RECORDS and not is_picture(path)
        if not path.name.startswith(".") and (holds_pictures or is_video):
            yield path


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem
