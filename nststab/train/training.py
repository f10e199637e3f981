"""One way to train a stage, which `train image`, `train video` and `train style` share."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch

import nststab
from nststab.cli.common import given, progress
from nststab.datasets.folders import PhotoFolder, SintelClips
from nststab.datasets.synthetic import SyntheticSettings
from nststab.errors import SettingError
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget
from nststab.methods.build import Machine, machine
from nststab.networks.transformation import TransformationNetwork
from nststab.tasks.resuming import training_state
from nststab.train.log import TrainingLog
from nststab.train.loop import Stage, TrainingSettings, fit, training_identity
from nststab.train.stages import ImageStage, VideoData, VideoSettings, VideoStage
from nststab.vgg import PerceptualNetwork

log = logging.getLogger(__name__)

_VALIDATION_CLIPS = 4


def training_machine(options: Mapping[str, Any]) -> Machine:
    """Where to train; never in float16, whose range small gradients fall below."""
    if options["precision"] == "float16":
        raise SettingError("--precision: expected auto, float32 or bfloat16 to train in")
    where = machine(options["device"], options["precision"])
    return replace(where, precision="float32") if where.precision == "float16" else where


class Work(NamedTuple):
    """A stage with what is on record of it, and the number of pictures that a step takes."""

    stage: Stage
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

    def image(self, settings: TrainingSettings, record: Mapping[str, Any]) -> Work:
        """The image stage; `record` says what its network is of."""
        pictures = self.held_out.center_crops(settings.height, settings.width)
        stage = ImageStage(self.photos, self._losses(), settings, self.device, pictures)
        return Work(stage, {"stage": "image", **record, **self._record()}, settings.batch)

    def video(
        self,
        settings: TrainingSettings,
        video: VideoSettings,
        synthetic: SyntheticSettings,
        sintel: SintelClips | None,
        record: Mapping[str, Any],
    ) -> Work:
        """The video stage; `record` says what its network is of."""
        held_out = VideoData(self.held_out, synthetic).clips(_VALIDATION_CLIPS, torch.Generator().manual_seed(0))
        data = VideoData(self.photos, synthetic, sintel, video.sintel_share)
        stage = VideoStage(data, self._losses(), video, settings, self.device, held_out)
        own = {"video": asdict(video), "synthetic": asdict(synthetic), "sintel_clips": len(sintel) if sintel else 0}
        return Work(stage, {"stage": "video", **record, **self._record(), **own}, settings.batch * synthetic.length)

    def run(
        self, network: TransformationNetwork, work: Work, settings: TrainingSettings, output: Path, restart: bool
    ) -> Trained:
        """Trains `network` in place, with a bar, a log and validation pictures beside `output`; goes on after a kill.

        Raises click.Abort when it was told to stop: the state is saved.
        """
        identity = training_identity(work.record, network, self.target, self.vgg, self.photos)
        state = output.with_suffix(".state")
        with progress(f"training {output.stem}", settings.steps) as advance, training_state(state) as stop:
            log = TrainingLog(output, settings.steps, work.images, advance)
            done = fit(
                network,
                work.stage,
                settings,
                state,
                identity,
                restart=restart,
                begun=log.begun,
                report=log.step,
                validated=log.validated,
                stop=stop,
            )
        if done < settings.steps:
            logging.getLogger(__name__).info(
                f"stopped after {done} steps, which {state} keeps; the same command goes on"
            )
            raise click.Abort
        made = {"settings": asdict(settings), "perceptual": self.vgg.fingerprint}
        made |= {"validation": log.last, "version": nststab.__version__}
        return Trained(work.record | made, log.seconds)

    def _losses(self) -> PerceptualLoss:
        return PerceptualLoss(self.vgg, self.target, self.loss)

    def _record(self) -> dict[str, Any]:
        return {"photos": len(self.photos), "loss": asdict(self.loss)}


def training_settings(
    options: Mapping[str, Any], where: Machine, loss: LossSettings
) -> tuple[TrainingSettings, LossSettings]:
    """The settings that options of their names change, and the weights of the loss."""
    fields = ("steps", "batch", "height", "width", "learning_rate", "validate_every", "seed")
    settings = replace(TrainingSettings(precision=where.precision), **given(**{name: options[name] for name in fields}))
    weights = ("content_weight", "style_weight", "tv_weight")
    return settings, replace(loss, **given(**{name: options[name] for name in weights}))
