"""What a job will take, before it begins: memory from a model of its footprint, time from a short probe."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nststab.memory import Resident, reset_peak, resident

# The interpreter's end touches pages of the libraries that nothing else does: seen by the system's account of a process
# (130 to 190 MB with torch 2.15 and OpenCV), never together with a job's own peak.
_END = 170_000_000
_SMALL = 128  # longest side of the first probe
_LEAST = 32  # shortest side of any: networks need some pixels, and these fit anywhere


class Footprint(NamedTuple):
    """Bytes that a job adds to its process at its peak: `fixed`, and `per_pixel` for each pixel of a frame."""

    fixed: float = 0.0
    per_pixel: float = 0.0

    def at(self, width: int, height: int) -> float:
        return self.fixed + self.per_pixel * width * height

    def plus(self, *others: "Footprint") -> "Footprint":
        """Of things that are in memory at the same time."""
        return Footprint(*(sum(values) for values in zip(self, *others, strict=True)))


class Seconds(NamedTuple):
    """Time of a first frame, and of each later one."""

    first: float
    later: float

    def scaled(self, factor: float) -> "Seconds":
        return Seconds(self.first * factor, self.later * factor)


class Probe(NamedTuple):
    """What was measured: the time of a frame at `width` x `height`, and the memory that it added to the process."""

    width: int
    height: int
    seconds: Seconds
    added: int


@dataclass(frozen=True)
class Plan:
    """What a job of `frames` (None: not known) of `width` x `height` will take: bytes at its peak, and seconds.

    `available` (None: not known) counts what the process holds already, as `peak` does.
    """

    frames: int | None
    width: int
    height: int
    peak: int
    available: int | None
    seconds: Seconds
    probe: Probe

    @property
    def fits(self) -> bool:
        return self.available is None or self.peak <= self.available

    @property
    def total_seconds(self) -> float | None:
        """None where the number of frames is not known."""
        return None if self.frames is None else self.seconds.first + max(0, self.frames - 1) * self.seconds.later


def peak_memory(added: float, held: Resident) -> int:
    """The most that a process will hold, which now holds `held` and will add `added` bytes."""
    return round(max(held.peak, held.now + max(added, _END)))


def saved_for_backward(loss: Callable[[Tensor], Mapping[str, Tensor]], device: torch.device | str = "cpu") -> float:
    """Bytes a pixel that `loss` of pictures (1, 3, H, W) needs at the peak of its gradient's computation.

    Counts what autograd saves in two tiny runs, and adds three times the largest of these tensors: the gradients in
    work at the finest layer. An exact count of all tensors of VGG-16 and VGG-19 agrees to 6 %.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine the threads would wait for each other longer than they compute
    try:
        pictures = (torch.rand(1, 3, 32, width, generator=_generator()).to(device) for width in (32, 64))
        counts = [_saved(loss, picture) for picture in pictures]
    finally:
        torch.set_num_threads(threads)
    (total, largest), (wide_total, wide_largest) = counts
    return (wide_total - total + 3 * (wide_largest - largest)) / (32 * 32)


def _saved(loss: Callable[[Tensor], Mapping[str, Tensor]], pixels: Tensor) -> tuple[int, int]:
    """Bytes of all tensors that autograd saves, and of the largest activation."""
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        terms = loss(pixels.requires_grad_())
    sizes = {key: tensor.untyped_storage().nbytes() for key, tensor in saved.items()}
    finest = [key for key, tensor in saved.items() if tensor.ndim == 4 and tensor.shape[-1] >= pixels.shape[-1]]
    del terms  # and with them what autograd held
    return sum(sizes.values()), max((sizes[key] for key in finest), default=0)


def _generator() -> torch.Generator:
    """Random numbers of our own, so that the job's are what they would be without a plan."""
    return torch.Generator().manual_seed(0)


def noise(width: int, height: int, count: int = 1) -> Iterator[Tensor]:
    """Frames (1, 3, H, W) for a probe."""
    generator = _generator()
    for _ in range(count):
        yield torch.rand(1, 3, height, width, generator=generator)


def largest_size(fits: Callable[[int], bool], below: int, least: int = 1) -> int | None:
    """The largest whole number from `least` to under `below` that `fits`, which must hold for all smaller ones too."""
    low, high = least - 1, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low >= least else None


def probe(
    run: Callable[[int, int], Seconds],
    width: int,
    height: int,
    largest: float = 1.0,
    budget: float = 10.0,
    device: torch.device | str = "cpu",
) -> Probe:
    """Measures `run`, which computes a frame of a size and gives its time: at `width` x `height`, or below.

    Two runs at a small size, the first to warm up, tell how large the third may be to end within about `budget`
    seconds; it is no larger than `largest` of the sides. The time is scaled by the pixels to `width` x `height`. The
    memory is what all of them added to the process; the random state stays as it was.
    """
    least = min(1.0, _LEAST / min(width, height))
    largest = max(largest, least)
    scale = max(least, min(largest, _SMALL / max(width, height)))
    with torch.random.fork_rng(devices=[]):
        before = _held(device, reset=True).now
        size = _scaled(width, height, scale)
        run(*size)
        started = time.monotonic()
        took = run(*size)
        spent = max(time.monotonic() - started, 1e-6)
        affordable = min(largest, scale * math.sqrt(budget / spent))
        if affordable > scale:
            size = _scaled(width, height, affordable)
            took = run(*size)
    return Probe(*size, took.scaled(width * height / (size[0] * size[1])), max(0, _held(device).peak - before))


def _held(device: torch.device | str, reset: bool = False) -> Resident:
    if torch.device(device).type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return Resident(torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))
    if reset:
        reset_peak()
    return resident()


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))
