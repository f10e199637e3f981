"""A folder that is made whole or not at all, and what one may hold; no torch, as a server starts with it."""

import difflib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

_NAMES = 1000  # files of a folder that a misspelt name is compared with


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` to fill, which takes its place when all went well, and goes when it did not."""
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f"{output.name}.", dir=output.parent))
    try:
        yield made
        made.chmod(0o755)
        if output.exists():
            shutil.rmtree(output)
        made.rename(output)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def nearest_file(path: Path) -> str:
    """A hint at a name beside `path` that may have been meant."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_NAMES), strict=False)]
    except OSError:
        return ""
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"; did you mean {path.with_name(nearest[0])}?" if nearest else ""
