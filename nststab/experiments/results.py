"""What an experiment leaves: `results.json`, a table, and while it runs its finished parts."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nststab.storage.durable import write_durably
from nststab.storage.tables import Json, Row, versions, without_nan

T = TypeVar("T")


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
