"""Table 2 of Gupta et al. 2017: seconds a frame of every method, beside the arithmetic and memory that it takes.

What runs is timed by a wall clock after a warm-up. Jobs that are to be compared alternate, one frame of each in every
round, so that a noisy machine disturbs them alike. An optimisation is timed by its iterations and scaled to as many as
the paper counts. Arithmetic is what `torch.utils.flop_counter` counts: convolutions and matrix products, a
multiply-add as two; normalisation, pooling, warping and the optimizer's own vector arithmetic count nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from nststab.experiments.figures import COLORS, OTHERS
from nststab.flow.estimators import Estimator, between_frames
from nststab.flow.pairs import flow_ahead
from nststab.frames import Stylizer, as_frames
from nststab.measure.flop import FlopCounter
from nststab.memory import reset_peak, resident
from nststab.storage.tables import Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_ITERATIONS = 1000
"""Of a frame, as the paper counts an optimisation in its Table 2."""

WARM_UP = 2  # rounds
_UNDER = ("recurrent", "ruder")  # in figures; the other method of their kind takes nearly as long, and lies on top
_REAL_TIME = 1 / 25  # seconds a frame
_MATRIX_SIDES = {"cpu": 2048}
_MATRIX_SIDE = 8192  # of accelerators

IterationReport = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class SpeedSettings:
    """What is measured.

    Attributes:
        sizes: sides of the square frames.
        frames: of each feed-forward method, and pairs of each way to estimate flow, after the warm-up.
        iterations: of each optimisation. L-BFGS keeps two pictures more after each of its first 20, which fewer than
            that do not show in the memory, and hardly in the time.
    """

    sizes: tuple[int, ...] = (256, 512, 1024)
    frames: int = 10
    iterations: int = 10


class Measured(TypedDict):
    """Of a method at a size: JSON values. `flop` and each of `seconds` belong to a frame, or to an iteration."""

    seconds: list[float]
    flop: int
    matrix_rates: list[float]  # FLOP a second of matrix products beside it
    peak_bytes: int | None


def alternating(
    jobs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each job in each of `rounds` rounds, in which each runs once; `WARM_UP` rounds before do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(WARM_UP + rounds):
        for name, job in jobs.items():
            started = clock()
            job()
            if number >= WARM_UP:
                seconds[name].append(clock() - started)
    return seconds


def iteration_steps(
    build: Callable[[IterationReport], Stylizer],
    frames: Sequence[Tensor],
    reading: Callable[[], float] = time.perf_counter,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """By how much `reading` grows in each iteration of the last of `frames`, (1, 3, H, W): an update and an evaluation.

    build: makes the optimisation, which tells the report its iterations from 0, before the first update, on. between:
    is called where an iteration ends, and counts to none.
    """
    steps: list[float] = []
    before = 0.0

    def report(iteration: int, _terms: Mapping[str, float]) -> None:
        nonlocal before
        after = reading()
        if iteration == 0:
            steps.clear()
        else:
            steps.append(after - before)
        between()
        before = reading()

    for _ in build(report)(as_frames(frames)):
        pass
    return steps


def flop_of_iteration(build: Callable[[IterationReport], Stylizer], frames: Sequence[Tensor]) -> int:
    """FLOP of the last iteration that `iteration_steps` sees."""
    counter = FlopCounter()
    with counter:
        return int(iteration_steps(build, frames, lambda: counter.flop)[-1])


def matrix_side(device: torch.device) -> int:
    """Of the matrices that the machine is measured with: large enough to reach its rate, small beside a frame."""
    return _MATRIX_SIDES.get(device.type, _MATRIX_SIDE)


class MatrixProduct:
    """A square matrix product, the machine's measure: calling it multiplies once, and waits for an accelerator.

    On CUDA float32 convolutions may use TF32, which products do not: a share of more than 1 is then possible.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, side: int | None = None, seed: int = 0) -> None:
        self.side = side or matrix_side(device)
        self.flop = 2 * self.side**3
        generator = torch.Generator(device).manual_seed(seed)
        sides = self.side, self.side
        self._factors = [torch.randn(sides, generator=generator, dtype=dtype, device=device) for _ in range(2)]

    def __call__(self) -> None:
        first, second = self._factors
        (first @ second)[0, 0].item()

    def rate(self, seconds: float) -> float:
        """FLOP a second of a product that took so long."""
        return self.flop / seconds


class AddedMemory:
    """What the process holds at its peak beyond what it held when this was made.

    It is to be made in a fresh process, before the method: an allocator keeps what others freed, and would hand it to
    the method unseen. The libraries are loaded by then, their code that nothing used yet is not. Of a GPU it is the
    memory of tensors on it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._known = True
        else:
            self._known = device.type == "cpu" and reset_peak()
        self._before = torch.cuda.memory_allocated(device) if device.type == "cuda" else resident().now

    def bytes(self) -> int | None:
        """None where the system does not tell: elsewhere than on Linux and CUDA."""
        if not self._known:
            return None
        on_gpu = self._device.type == "cuda"
        return (torch.cuda.max_memory_allocated(self._device) if on_gpu else resident().peak) - self._before


def flow_both_ways(flow: Estimator, pair: tuple[Tensor, Tensor]) -> None:
    """Estimates the flow between two frames, both directions side by side, and its masks: what Ruder's frame needs."""
    for _ in flow_ahead(as_frames(pair), between_frames(flow)):
        pass


