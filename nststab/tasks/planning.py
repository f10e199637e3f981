"""`--plan`, and the check of every long job before it begins: does it fit into memory, and which size would?"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import click
import torch

from nststab.errors import NststabError
from nststab.memory import Resident, available_memory, resident
from nststab.tasks.plan import Footprint, Plan, Seconds, largest_size, peak_memory, probe
from nststab.video.images import resized_shape

log = logging.getLogger(__name__)

_ROOM = 0.9  # the part of the available memory that a probe may take
_NOTHING = Footprint()
_CPU = torch.device("cpu")
Measure = Callable[[int, int], Seconds]
"""Computes a first frame and a later one of a width and height, and gives their times."""


class DoesNotFit(NststabError):
    """The job needs more memory than there is."""


@dataclass(frozen=True)
class Job:
    """A long job as a plan sees it.

    Attributes:
        rows: what is done, by name, for people.
        frames: what there is to do, and `unit` what it is called; None where it is not known.
        width, height: of the frames that are computed.
        probed, rest: the memory of what `measure` does, and of all that comes on top of it in the job.
        held: what the process held before all that.
        margin: pixels by which `probed` sees more on each side of a frame.
        before: the memory of what is done before, not at the same time.
        size: the number in `advice` that means the job as it is, and `sized` the width and height for any number.
    """

    rows: dict[str, str]
    frames: int | None
    unit: str
    width: int
    height: int
    probed: Footprint
    rest: Footprint
    measure: Measure
    size: int
    sized: Callable[[int], tuple[int, int]]
    advice: Callable[[int], str]
    before: Footprint = _NOTHING
    least: int = 1
    device: torch.device = _CPU
    held: Resident = field(default_factory=resident)
    margin: int = 0

    def computing(self, width: int, height: int) -> float:
        """Bytes that `measure` adds with frames of a size."""
        return self.probed.at(width + 2 * self.margin, height + 2 * self.margin)

    def added(self, width: int, height: int) -> float:
        """Bytes that it adds to the process with frames of a size."""
        return max(self.before.at(width, height), self.computing(width, height) + self.rest.at(width, height))

    def peak(self, added: float) -> int:
        """Bytes that the process, or the GPU, will hold in all."""
        return round(added) if self.device.type == "cuda" else peak_memory(added, self.held)

    def fits(self, width: int, height: int, available: float) -> bool:
        return self.peak(self.added(width, height)) <= available


def planned(job: Job, plan: bool) -> bool:
    """Prints the plan and says so, if it was asked for; else raises DoesNotFit where the job cannot fit."""
    available = available_memory(job.device)
    if plan:
        _print(job, estimated(job, available))
        return True
    need = job.peak(job.added(job.width, job.height))
    log.debug(_explained(job, need, available))
    if available is not None and need > available:
        needs = f"{_title(job)} needs about {gib(need)} of memory, {gib(available)} are available"
        raise DoesNotFit(f"{needs}; {_advice(job, available)}")
    return False


def _explained(job: Job, need: int, available: int | None) -> str:
    computing, rest = job.computing(job.width, job.height), job.rest.at(job.width, job.height)
    added = f"{gib(computing)} to compute a frame, {gib(rest)} for frames, codecs and what is kept"
    return f"memory: about {gib(need)} at the peak ({added}), {known(available)} available"


def _title(job: Job) -> str:
    return f"{job.width}x{job.height}"


def _advice(job: Job, available: int) -> str:
    fitting = largest_size(lambda size: job.fits(*job.sized(size), available), job.size, job.least)
    return "no size fits" if fitting is None else f"the largest size that fits is {job.advice(fitting)}"


def estimated(job: Job, available: int | None) -> Plan:
    """The model's peak, raised by a probe at the full size; not lowered, as a short one sees less than a long job."""
    added = job.added(job.width, job.height)
    measured = probe(job.measure, job.width, job.height, _roomy(job, available), device=job.device)
    if (measured.width, measured.height) == (job.width, job.height):
        added = max(added, measured.added + job.rest.at(job.width, job.height))
    return Plan(job.frames, job.width, job.height, job.peak(added), available, measured.seconds, measured)


def _roomy(job: Job, available: int | None) -> float:
    """The part of the sides that a probe may have."""
    longest = max(job.width, job.height)

    def fits(side: int) -> bool:
        height, width = resized_shape(job.height, job.width, side)
        return job.fits(width, height, (available or 0) * _ROOM)

    return 1.0 if available is None else (largest_size(fits, longest + 1) or 1) / longest


def _print(job: Job, plan: Plan) -> None:
    """The plan on stdout; exit 1 where the job cannot fit."""
    rows = dict(job.rows)
    rows[job.unit] = "not known before it is read" if plan.frames is None else str(plan.frames)
    rows["memory"] = f"{gib(plan.peak)} at the peak"
    rows["available"] = known(plan.available)
    rows["time"] = _time(plan, job.unit)
    rows["probe"] = f"{plan.probe.width}x{plan.probe.height} added {gib(plan.probe.added)}"
    rows["verdict"] = "fits" if plan.fits else f"does not fit; {_advice(job, plan.available or 0)}"
    for name, text in rows.items():
        click.echo(f"{name:<11}{text}")
    if not plan.fits:
        click.get_current_context().exit(1)


def gib(count: float) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.2f} GiB"


def known(available: int | None) -> str:
    """Bytes in words, where the system tells them."""
    return "unknown" if available is None else gib(available)


def _time(plan: Plan, unit: str) -> str:
    """Of a frame only, where their number is not known."""
    each = f"{duration(plan.seconds.later)} for each of the {unit}"
    total = plan.total_seconds
    if total is None:
        return each
    return duration(total) if plan.frames == 1 else f"{duration(total)}, {each}"


def duration(seconds: float) -> str:
    """Seconds in words, rounded: 12 s, 7 min, 2 h 5 min."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
