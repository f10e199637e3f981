"""How long each way of optimising a picture takes to the loss that plain L-BFGS from the content image reaches.

python benchmarks/gatys.py -o FOLDER [--content PICTURE] [--style PICTURE] [--ways NAME ...]

The first way sets the mark: 500 iterations at full size in float32. Every loss is that objective's, at full size and in
float32. The others end when they are below it and have done 300 iterations, or after 500. FOLDER gets results.json with
each way's trace (iteration, seconds, loss), kept when the command is given again after a kill, and each way's best
picture. At the end seconds an iteration are measured side by side, beside the floor that the network's FLOPs set.
"""

import argparse
import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nststab.baselines.gatys import Gatys, GatysSettings, objective, optimize
from nststab.frames import Frame
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint, read_tensors
from nststab.styles.shipped import demo_clip, find_style, perceptual_weights
from nststab.vgg import PerceptualNetwork, normalization
from nststab.video.clip import open_clip
from nststab.video.images import read_picture, replacing, resize, write_picture

SETTINGS = LossSettings()
DTYPES = ("float32", "bfloat16")
MARK = "content"
LEAST = 300  # iterations of a way that is below the mark already
EVERY = 5  # a loss computed in bfloat16 is computed in float32 too, off the clock, each so many iterations


@dataclass(frozen=True)
class Way:
    """How the picture is optimised; `init` may also be "network", the shipped independent network's result."""

    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    init: str = "content"
    coarse: int = 0
    coarse_iterations: int = 50
    dtype: str = "float32"
    learning_rate: float = 0.02


WAYS = {
    MARK: Way(),
    "content, bfloat16": Way(dtype="bfloat16"),
    "adam": Way("adam"),
    "adam, bfloat16": Way("adam", dtype="bfloat16"),
    "2 scales, bfloat16": Way(coarse=1, dtype="bfloat16"),
    "3 scales, bfloat16": Way(coarse=2, dtype="bfloat16"),
    "4 scales, bfloat16": Way(coarse=3, dtype="bfloat16"),
    "network, bfloat16": Way(init="network", dtype="bfloat16"),
    "network, 2 scales, bfloat16": Way(init="network", coarse=1, dtype="bfloat16"),
    "noise, bfloat16": Way(init="noise", dtype="bfloat16"),
    "noise, 3 scales, bfloat16": Way(init="noise", coarse=2, dtype="bfloat16"),
    "2 scales": Way(coarse=1),
}


@dataclass(frozen=True)
class Task:
    """The picture, the style picture and the network of all ways."""

    content: Tensor
    style: Tensor
    network: PerceptualNetwork

    def target(self, halvings: int = 0) -> dict[str, Tensor]:
        """The style of a scale: of a picture that is as much smaller as the content."""
        picture = resize(self.style, round(max(self.style.shape) / 2**halvings))
        return style_target(self.network, picture, SETTINGS.style_layers)

    def loss(self, halvings: int = 0, dtype: str = "float32") -> PerceptualLoss:
        return PerceptualLoss(self.network, self.target(halvings), SETTINGS, getattr(torch, dtype))


class Finished(Exception):
    """The way reached the mark, or its last iteration."""


@dataclass
class Trace:
    """Follows one way: what it is asked to evaluate at full size, and the clock, which stands still meanwhile."""

    exact: Callable[[Tensor], float]  # a picture's loss in float32
    least: int
    most: int
    mark: float | None
    rows: list[tuple[int, float, float]] = field(default_factory=list)  # iteration, seconds, loss
    coarse: list[int] = field(default_factory=list)  # evaluations at each coarser scale
    best: Tensor | None = None
    paused: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def evaluated(self, iteration: int, picture: Tensor, loss: float | None) -> None:
        """Adds a row; `loss` is None where it was not computed in float32."""
        now = time.perf_counter()
        if loss is None and iteration % EVERY and iteration != self.most:
            return
        value = self.exact(picture) if loss is None else loss
        if not self.rows or value < self.lowest:
            self.best = picture.detach().clone()
        self.rows.append((iteration, now - self.started - self.paused, value))
        self.paused += time.perf_counter() - now
        if iteration == self.most or (self.reached is not None and iteration >= self.least):
            raise Finished

    @property
    def lowest(self) -> float:
        return min(row[2] for row in self.rows)

    @property
    def reached(self) -> tuple[int, float, float] | None:
        """The first row at or below the mark."""
        return next((row for row in self.rows if self.mark is not None and row[2] <= self.mark), None)


class Watched(PerceptualLoss):
    """The loss at full size, which tells a trace of every evaluation."""

    def __init__(self, task: Task, dtype: str, trace: Trace) -> None:
        super().__init__(task.network, task.target(), SETTINGS, getattr(torch, dtype))
        self._trace = trace
        self._iteration = 0

    def __call__(
        self, images: Tensor, content_targets: Mapping[str, Tensor], regions: Tensor | None = None
    ) -> dict[str, Tensor]:
        terms = super().__call__(images, content_targets, regions)
        exact = math.fsum(term.item() for term in terms.values()) if self.dtype == torch.float32 else None
        self._trace.evaluated(self._iteration, images, exact)
        self._iteration += 1
        return terms


