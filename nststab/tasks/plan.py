"""What a long job will take, before it begins: a real frame or step is measured, and the rest predicted from that.

`measured` runs a step at growing sizes, up to the one asked for where time and memory allow it, and takes memory for a
straight line in the pixels. On top come the frames that wait and what a codec holds back, which no single frame shows.
"""

import ctypes
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.memory import Resident, available_memory, reset_peak, resident
from nststab.memory import gib as gib
from nststab.startup import returning_memory
from nststab.video.images import resized_shape

log = logging.getLogger(__name__)

_SMALL = 128  # longest side of the first run
_LEAST = 32  # shortest side of any: networks need some pixels, and these fit anywhere
_GROWTH = 3.0  # of the sides from one run to the next at most, so that memory is known before it is taken
_PIECES = 1.15  # what a long job's memory comes to lie in, with threads beside it: 1.0 to 1.3 measured
UNSEEN = 1.2  # what else runs beside what is measured
_ROOM = 0.9  # the part of the available memory that a run may take
# The interpreter's end touches pages of the libraries that nothing else does: 130 to 190 MB with torch and OpenCV.
_END = 170e6
# More than any method takes: an optimisation with VGG-19 in float32 about 4,000 bytes a pixel, training 7,000.
_MOST_FIXED, _MOST_PER_PIXEL = 1e9, 10e3
_MOST_OUTER = 400.0  # of enlarging a frame, which takes about 200 bytes a pixel


class Seconds(NamedTuple):
    """Time of a first frame or step and of each later one; the quickest and the slowest measured, as parts of that."""

    first: float
    later: float
    quickest: float = 1.0
    slowest: float = 1.0

    @classmethod
    def of(cls, measured: Sequence[float], first: float = 1.0, later: float = 1.0) -> "Seconds":
        """So many times the median of what was measured."""
        middle = statistics.median(measured)
        return cls(first * middle, later * middle, min(measured) / middle, max(measured) / middle)


def added(parts: Iterable[Seconds]) -> Seconds:
    """One after the other."""
    parts = list(parts)
    whole = sum(part.later for part in parts) or math.inf
    quickest, slowest = (
        sum(part.later * part[place] for part in parts) / whole if whole < math.inf else 1.0 for place in (2, 3)
    )
    return Seconds(sum(part.first for part in parts), sum(part.later for part in parts), quickest, slowest)


Step = Callable[[int, int], Seconds]
"""Does a frame or step of a width and height, whole or in part, and says how long the whole takes."""


class DoesNotFit(NststabError):
    """The job needs more memory than there is."""


@dataclass(frozen=True)
class Measured:
    """What a step of a size takes: measured at `width` x `height`, and told for the size that was asked for.

    Attributes:
        seconds: of the size asked for.
        fixed, per_pixel: bytes that the step adds to the process: a line through the two largest sizes.
    """

    seconds: Seconds
    fixed: float
    per_pixel: float
    width: int
    height: int

    def added(self, width: int, height: int) -> float:
        """Bytes that a step of a size adds to the process."""
        return self.fixed + self.per_pixel * width * height


