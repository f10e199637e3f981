"""Folders of sequences, such as DAVIS/JPEGImages/480p: a clip of each name, a folder of pictures or a video."""

from collections.abc import Iterator
from pathlib import Path

from nststab.errors import NststabError
from nststab.video.picture_files import is_picture

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