def main() -> None:
    options = arguments()
    console = Console()
    task = load_task(options)
    path = options.output / "results.json"
    results = kept(path, options, task)
    console.print(f"{task.content.shape[-1]}x{task.content.shape[-2]}, {torch.get_num_threads()} threads")
    for name in dict.fromkeys([MARK, *options.ways]):
        if name not in results["ways"]:
            mark = results["ways"][MARK]["lowest"] if name != MARK else None
            row, picture = follow(task, WAYS[name], mark, options)
            write_picture(options.output / f"{name.replace(', ', '_').replace(' ', '_')}.png", picture)
            results["ways"][name] = row
            save(path, results)
            console.print(f"{name}: {row['lowest']:.5f}, mark reached: {row['reached']}", highlight=False)
    results["speed"] = speed(task, options.repeats)
    save(path, results)
    console.print(table(results))
    for line in speed_lines(results["speed"]):
        console.print(line, highlight=False)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", type=Path, help="default: the first frame of the shipped clip")
    parser.add_argument("--style", type=Path, help="default: the shipped picture of the_great_wave")
    parser.add_argument("--network", default="the_great_wave", help="shipped style whose network starts some ways")
    parser.add_argument("--size", type=int, default=512, help="longest side of both")
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=9, help="of the speed measurement")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder; must exist")
    return parser.parse_args()


def load_task(options: argparse.Namespace) -> Task:
    content = (read_picture(options.content) if options.content else next(open_clip(demo_clip()).frames())).rgb
    picture = options.style or find_style("the_great_wave").image
    assert picture is not None
    tensors, metadata = read_tensors(perceptual_weights())
    network = PerceptualNetwork(tensors, normalization(tensors, metadata))
    return Task(resize(content, options.size), resize(read_picture(picture).rgb, options.size), network)


def kept(path: Path, options: argparse.Namespace, task: Task) -> dict[str, Any]:
    """What an earlier run with the same pictures and counts has finished."""
    pictures = b"".join(picture.numpy().tobytes() for picture in (task.content, task.style))
    identity = {
        "pictures": hashlib.blake2b(pictures, digest_size=8).hexdigest(),
        "iterations": options.iterations,
        "network": options.network,
    }
    if not path.is_file():
        return {"identity": identity, "size": list(task.content.shape[2:]), "ways": {}}
    results: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if results["identity"] != identity:
        raise SystemExit(f"{path} is of another run ({results['identity']}): give another folder")
    return results


def save(path: Path, results: Mapping[str, Any]) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(results) + "\n", "utf-8")


def follow(task: Task, way: Way, mark: float | None, options: argparse.Namespace) -> tuple[dict[str, Any], Tensor]:
    """One way's row of the JSON, and its best picture."""
    settings = GatysSettings(
        options.iterations,
        way.optimizer,
        way.learning_rate,
        "noise" if way.init == "noise" else "content",
        tolerance=0,
        chroma_weight=0,
        coarse_iterations=way.coarse_iterations,
    )
    coarse = [task.loss(halvings, way.dtype) for halvings in range(way.coarse, 0, -1)]
    start = network_start(options.network) if way.init == "network" else None
    counts: list[int] = []

    def count(iteration: int, _terms: Mapping[str, float]) -> None:
        counts[len(counts) - (iteration > 0) :] = [iteration]

    least = min(LEAST, options.iterations) if mark is not None else options.iterations
    trace = Trace(exact_loss(task), least, options.iterations, mark)
    stylizer = Gatys(Watched(task, way.dtype, trace), settings, count, start=start, coarse=coarse)
    with suppress(Finished):
        stylizer.stylize(task.content)
    assert trace.best is not None
    return {
        "coarse": counts[:-1],  # the last is the full size
        "reached": trace.reached,
        "lowest": trace.lowest,
        "after": {str(n): min(row[2] for row in trace.rows if row[0] <= n) for n in (0, 50, 100, 200, LEAST)},
        "trace": [(n, round(seconds, 3), round(value, 6)) for n, seconds, value in trace.rows],
    }, trace.best


def exact_loss(task: Task) -> Callable[[Tensor], float]:
    terms = objective(task.loss(), task.content)

    def exact(picture: Tensor) -> float:
        with torch.no_grad():
            return math.fsum(term.item() for term in terms(picture).values())

    return exact


def network_start(style: str) -> Callable[[Tensor], Tensor]:
    """Frames stylized by a shipped independent network."""
    network = FeedForward(load_checkpoint(find_style(style).checkpoint("independent")).network)
    return lambda frame: next(network([Frame(frame)])).rgb