def measured(
    step: Step,
    width: int,
    height: int,
    *,
    device: torch.device | str = "cpu",
    available: int | None = None,
    budget: float = 10.0,
) -> Measured:
    """Measures `step` at `width` x `height`, or at the largest size that surely fits and takes about `budget` seconds.

    The first run, which is small, only warms up. Each run is no larger than what the memory of the one before promises
    to fit into `available`. The random state stays as it was.
    """
    scale = min(1.0, max(_LEAST / min(width, height), _SMALL / max(width, height)))
    points: list[tuple[int, float]] = []  # pixels, and bytes that were added
    with torch.random.fork_rng(devices=[]):
        begun = _held(device).now
        with returning_memory():
            step(*_scaled(width, height, scale))
        _release()
        loaded = max(0, _held(device).now - begun)  # weights, threads, kernels: they stay

        def run(scale: float, last: bool) -> tuple[Seconds, float]:
            """Times of a size, and seconds that were spent; only the last leaves pieces of memory, as the job will."""
            size = _scaled(width, height, scale)
            _release()
            if torch.device(device).type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            reset_peak()
            before, started = _held(device).now, time.monotonic()
            with nullcontext() if last else returning_memory():
                took = step(*size)
            spent = max(time.monotonic() - started, 1e-6)
            points.append((size[0] * size[1], loaded + max(0.0, _held(device).peak - before)))
            return took, spent

        while True:
            took, spent = run(scale, scale == 1)
            room = math.inf if available is None else _ROOM * max(0, available - begun)
            roomy = math.sqrt(room / points[-1][1]) if points[-1][1] else _GROWTH
            larger = min(1.0, scale * min(_GROWTH, roomy, math.sqrt(budget / spent)))
            if _scaled(width, height, larger) <= _scaled(width, height, scale) or (larger < 1 and larger < 1.2 * scale):
                break
            scale = larger
        if scale < 1:
            points.pop()
            took, _ = run(scale, True)
    size = _scaled(width, height, scale)
    (other, less), (pixels, most) = points[-2] if len(points) > 1 else (0, 0.0), points[-1]
    slope = max(0.0, (most - less) / (pixels - other))
    whole = width * height / pixels
    seconds = took._replace(first=took.first * whole, later=took.later * whole)
    return Measured(seconds, most - slope * pixels, slope, *size)


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _release() -> None:
    """Gives the system back what the C library has freed and kept, so that the next run is seen to take it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _held(device: torch.device | str) -> Resident:
    if torch.device(device).type == "cuda":
        return Resident(torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))
    return resident()


def between(marks: Sequence[float]) -> list[float]:
    """The times from one mark to the next."""
    return [after - before for before, after in pairwise(marks)]


def noise(width: int, height: int, count: int = 1) -> Iterator[Tensor]:
    """Pictures (1, 3, H, W) to measure with, of random numbers of their own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.rand(1, 3, height, width, generator=generator)


@dataclass(frozen=True)
class Work:
    """A long job as a plan sees it.

    Attributes:
        rows: what is done, by name, for people.
        frames: what there is to do, and `unit` what it is called; None where it is not known.
        width, height: of the frames that come out; `pictures` of them are computed at the same time.
        steps: what is in memory at the same time, and one after the other in time.
        working: the size at which `steps` compute frames of a width and height.
        outer: what is done beside them at the full size.
        waiting: bytes of what a step does not show, for a width and height: frames that wait, codecs, history.
        advice: what to say for another longest side, such as `size=640`; `least` is the least there can be.
        sized: width and height for another longest side.
        beside: what else takes time, such as validations, in frames or steps.
        held: what the process held before all that.
        others: what takes time beside the steps and little memory, each measured at the size that was asked for.
        bound: bytes that the job keeps to.
    """

    rows: dict[str, str]
    frames: int | None
    unit: str
    width: int
    height: int
    steps: tuple[Step, ...]
    waiting: Callable[[int, int], float]
    advice: Callable[[int], str]
    sized: Callable[[int], tuple[int, int]]
    least: int = 1
    beside: float = 0.0
    pictures: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    working: Callable[[int, int], tuple[int, int]] = lambda width, height: (width, height)
    outer: Step | None = None
    held: Resident = field(default_factory=resident)
    others: tuple[Callable[[], Seconds], ...] = ()
    bound: int | None = None


