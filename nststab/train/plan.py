"""What the training of a style will take on this machine: the crops that fit into its memory, and the time."""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nststab.memory import available_memory
from nststab.storage.durable import write_durably
from nststab.tasks.planning import DoesNotFit, Job, duration, estimated, gib, known
from nststab.train.log import logged_steps
from nststab.train.recipe import StageSettings

_LEAST, _GRAIN = 96, 32  # the smallest crops to train on, and what they are reduced by
_LARGEST_BATCH = 4

JobOf = Callable[[StageSettings], Job]


def fitted(stage: StageSettings, job_of: JobOf, device: torch.device) -> StageSettings:
    """The stage with the largest crops that fit, and on a GPU the largest batch of those; raises DoesNotFit.

    On a GPU a step of several pictures takes little longer than of one; on a CPU it takes as much longer as it has
    more.
    """
    available = available_memory(device)
    if available is None:
        return stage
    sizes = (stage.size, *range((stage.size - 1) // _GRAIN * _GRAIN, _LEAST - 1, -_GRAIN))
    batches = range(_LARGEST_BATCH if device.type == "cuda" else stage.batch, 0, -1)
    for size, batch in itertools.product(sizes, batches):
        candidate = replace(stage, size=size, batch=batch)
        job = job_of(candidate)
        if job.fits(size, size, available):
            return candidate
    need = job.peak(job.added(job.width, job.height))
    raise DoesNotFit(
        f"even crops of {job.width}x{job.height} need about {gib(need)} of memory, {gib(available)} are available"
    )


@dataclass(frozen=True)
class PlannedStage:
    """A stage as it will be trained; `left` of its steps are not done yet."""

    stage: StageSettings
    left: int
    seconds: float
    peak: int

    @property
    def line(self) -> str:
        """What is done, and how long it takes."""
        stage = self.stage
        clips = f" of {stage.frames} frames" if stage.frames > 1 else ""
        steps = str(stage.steps) if self.left == stage.steps else f"the last {self.left} of {stage.steps}"
        text = f"{stage.kind}, {steps} steps on {stage.size}x{stage.size}, {stage.batch} a step{clips}"
        if not self.left:
            return f"{stage.kind}, {stage.steps} steps: done"
        return f"{text}: {duration(self.seconds)}, {duration(self.seconds / self.left)} a step"


def planned_stages(
    stages: Sequence[StageSettings], job_of: JobOf, outputs: Sequence[Path] | None, device: torch.device
) -> list[PlannedStage]:
    """Measures a step of each stage that has steps left; those that logs beside `outputs` tell of count as done."""
    available = available_memory(device)
    jobs = [job_of(stage) for stage in stages]  # before any of them is measured, which leaves memory with the process
    plans = []
    for index, (stage, job) in enumerate(zip(stages, jobs, strict=True)):
        left = max(0, stage.steps - logged_steps(outputs[index])) if outputs else stage.steps
        if left:
            plan = estimated(job, available)
            plans.append(PlannedStage(stage, left, left * plan.seconds.later, plan.peak))
        else:
            plans.append(PlannedStage(stage, 0, 0.0, 0))
    return plans


def plan_lines(plans: Sequence[PlannedStage], device: torch.device) -> list[str]:
    """One line for each stage, and their total."""
    lines = [f"stage {number}    {plan.line}" for number, plan in enumerate(plans, 1)]
    peak = max(plan.peak for plan in plans)
    if peak:
        lines.append(f"memory     {gib(peak)} at the peak, {known(available_memory(device))} available")
    return [*lines, f"total      {duration(sum(plan.seconds for plan in plans))}, and then the figures"]


def remembered_sizes(path: Path, stages: Sequence[StageSettings]) -> list[StageSettings] | None:
    """The stages with the crops and batches of a run that is to go on; None where there is none."""
    try:
        sizes = [(int(size), int(batch)) for size, batch in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return None
    if len(sizes) != len(stages):
        return None
    return [replace(stage, size=size, batch=batch) for stage, (size, batch) in zip(stages, sizes, strict=True)]


def remember_sizes(path: Path, stages: Sequence[StageSettings]) -> None:
    """A run that goes on trains on the same crops, though there may be more memory by then, or less."""
    write_durably(path, json.dumps([(stage.size, stage.batch) for stage in stages]).encode())
