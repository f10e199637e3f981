"""One way to train a stage, which all trainings share: kept and resumed, with a log and pictures beside its output."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

import nststab
from nststab.datasets.folders import PhotoFolder, SintelClips
from nststab.datasets.synthetic import SyntheticSettings
from nststab.listener import Advance, Listener, named, reported
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget
from nststab.methods.build import Machine, machine
from nststab.networks.transformation import TransformationNetwork
from nststab.report.sheet import contact_sheet
from nststab.storage.durable import write_durably
from nststab.storage.jobs import open_job, unfinished
from nststab.train.loop import (
    PHOTOS,
    STATE,
    Stage,
    TrainingDiverged,
    TrainingStopped,
    Validation,
    fit,
    training_identity,
    usual_identity,
)
from nststab.train.settings import ImageSettings, Precision, TrainingSettings, VideoSettings
from nststab.train.stages import ImageStage, VideoData, VideoStage
from nststab.vgg import PerceptualNetwork
from nststab.video.images import remove_parts, write_picture

log = logging.getLogger(__name__)

VALIDATION_CLIPS = 4


def training_machine(device: str, precision: Precision) -> Machine:
    """Where to train, never in float16."""
    where = machine(device, precision)
    return replace(where, precision="float32") if where.precision == "float16" else where


def training_photos(folder: str | Path, output: Path) -> tuple[PhotoFolder, PhotoFolder]:
    """Photographs to train on and others to validate on; those of the run that made a part of `output`, if any."""
    return PhotoFolder(Path(folder), unfinished(output) / PHOTOS).hold_out()


class Work(NamedTuple):
    """A stage with its settings, what is on record of it, and the number of pictures that a step takes."""

    stage: Stage
    settings: TrainingSettings
    record: dict[str, Any]
    images: int


class Trained(NamedTuple):
    """What a stage that is done leaves on record, and the seconds that it took, in all its runs."""

    record: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Training:
    """What the stages of a training share: photographs, perceptual network, Gram targets, and weights of the loss."""

    photos: PhotoFolder
    held_out: PhotoFolder
    vgg: PerceptualNetwork
    target: StyleTarget
    loss: LossSettings

    @property
    def device(self) -> torch.device:
        return self.vgg.mean.device

    def image(self, settings: ImageSettings, record: Mapping[str, Any]) -> Work:
        """The image stage; `record` says what its network is of."""
        pictures = self.held_out.center_crops(settings.height, settings.width)
        stage = ImageStage(self.photos, self._losses(), settings, self.device, pictures)
        return Work(stage, settings, {"stage": "image", **record, **self._record()}, settings.batch)

    def video(self, settings: VideoSettings, sintel: SintelClips | None, record: Mapping[str, Any]) -> Work:
        """The video stage; `record` says what its network is of."""
        synthetic = SyntheticSettings(settings.length, settings.height, settings.width)
        held_out = VideoData(self.held_out, synthetic).clips(VALIDATION_CLIPS, torch.Generator().manual_seed(0))
        data = VideoData(self.photos, synthetic, sintel, settings.sintel_share)
        stage = VideoStage(data, self._losses(), settings, self.device, held_out)
        own = {"synthetic": asdict(synthetic), "sintel_clips": len(sintel) if sintel else 0}
        record = {"stage": "video", **record, **self._record(), **own}
        return Work(stage, settings, record, settings.batch * settings.length)

    def run(
        self,
        network: TransformationNetwork,
        work: Work,
        output: Path,
        save: Callable[[Trained], None],
        *,
        restart: bool,
        progress: Listener,
        stop: Callable[[], bool],
        keep: bool = False,
    ) -> Trained:
        """Trains `network` in place and calls `save`, with a log and validation pictures beside `output`.

        A killed run resumes from the state in OUTPUT.unfinished, which is removed when all is saved, unless `keep`.

        Raises:
            TrainingStopped: `stop` said so; the state is saved.
            OtherSettings: there is the state of another run, and no `restart`.
        """
        settings = work.settings
        identity = training_identity(work.record, network, self.target, self.vgg, self.photos)
        identity["settings"] = settings.identity()
        usual = usual_identity(type(settings)) | {"from": usual_identity(ImageSettings)}
        usual["network"] = asdict(type(network.config)())
        with open_job(unfinished(output), identity, restart, usual) as job:
            state = job.folder / STATE
            try:
                self.photos.keep_list(job.folder / PHOTOS)
                with reported(progress, f"training {output.stem}", settings.steps) as advance:
                    told = TrainingLog(output, settings.steps, work.images, advance)
                    done = fit(
                        network,
                        work.stage,
                        settings,
                        job,
                        begun=told.begun,
                        report=told.step,
                        validated=told.validated,
                        stop=stop,
                    )
                if done < settings.steps:
                    raise TrainingStopped(
                        f"stopped after {done} steps, which {job.folder} keeps; the same command goes on"
                    )
                made = {"settings": settings.identity(), "perceptual": self.vgg.fingerprint}
                made |= {"validation": told.last, "version": nststab.__version__}
                trained = Trained(work.record | made, told.seconds)
                save(trained)
            except BaseException as error:
                if not state.exists():
                    job.finish()
                elif not isinstance(error, TrainingStopped | TrainingDiverged):  # one says so itself, one would again
                    error.add_note(f"what is done is kept in {job.folder}, and the same command goes on")
                raise
            if not keep:
                job.finish()
        return trained

    def _losses(self) -> PerceptualLoss:
        return PerceptualLoss(self.vgg, self.target, self.loss)

    def _record(self) -> dict[str, Any]:
        return {"photos": len(self.photos), "loss": asdict(self.loss)}


class TrainingLog:
    """OUT.jsonl and OUT.validation of a training of `steps` steps, each on `images` pictures.

    Attributes:
        last: terms of the last validation.
        seconds: what the training has taken, those before a kill included.
    """

    def __init__(self, output: Path, steps: int, images: int, advance: Advance) -> None:
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
        validates = start in (0, self._steps)  # as `fit` does when it begins, also when all is done
        self._before = cut_back(self._lines, self._pictures, start, validates)
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

    def validated(self, step: int, validation: Validation) -> None:
        """A validation was done."""
        self.last = dict(validation.terms)
        self._write({"step": step, "validation": self.last})
        picture = contact_sheet(validation.rows, [""] * len(validation.rows))
        write_picture(self._pictures / f"{step:06d}.png", picture)
        log.info(f"step {step}: validation {named(self.last)}")

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._lines.open("a") as file:
            file.write(json.dumps(line) + "\n")


def cut_back(lines: Path, pictures: Path, start: int, validates: bool = False) -> float:
    """Takes from a log what comes after the `start` steps that are not done again, and later pictures from a folder.

    The validation at `start` goes too where that is done again. Gives the seconds until then, where the log tells them.
    """
    pictures.mkdir(exist_ok=True)
    remove_parts(pictures)
    for path in pictures.glob("[0-9]*.png"):
        if path.stem.isdecimal() and int(path.stem) > start:
            path.unlink()
    kept = [
        line
        for line in _logged(lines)
        if line.step < start or (line.step == start and start > 0 and not (line.validation and validates))
    ]
    text = "".join(f"{line.text}\n" for line in kept)
    if lines.exists() and lines.read_text(errors="replace") != text:
        write_durably(lines, text.encode())
    return max((line.seconds for line in kept), default=0.0)


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
