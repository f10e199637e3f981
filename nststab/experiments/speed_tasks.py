"""What `nststab evaluate speed` measures at one size: networks in step, flows in step, a method in a fresh process."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, cycle, islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.baselines.gatys import Callback
from nststab.cli.common import OPTIMISERS, run_options
from nststab.datasets.synthetic import SyntheticSettings, make_clip
from nststab.experiments.cli_common import Candidate
from nststab.experiments.speed import (
    WARM_UP,
    AddedMemory,
    MatrixProduct,
    Measured,
    SpeedSettings,
    alternating,
    flop_of_iteration,
    flow_both_ways,
    iteration_steps,
)
from nststab.flow.estimators import ESTIMATORS
from nststab.flow.source import FlowSource
from nststab.frames import Stylizer, as_frames
from nststab.measure.flop import flop_of
from nststab.methods.build import OptimizerOptions, machine
from nststab.styles.shipped import demo_clip
from nststab.styles.source import style_name, style_source
from nststab.video.clip import open_clip

log = logging.getLogger(__name__)

CLIP, TEXTURE = "the bundled clip", "a moving texture"
_TEXTURE_SIDE = 256
_DIFFERENT = 12  # frames, gone through forwards and backwards
_MEMORY_FRAMES = 3  # after which a network's memory grows no more


class InStep(TypedDict):
    """Seconds of each job in each round, and FLOP of a frame of each network."""

    seconds: dict[str, list[float]]
    flop: dict[str, int]
    matrix_rates: list[float]


@dataclass(frozen=True)
class Task:
    """What is measured, in words that another process understands: `method` at `size`, of a style by its text."""

    style: str
    settings: SpeedSettings
    content: str
    seed: int
    device: str
    precision: str
    threads: int
    perceptual: Mapping[str, Any]  # --network and --vgg-weights
    flow_methods: tuple[str, ...]
    method: str = ""
    size: int = 0

    def candidate(self, iterations: int, cache: Path | None = None) -> Candidate:
        """The method with so many iterations of the last frame: of ruder's first one is enough."""
        counts = (1, iterations) if self.method == "ruder" else (iterations,)
        flow = FlowSource(self.flow_methods[0] if self.flow_methods else "deepflow", cache)
        loop = {"seed": self.seed, "tolerance": 0.0}  # none ends early
        options = OptimizerOptions(loop=loop, iterations=counts, flow=flow, **self.perceptual)
        where = machine(self.device, self.precision)
        return Candidate(style_name(self.style), self.method, style_source(self.style), where, options)

    def frames(self, count: int) -> list[Tensor]:
        """So many frames (1, 3, size, size): of the bundled clip, forwards and backwards, or of a moving texture."""
        if self.content == CLIP:
            seen = [frame.rgb for frame in islice(open_clip(demo_clip()).frames(), min(count, _DIFFERENT))]
        else:
            seen = _texture(self.seed)
        square = (self.size, self.size)
        scaled = [F.interpolate(frame, square, mode="bicubic", antialias=True).clamp_(0, 1) for frame in seen]
        return list(islice(cycle(chain(scaled, scaled[-2:0:-1])), count))


def _texture(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side, cell = _TEXTURE_SIDE, 8
    photos = [
        F.interpolate(torch.rand(1, 3, side // cell, side // cell, generator=generator), (side, side), mode="bicubic")
        for _ in range(3)
    ]
    settings = SyntheticSettings(length=_DIFFERENT, height=side, width=side, still_clips=0, still_layers=0)
    frames = make_clip(photos, settings, generator).frames[0]  # (T, 3, H, W)
    return [frame[None] for frame in frames]


def available_content() -> str:
    """The bundled clip; where no video can be decoded a texture, which it says."""
    try:
        open_clip(demo_clip())
    except OSError as error:
        log.info(f"measuring on {TEXTURE}: {error}")
        return TEXTURE
    return CLIP


def networks_in_step(task: Task, methods: Sequence[str]) -> InStep:
    """The feed-forward `methods` and the machine's matrix product, alternating."""
    rounds = task.settings.frames
    frames = task.frames(WARM_UP + rounds)
    stylizers = {method: replace(task, method=method).candidate(1).stylizer(task.size) for method in methods}
    streams = {method: stylizer(as_frames(frames)) for method, stylizer in stylizers.items()}
    product = _product(task, task.precision)
    jobs: dict[str, Callable[[], object]] = {method: stream.__next__ for method, stream in streams.items()}
    seconds = alternating({**jobs, "": product}, rounds)
    rates = [product.rate(value) for value in seconds.pop("")]
    flop = {method: flop_of(stylizer(as_frames(frames)).__next__) for method, stylizer in stylizers.items()}
    return {"seconds": seconds, "flop": flop, "matrix_rates": rates}


def flows_in_step(task: Task) -> dict[str, list[float]]:
    """Seconds of a pair of frames by each way to estimate flow, alternating."""
    rounds = task.settings.frames
    frames = task.frames(WARM_UP + rounds + 1)

    def job(method: str) -> Callable[[], object]:
        pairs = pairwise(frames)
        return lambda: flow_both_ways(ESTIMATORS[method], next(pairs))

    return alternating({method: job(method) for method in task.flow_methods}, rounds)


def frames_alone(task: Task) -> int:
    """How many frames `alone` computes, or iterations about: a network's frames, an optimisation's three runs."""
    return _MEMORY_FRAMES if task.method not in OPTIMISERS else task.settings.iterations + 6


def alone(task: Task) -> Measured:
    """The method by itself, of a network the memory only; to be called in a fresh process."""
    torch.set_num_threads(task.threads)
    with click.Context(click.Command("speed")) as context:
        run_options(context).quiet = True  # the process that began this one has said all
        return _optimization(task) if task.method in OPTIMISERS else _network_memory(task)


def _network_memory(task: Task) -> Measured:
    frames = task.frames(_MEMORY_FRAMES)
    memory = AddedMemory(torch.device(task.device))
    for _ in task.candidate(1).stylizer(task.size)(as_frames(frames)):
        pass
    return {"seconds": [], "flop": 0, "matrix_rates": [], "peak_bytes": memory.bytes()}


def _optimization(task: Task) -> Measured:
    """Two frames of ruder, whose second is timed, or one of gatys; once before to warm up.

    The machine's matrix product runs between the iterations, where less memory is held than within. Not before: what
    it left to the allocator would not count as the method's.
    """
    frames = task.frames(2 if task.method == "ruder" else 1)
    with TemporaryDirectory() as cache:  # not the user's

        def building(iterations: int) -> Callable[[Callback], Stylizer]:
            return lambda report: task.candidate(iterations, Path(cache)).stylizer(task.size, report)

        product = _product(task, task.candidate(1).where.optimizing)
        rates: list[float] = []

        def multiply() -> None:
            rates.extend(map(product.rate, alternating({"": product}, 1)[""]))

        memory = AddedMemory(torch.device(task.device))
        iteration_steps(building(1), frames)
        seconds = iteration_steps(building(task.settings.iterations), frames, between=multiply)
        peak = memory.bytes()
        flop = flop_of_iteration(building(1), frames)
    return {"seconds": seconds, "flop": flop, "matrix_rates": rates, "peak_bytes": peak}


def _product(task: Task, precision: str) -> MatrixProduct:
    return MatrixProduct(getattr(torch, precision), torch.device(task.device), seed=task.seed)
