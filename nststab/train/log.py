"""What a training leaves beside its output: the losses of every step, and pictures of every validation."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nststab.cli.common import named
from nststab.report.sheet import contact_sheet
from nststab.storage.durable import write_durably
from nststab.video.images import remove_parts, write_picture

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nststab.train.loop import Validation


class TrainingLog:
    """OUT.jsonl and OUT.validation of a training of `steps` steps, each on `images` pictures.

    Attributes:
        last: terms of the last validation.
        seconds: what the training has taken, those before a kill included.
    """

    def __init__(self, output: Path, steps: int, images: int, advance: Callable[..., None]) -> None:
        self._lines = output.with_suffix(".jsonl")
        self._pictures = output.with_suffix(".validation")
        self._steps, self._images, self._advance = steps, images, advance
        self._start, self._started = 0, time.monotonic()
        self._before = 0.0
        self.last: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def begun(self, start: int) -> None:
        """Cut the log back to the `start` steps that are not done again, and remove later pictures."""
        self._pictures.mkdir(exist_ok=True)
        remove_parts(self._pictures)
        for path in self._pictures.glob("[0-9]*.png"):
            if path.stem.isdecimal() and int(path.stem) > start:
                path.unlink()
        validates = start in (0, self._steps)  # as `fit` does when it begins, also when all is done
        kept = [
            line
            for line in _logged(self._lines)
            if line.step < start or (line.step == start and start > 0 and not (line.validation and validates))
        ]
        self._before = max((line.seconds for line in kept), default=0.0)
        text = "".join(f"{line.text}\n" for line in kept)
        if self._lines.exists() and self._lines.read_text(errors="replace") != text:
            write_durably(self._lines, text.encode())
        if start:
            log.info(f"going on: {start} steps were done")
        self._start, self._started = start, time.monotonic()
        self._advance(start)

    def step(self, step: int, terms: Mapping[str, float]) -> None:
        """A step was done."""
        rate = (step - self._start) * self._images / (time.monotonic() - self._started)
        left = (self._steps - step) * self._images / rate
        times = {"images_per_second": round(rate, 3), "seconds": round(self.seconds, 3), "seconds_left": round(left)}
        self._write({"step": step, **times, **terms})
        self._advance(step, note=f"{named(terms)}  {rate:.2f} images/s")

    def validated(self, step: int, validation: "Validation") -> None:
        """A validation was done."""
        self.last = dict(validation.terms)
        self._write({"step": step, "validation": self.last})
        picture = contact_sheet(validation.rows, [""] * len(validation.rows))
        write_picture(self._pictures / f"{step:06d}.png", picture)
        log.info(f"step {step}: validation {named(self.last)}")

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lines.open("a") as file:
            file.write(json.dumps(line) + "\n")


def logged_steps(output: Path) -> int:
    """How many steps the log beside `output` has, at least as many as a kill has left in the state; 0 without one.

    A log without a state is of a run that is done and will be written over, or of steps that are lost.
    """
    if not output.with_suffix(".state").is_file():
        return 0
    return max((line.step for line in _logged(output.with_suffix(".jsonl"))), default=0)


class _Line(NamedTuple):
    """A line of a log: its step, whether it is of a validation, and the seconds until then, where it tells them."""

    text: str
    step: int
    validation: bool
    seconds: float


def _logged(path: Path) -> Iterator[_Line]:
    """The lines of a log, without one that a kill cut off."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            values = json.loads(line)
            yield _Line(line, int(values["step"]), "validation" in values, float(values.get("seconds", 0.0)))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
