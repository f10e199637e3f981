"""What speaks against an output, said before torch is imported; and a folder that is made whole or not at all."""

import difflib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from nststab.errors import MissingFolder, SettingError

_NAMES = 1000  # files of a folder that a misspelt name is compared with


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` to fill, which takes its place when all went well, and goes when it did not."""
    output = output.resolve()  # "." has no other folder beside it
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f"{output.name}.", dir=output.parent))
    try:
        yield made
        made.chmod(0o755)
        before = output.rename(f"{made}.before") if output.exists() else None
        made.rename(output)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    if before is not None:
        shutil.rmtree(before)


def require_parent(output: Path) -> None:
    """Raises MissingFolder where the folder is not there in which `output` would stand."""
    if not output.parent.is_dir():
        raise MissingFolder(f"{output.parent}: the folder to write to does not exist")


def is_taken(output: Path) -> bool:
    """Whether `output` is a file, or a folder with something in it."""
    return any(output.iterdir()) if output.is_dir() else output.exists()


def refuse_overwriting(output: Path, overwrite: bool, said: str = "overwrite=True") -> None:
    """Raises SettingError where something stands at `output` that may not be replaced."""
    if is_taken(output) and not overwrite:
        raise SettingError(f"{output} exists; say {said} to overwrite it")


def refuse_inputs(output: Path, read: Iterable[Path]) -> None:
    """Raises SettingError where `output` is one of the files that are read."""
    if output.is_file() and any(path.is_file() and output.samefile(path) for path in read):
        raise SettingError(f"{output} is read by this command; write to another name")


def nearest_file(path: Path) -> str:
    """A hint at a name beside `path` that may have been meant."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_NAMES), strict=False)]
    except OSError:
        return ""
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"; did you mean {path.with_name(nearest[0])}?" if nearest else ""
