"""Draws the curve of the light network's training into docs/training_campaign: its losses, over all pictures.

python benchmarks/campaign_curve.py

Losses are those of the training itself, in means over a thousand pictures and without their weights, so that runs of
different weights stand beside each other. What the styles weigh among each other changed once, with the second run.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from nststab.experiments.figures import drawing

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "training_campaign"
PAINTED = 7 / 8  # of the pictures; the rest are drawn as they are
MEAN = 1000  # pictures


class Run(NamedTuple):
    """A run of the independent network; its log is independent_NUMBER.jsonl."""

    style_weight: float
    said: str


RUNS = (
    Run(2.0, "Muon 0.02"),
    Run(2.0, "0.012 falling"),
    Run(2.0, "again"),
    Run(2.0, "again"),
    Run(2.3, "0.05 falling"),
    Run(2.0, "0.05 falling"),
    Run(2.4, "no edges"),
    Run(2.4, "0.05 falling"),
    Run(3.0, "0.02 falling"),
)


class Point(NamedTuple):
    pictures: int
    content: float
    style: float


def points(run: Run, number: int) -> Iterator[Point]:
    """The log of a run: each line is a mean over 50 steps."""
    for line in (FOLDER / f"independent_{number}.jsonl").read_text().splitlines():
        values = json.loads(line)
        yield Point(values["pictures"], values["content"] / PAINTED, values["style"] / PAINTED / run.style_weight)


def smoothed(found: Sequence[Point]) -> Iterator[Point]:
    """Means over what lies within half of MEAN pictures of each point."""
    for point in found:
        near = [other for other in found if abs(other.pictures - point.pictures) <= MEAN / 2]
        yield Point(point.pictures, *(mean(values) for values in list(zip(*near, strict=True))[1:]))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    curves = [list(smoothed(list(points(run, number)))) for number, run in enumerate(RUNS, 1)]
    before = [0, *accumulate(curve[-1].pictures for curve in curves)]
    with drawing(FOLDER, "curve", height=3.2) as figure:
        axes = figure.subplots()
        for place, (name, color) in enumerate({"content": "#0072B2", "style": "#D55E00"}.items(), 1):
            for curve, start in zip(curves, before, strict=False):
                seen = [(start + point.pictures) / 1000 for point in curve]
                label = None if start else f"{name} loss"
                axes.plot(seen, [point[place] for point in curve], color=color, label=label)
        for run, start in zip(RUNS, before, strict=False):
            axes.axvline(start / 1000, color="#bbbbbb", linewidth=0.8)
            corner = (start / 1000, 1.0)
            axes.annotate(run.said, corner, xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize=7)
        axes.set(xlabel="thousands of pictures", ylim=(0.6, 2.0))
        axes.legend(loc="lower left", ncols=2)


if __name__ == "__main__":
    main()
