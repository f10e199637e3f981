"""What an experiment leaves: `results.json`, a table, and while it runs its finished parts."""

import hashlib
import json
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import nststab
from nststab.storage.durable import write_durably

Json = Any
Row = Mapping[str, Json]
T = TypeVar("T")

_PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "opencv-contrib-python")


@dataclass(frozen=True)
class Table:
    """A table for people: the same on the terminal and in Markdown. All columns but the first hold figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table in GitHub's Markdown, below its title and above its note, where it has them."""
        lines = [
            self.columns,
            ["---", *["---:"] * (len(self.columns) - 1)],
            *([cell.replace("|", "\\|") for cell in row] for row in self.rows),
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        title = f"**{self.title}**" if self.title else ""
        return "\n\n".join(part for part in (title, table, self.note) if part) + "\n"


@dataclass(frozen=True)
class Results:
    """All that an experiment found. `rows` and `more` hold JSON values; a NaN in them is written as null.

    Attributes:
        settings: what decides the figures, without places on this machine.
        more: fields beside `rows` that this experiment alone has, such as a fitted line or the paper's numbers.
    """

    experiment: str
    settings: Mapping[str, Json]
    seed: int
    rows: Sequence[Row]
    more: Mapping[str, Json] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes `results.json` with the versions of the packages that computed it."""
        content = {
            "experiment": self.experiment,
            "settings": self.settings,
            "seed": self.seed,
            "versions": versions(),
            "rows": self.rows,
            **self.more,
        }
        text = json.dumps(without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)
        write_durably(folder / "results.json", text.encode() + b"\n")


def versions() -> dict[str, str]:
    """Of this package, of Python and of the packages that compute figures."""
    found = {"nststab": nststab.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as OpenCV on a machine without it
            continue
    return found


def without_nan(value: Json) -> Json:
    """The same JSON value with null in place of every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Parts:
    """The finished parts of an experiment in files of `folder`: what a killed run need not do again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def done(self, name: str) -> bool:
        """Whether the part was finished, in this run or in an earlier one."""
        return self._path(name).is_file()

    def get(self, name: str, compute: Callable[[], T]) -> T:
        """A finished part, or what `compute` gives: JSON values, which come back as a JSON file holds them.

        Lists come back for tuples, the same whether it was computed now or before; floats are exact, NaN included.
        Raises OSError where it cannot be kept.
        """
        path = self._path(name)
        try:
            stored: T = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            text = json.dumps(compute())
            write_durably(path, text.encode())
            stored = json.loads(text)
        return stored

    def _path(self, name: str) -> Path:
        """Readable, and different for names that differ."""
        readable = re.sub(r"[^\w.-]+", "_", name)[:100]
        return self._folder / f"{readable}-{_short_hash(name)}.json"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=4).hexdigest()