def spread(values: Sequence[float], name: str = "seconds") -> dict[str, float]:
    """Median, as `name`, minimum and quartiles."""
    keys = (name, f"{name}_min", f"{name}_q1", f"{name}_q3")
    return dict(zip(keys, np.quantile(values, (0.5, 0, 0.25, 0.75)).tolist(), strict=True))


def method_row(
    style: str, method: str, size: int, precision: str, measured: Measured, iterations: int | None = None
) -> Row:
    """A row; with `iterations` of a frame `measured` is of one of them, and the row is extrapolated."""
    times = iterations or 1
    gflop = measured["flop"] * times / 1e9
    seconds = spread([value * times for value in measured["seconds"]])
    rate = float(np.median(measured["matrix_rates"])) / 1e9
    return {
        "style": style,
        "method": method,
        "size": size,
        "precision": precision,
        **seconds,
        "n": len(measured["seconds"]),
        "extrapolated": iterations is not None,
        "iterations": iterations,
        "gflop": gflop,
        "gflop_per_second": gflop / seconds["seconds"],
        "matrix_gflop_per_second": rate,
        "matrix_share": gflop / seconds["seconds"] / rate,
        "peak_bytes": measured["peak_bytes"],
    }


def flow_row(method: str, size: int, seconds: Sequence[float]) -> Row:
    """A way to estimate flow: a pair of frames, both directions."""
    return {"flow": method, "size": size, **spread(seconds), "n": len(seconds)}


def ratio_row(size: int, numerator: Measured, denominator: Measured) -> Row:
    """How many times as long a frame of one method takes as one of another in the same round."""
    ratios = [a / b for a, b in zip(numerator["seconds"], denominator["seconds"], strict=True)]
    return {"size": size, **spread(ratios, "ratio")}


def table(rows: Sequence[Row], flow: Sequence[Row], note: str) -> Table:
    """Table 2, with a line of each way to estimate flow."""
    columns = ("", "size", "s/frame", "min", "quartiles", "GFLOP", "GFLOP/s", "of matrix rate", "peak MiB")
    lines = [_method_line(row) for row in rows] + [_flow_line(row) for row in flow]
    starred = any(row["extrapolated"] for row in rows)
    explained = f"* a median iteration, times {PAPER_ITERATIONS} as the paper counts them. " if starred else ""
    return Table("Table 2: seconds a frame", columns, lines, explained + note)


def _method_line(row: Row) -> list[str]:
    memory = row["peak_bytes"]
    return [
        *(row["method"], str(row["size"])),
        *_times(row, "*" if row["extrapolated"] else ""),
        *(digits(row["gflop"]), digits(row["gflop_per_second"]), f"{row['matrix_share']:.0%}"),
        "-" if memory is None else f"{memory / 2**20:.0f}",
    ]


def _flow_line(row: Row) -> list[str]:
    return [f"flow: {row['flow']}", str(row["size"]), *_times(row), "-", "-", "-", "-"]


def _times(row: Row, mark: str = "") -> list[str]:
    median, least, low, high = (digits(row[f"seconds{part}"]) for part in ("", "_min", "_q1", "_q3"))
    return [median + mark, least, f"{low} to {high}"]


def digits(value: float) -> str:
    """Three significant digits, and all before the point: 0.0413, 12.3, 8120."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if rounded >= 100 else f"{rounded:.3g}"


def draw(figure: "Figure", rows: Sequence[Row], flow: Sequence[Row]) -> None:
    """Median seconds a frame over the size, with quartiles; what is extrapolated has hollow points, flow is dashed."""
    axes = figure.subplots()
    for label, own, look in _lines(rows, flow):
        medians = np.array([row["seconds"] for row in own])
        quartiles = [medians - [row["seconds_q1"] for row in own], [row["seconds_q3"] for row in own] - medians]
        axes.errorbar([row["size"] for row in own], medians, quartiles, label=label, capsize=3, **look)
    axes.axhline(_REAL_TIME, color=OTHERS[-1], linewidth=0.8, linestyle=":")
    place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "bottom"}
    axes.text(1, _REAL_TIME, "25 frames a second", color=OTHERS[-1], fontsize=8, **place)
    sizes = sorted({row["size"] for row in (*rows, *flow)})
    axes.set(xscale="log", yscale="log", xlabel="side of the square frames in pixels", ylabel="seconds a frame")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _place: digits(value))
    figure.legend(loc="outside right center")


def _lines(rows: Sequence[Row], flow: Sequence[Row]) -> list[tuple[str, list[Row], dict[str, Any]]]:
    """Label, rows by size and look of each line, the slowest first, as they lie above each other."""
    lines: list[tuple[str, list[Row], dict[str, Any]]] = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        extrapolated = own[0]["extrapolated"]
        label = f"{method} (extrapolated)" if extrapolated else method
        width, marker, side, order = (3.0, "o", 9, 2.1) if method in _UNDER else (1.2, "s", 5, 2.2)
        look = {"color": COLORS[method], "linewidth": width, "marker": marker, "markersize": side, "zorder": order}
        lines.append((label, own, look | ({"markerfacecolor": "white"} if extrapolated else {})))
    for method, color in zip(dict.fromkeys(row["flow"] for row in flow), OTHERS, strict=False):
        own = [row for row in flow if row["flow"] == method]
        lines.append((f"flow alone: {method}", own, {"color": color, "linestyle": "--", "marker": "D"}))
    by_size = [(label, sorted(own, key=lambda row: row["size"]), look) for label, own, look in lines]
    return sorted(by_size, key=lambda line: -max(row["seconds"] for row in line[1]))
