"""Figures of the experiments, as PNG and SVG; the same data give the same bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nststab.report.colors import METHOD_SERIES, SERIES
from nststab.storage.durable import write_durably

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]
"""Draws into an empty figure."""

COLORS = {name: SERIES[number] for name, number in METHOD_SERIES.items()}
OTHERS = ("#E69F00", "#56B4E9", "#F0E442", "#666666")  # for what is no method

_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nststab",
}


@contextmanager
def drawing(folder: Path, name: str = "figure", width: float = 7.0, height: float = 4.0) -> "Iterator[Figure]":
    """An empty figure, sizes in inches; when the block ends well it is written to `name`.png and .svg in `folder`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        for suffix in ("png", "svg"):
            file = BytesIO()
            # dates and versions in the file would make equal figures differ
            metadata = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
            figure.savefig(file, format=suffix, metadata=metadata)
            write_durably(folder / f"{name}.{suffix}", file.getvalue())