@dataclass(frozen=True)
class Plan:
    """What a job will take, by what was measured.

    `available` (None: not known) counts what the process holds already, as `peak` does; `others` is the time of the
    work's.
    """

    work: Work
    parts: tuple[Measured, ...]
    available: int | None
    others: tuple[Seconds, ...] = ()

    def needed(self, width: int, height: int) -> int:
        """Bytes that the process, or the GPU, will hold at the peak with frames of a size."""
        inner = len(self.work.steps)
        step = sum(part.added(*self.work.working(width, height)) for part in self.parts[:inner])
        step += sum(part.added(width, height) for part in self.parts[inner:])
        added = _PIECES * step + self.work.waiting(width, height)
        if self.work.device.type == "cuda":
            return round(added)
        held = self.work.held
        return min(self.work.bound or sys.maxsize, round(max(held.peak, held.now + max(added, _END))))

    @property
    def peak(self) -> int:
        """Bytes at the size that was asked for."""
        return self.needed(self.work.width, self.work.height)

    @property
    def fits(self) -> bool:
        return self.available is None or self.peak <= self.available

    @property
    def seconds(self) -> Seconds:
        """Of a first frame or step, and of each later one."""
        return added([*(part.seconds for part in self.parts), *self.others])

    @property
    def total_seconds(self) -> float | None:
        """Of all frames or steps and what comes beside them; None where their number is not known."""
        frames, seconds = self.work.frames, self.seconds
        return None if frames is None else seconds.first + max(0, frames - 1 + self.work.beside) * seconds.later

    @property
    def range(self) -> tuple[float, float] | None:
        """Between which the whole will lie: of the quickest and the slowest measured, and what was not measured."""
        total, seconds = self.total_seconds, self.seconds
        return None if total is None else (total * seconds.quickest, total * seconds.slowest * UNSEEN)

    @property
    def advice(self) -> str:
        """Which size fits, where this one does not."""
        work, available = self.work, self.available or 0
        longest = max(work.width, work.height)
        size = largest_size(lambda side: self.needed(*work.sized(side)) <= available, longest, work.least)
        return "no size fits" if size is None else f"the largest size that fits is {work.advice(size)}"

    def table(self) -> str:
        """The plan for people, a line each: what is done, memory, time, and whether it fits."""
        work, part = self.work, self.parts[0]
        each = f"{duration(self.seconds.later)} for each of the {work.unit}"
        total = self.total_seconds
        time_told = each if total is None else duration(total) if work.frames == 1 else f"{duration(total)}, {each}"
        rows = {
            **work.rows,
            work.unit: "not known before it is read" if work.frames is None else str(work.frames),
            "memory": f"{gib(self.peak)} at the peak",
            "available": known(self.available),
            "time": time_told,
            **({"range": spanned(*self.range)} if self.range else {}),
            "probe": f"{part.width}x{part.height} added {gib(part.added(part.width, part.height))}",
            "verdict": "fits" if self.fits else f"does not fit; {self.advice}",
        }
        return "\n".join(f"{name:<11}{text}" for name, text in rows.items())


def plan(work: Work, budget: float = 40.0) -> Plan:
    """Measures the steps of a job, each for `budget` seconds at most, and tells from that what the whole will take.

    Frames of a smaller size take another time a pixel, so the real size is measured wherever that is quick enough.
    """
    memory = _memory(work, budget)
    return replace(memory, others=tuple(other() for other in work.others))


def _memory(work: Work, budget: float) -> Plan:
    """A plan that tells of the memory, and of the time only what the steps take."""
    available = available_memory(work.device)
    sized = [(step, *work.working(work.width, work.height)) for step in work.steps]
    sized += [(work.outer, work.width, work.height)] if work.outer else []
    parts = (measured(*one, device=work.device, available=available, budget=budget) for one in sized)
    return Plan(work, tuple(parts), available)


def surely_fits(work: Work, available: int | None) -> bool:
    """Whether even more than any method takes would fit: then nothing need be measured."""
    width, height = work.working(work.width, work.height)
    most = _MOST_FIXED + _MOST_PER_PIXEL * width * height * work.pictures
    most += _MOST_OUTER * work.width * work.height if work.outer else 0.0
    most += work.waiting(work.width, work.height)
    return available is None or work.held.now + most <= available


def check(work: Work) -> None:
    """Raises DoesNotFit, with the largest size that fits, where a job needs more memory than there is."""
    available = available_memory(work.device)
    if surely_fits(work, available):
        return
    made = _memory(work, budget=3.0)
    log.debug(f"memory: about {gib(made.peak)} at the peak, {known(available)} available")
    if not made.fits:
        needs = f"{work.width}x{work.height} needs about {gib(made.peak)} of memory, {known(available)} are available"
        raise DoesNotFit(f"{needs}; {made.advice}")


def largest_size(fits: Callable[[int], bool], below: int, least: int = 1) -> int | None:
    """The largest whole number from `least` to under `below` that `fits`, which must hold for all smaller ones too."""
    low, high = least - 1, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low if low >= least else None


def sized_like(width: int, height: int) -> Callable[[int], tuple[int, int]]:
    """Width and height of the frames of a clip of this shape, for any longest side."""

    def sized(longest: int) -> tuple[int, int]:
        down, across = resized_shape(height, width, longest, even=True)
        return across, down

    return sized


def known(available: int | None) -> str:
    """Bytes in words, where the system tells them."""
    return "unknown" if available is None else gib(available)


def spanned(low: float, high: float) -> str:
    """A range of seconds in words."""
    return f"{duration(low)} to {duration(high)}"


def duration(seconds: float) -> str:
    """Seconds in words, rounded: 12 s, 7 min, 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
