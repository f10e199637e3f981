"""Tables for people, and what results say of the program that made them."""

import csv
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import nststab

Json = Any
Row = Mapping[str, Json]

_version = cache(version)  # which reads and parses a file of the package
OPENCV = ("opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python", "opencv-python-headless")
"""The packages that OpenCV comes in."""

_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", *OPENCV)


@dataclass(frozen=True)
class Table:
    """A table for people: the same on the terminal and in Markdown. All columns but the first hold figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """The table in columns, as a terminal shows it, with its titles one word a line; between its title and its
        note, where it has them.
        """
        titles = [column.split() for column in self.columns]
        high = max(map(len, titles))
        heads = [[""] * (high - len(words)) + words for words in titles]
        widths = [max(map(len, column)) for column in zip(*self.rows, *zip(*heads, strict=True), strict=True)]
        lines = [*zip(*heads, strict=True), ["\u2500" * width for width in widths], *self.rows]
        shown = [
            "  ".join((cell.rjust if place else cell.ljust)(widths[place]) for place, cell in enumerate(line)).rstrip()
            for line in lines
        ]
        return "\n".join(part for part in (self.title, *shown, self.note) if part)

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

    def latex(self, caption: str = "") -> str:
        """The table for LaTeX with the package booktabs, with `caption` below it."""
        lines = [" & ".join(map(_escaped, row)) + r" \\" for row in (self.columns, *self.rows)]
        parts = [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\caption{{{_escaped(caption)}}}"] if caption else []),
            r"\end{table}",
        ]
        return "\n".join(parts) + "\n"


_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def csv_text(rows: Sequence[Row]) -> str:
    """Rows of the same keys as a CSV file, with the keys in its first line; what could not be measured is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(without_nan(row)) for row in rows)
    return file.getvalue()


def versions() -> dict[str, str]:
    """Of this package, of Python and of the packages that compute figures."""
    found = {"nststab": nststab.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = _version(name)
        except PackageNotFoundError:  # such as OpenCV in another package, or on a machine without it
            continue
    return found


def without_nan(value: Json) -> Json:
    """The same JSON value with null in place of every number that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