def speed(task: Task, repeats: int) -> dict[str, Any]:
    """Seconds an iteration of each optimizer, arithmetic and scale, in turns; the rates and the network's FLOPs."""
    seconds: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    optimizers: tuple[Literal["lbfgs", "adam"], ...] = ("lbfgs", "adam")
    cases = [(o, d, h) for o in optimizers for d in DTYPES for h in (0, 1, 2)]
    losses = {(d, h): task.loss(h, d) for _, d, h in cases}
    for _ in range(repeats):
        for optimizer, dtype, halvings in cases:
            content = resize(task.content, round(max(task.content.shape) / 2**halvings))
            times = iteration_seconds(losses[dtype, halvings], content, optimizer)
            seconds.setdefault(f"{optimizer} {dtype} 1/{2**halvings}", []).extend(times)
        for dtype in DTYPES:
            for kind, rate in matrix_rates(getattr(torch, dtype)).items():
                rates.setdefault(f"{kind} {dtype}", []).append(rate)
    return {
        "seconds": {name: {"best": min(v), "median": statistics.median(v)} for name, v in seconds.items()},
        "gflops": {name: max(v) for name, v in rates.items()},
        "gflop": network_flop(task) / 1e9,
    }


def iteration_seconds(loss: PerceptualLoss, content: Tensor, optimizer: Literal["lbfgs", "adam"]) -> list[float]:
    """Of a few iterations, without the first, which allocates."""
    ticks: list[float] = []

    def tick(_iteration: int, _terms: Mapping[str, float]) -> None:
        ticks.append(time.perf_counter())

    optimize(content, objective(loss, content), GatysSettings(iterations=4, optimizer=optimizer), tick)
    return [after - before for before, after in itertools.pairwise(ticks[1:])]


def matrix_rates(dtype: torch.dtype) -> dict[str, float]:
    """GFLOP/s of a matrix product and of the network's most frequent convolution."""
    a, b = torch.ones(2, 2048, 2048, dtype=dtype)
    picture = torch.ones(1, 256, 72, 128, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(256, 256, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    return {
        "product": 2 * 2048**3 / best_seconds(lambda: a @ b) / 1e9,
        "convolution": 2 * 9 * 256**2 * 72 * 128 / best_seconds(lambda: F.conv2d(picture, weight, padding=1)) / 1e9,
    }


def best_seconds(call: Callable[[], object]) -> float:
    times = []
    for _ in range(4):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def network_flop(task: Task) -> int:
    """Of the network's forward pass and its gradient to the picture."""
    picture = task.content.clone().requires_grad_()
    with FlopCounterMode(display=False) as counter:
        features = task.network(picture, SETTINGS.style_layers)
        torch.autograd.backward(torch.stack([value.sum() for value in features.values()]).sum())
    total: int = counter.get_total_flops()
    return total


def quiet_seconds(way: Way, row: Mapping[str, Any], fastest: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds to the mark at the speed measured side by side; other work on the machine disturbs a trace's clock."""
    seconds = row["reached"][0] * fastest[f"{way.optimizer} {way.dtype} 1/1"]["best"]
    for halvings, count in enumerate(reversed(row["coarse"]), 1):
        case = f"{way.optimizer} {way.dtype} 1/{2 ** min(halvings, 2)}"
        seconds += count * fastest[case]["best"] / 4 ** max(0, halvings - 2)
    return float(seconds)


def table(results: Mapping[str, Any]) -> Table:
    height, width = results["size"]
    mark = results["ways"][MARK]["lowest"]
    result = Table(title=f"{width}x{height}, the mark is {mark:.5f}", title_justify="left", box=SIMPLE, pad_edge=False)
    result.add_column("way", no_wrap=True)
    for heading in ("coarse", "iterations", "s", "s, quiet", "start", "100", "300", "lowest"):
        result.add_column(heading, justify="right")
    for name, row in results["ways"].items():
        reached = ("not in", str(row["trace"][-1][0]), "")
        if row["reached"] or name == MARK:
            row = {**row, "reached": row["reached"] or row["trace"][-1]}
            quiet = quiet_seconds(WAYS[name], row, results["speed"]["seconds"])
            reached = (str(row["reached"][0]), f"{row['reached'][1]:.0f}", f"{quiet:.0f}")
        losses = (f"{value:.4f}" for value in (*(row["after"][n] for n in ("0", "100", str(LEAST))), row["lowest"]))
        result.add_row(name, "+".join(map(str, row["coarse"])), *reached, *losses)
    return result


def speed_lines(speed: Mapping[str, Any]) -> list[str]:
    """Iterations beside the floor: the network's FLOPs at the best rate measured."""
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in speed["gflops"].items())
    lines = [f"the network: {speed['gflop']:.0f} GFLOP an iteration; GFLOP/s: {rates}"]
    for name, seconds in speed["seconds"].items():
        line = f"{name:20} {seconds['best'] * 1e3:.0f} ms an iteration at best, median {seconds['median'] * 1e3:.0f}"
        dtype = name.split()[1]
        floor = speed["gflop"] / max(rate for case, rate in speed["gflops"].items() if case.endswith(dtype))
        lines.append(f"{line}; floor {floor * 1e3:.0f}" if name.endswith("1/1") else line)
    return lines


if __name__ == "__main__":
    main()
