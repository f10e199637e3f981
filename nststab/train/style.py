"""The training of a style: its stages one after the other, each begun with what the one before has made."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from nststab.datasets.synthetic import SyntheticSettings
from nststab.methods.build import Machine
from nststab.networks.checkpoints import Checkpoint, save_checkpoint, save_target
from nststab.networks.transformation import TransformationNetwork, make_recurrent
from nststab.styles.shipped import NETWORKS
from nststab.tasks.planned_jobs import training_job
from nststab.tasks.planning import Job
from nststab.train.folder import StyleFolder
from nststab.train.loop import TrainingSettings
from nststab.train.plan import PlannedStage, fitted, planned_stages, remember_sizes, remembered_sizes
from nststab.train.recipe import Recipe, StageSettings
from nststab.train.stages import VideoData, VideoSettings
from nststab.train.start import Start
from nststab.train.training import Trained, Training

log = logging.getLogger(__name__)

_MOVING = 8  # frames to look at where there is no clip


@dataclass(frozen=True)
class StyleTraining:
    """A style in training: `start` is what its first stage begins with; `restart` removes a run of other settings."""

    name: str
    recipe: Recipe
    training: Training
    start: Start
    where: Machine
    seed: int
    folder: StyleFolder
    restart: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether there is a run to go on with, of these settings or others."""
        return self.folder.unfinished and not self.restart

    def fitted(self) -> "StyleTraining":
        """With the crops and batches of a run that goes on, else those for the memory there is."""
        stages = self.recipe.stages
        fitting = remembered_sizes(self.folder.sizes, stages) if self.goes_on else None
        if fitting is None:
            fitting = [fitted(stage, self._job, self.training.device) for stage in stages]
        for number, (stage, smaller) in enumerate(zip(stages, fitting, strict=True), 1):
            if smaller.size < stage.size:
                sizes = f"{smaller.size}x{smaller.size} instead of {stage.size}x{stage.size}"
                log.warning(f"stage {number} trains on crops of {sizes}, for which there is too little memory")
        return replace(self, recipe=replace(self.recipe, stages=tuple(fitting)))

    def plans(self) -> list[PlannedStage]:
        """What each stage will take."""
        outputs = self._outputs if self.goes_on else None
        return planned_stages(self.recipe.stages, self._job, outputs, self.training.device)

    def moving_frames(self) -> list[Tensor]:
        """Frames (1, 3, H, W) of a clip made from photographs that were held out."""
        size = self.recipe.stages[-1].size
        data = VideoData(self.training.held_out, SyntheticSettings(_MOVING, size, size))
        return list(torch.split(data.clips(1, torch.Generator().manual_seed(self.seed)).frames[0], 1))

    def run(self, picture: Tensor) -> list[Trained]:
        """Trains all stages and writes networks, targets and pictures; what a kill has left is gone on with."""
        folder = self.folder
        folder.begin()
        remember_sizes(folder.sizes, self.recipe.stages)
        made_with = {"perceptual": self.training.vgg.fingerprint, "style_size": self.recipe.style_size}
        save_target(folder.style.target, self.training.target, made_with)
        folder.write_pictures(picture)
        network, done = self.start.independent, list[Trained]()
        for number, (stage, output) in enumerate(zip(self.recipe.stages, self._outputs, strict=True), 1):
            log.info(f"stage {number} of {len(self._outputs)}: {stage.kind}, {stage.steps} steps")
            network = self._begun(stage, network)
            done.append(self._trained(stage, network, output, done))
            method = NETWORKS[stage.kind == "video"]
            save_checkpoint(folder.style.checkpoint(method), Checkpoint(network, {}, done[-1].record))
        return done

    def _begun(self, stage: StageSettings, network: TransformationNetwork) -> TransformationNetwork:
        """What a stage begins with, after `network`."""
        widens = stage.kind == "video" and not network.config.recurrent
        begun = self.start.widened(network) if widens else deepcopy(network)
        return begun.to(self.training.device)

    def _trained(
        self,
        stage: StageSettings,
        network: TransformationNetwork,
        output: Path,
        before: Sequence[Trained],
    ) -> Trained:
        settings = self._settings(stage)
        if stage.kind == "image":
            told = {"style": self.name, "style_size": self.recipe.style_size, "start_from": self.start.name}
            work = self.training.image(settings, told)
        else:
            synthetic = SyntheticSettings(stage.frames, stage.size, stage.size)
            video = VideoSettings(temporal_weight=stage.temporal_weight)
            # without its validation, of which another number of threads may change the last digit
            began = {key: value for key, value in before[-1].record.items() if key != "validation"}
            told = {"style": self.name, "from": began}
            work = self.training.video(settings, video, synthetic, None, told)
        return self.training.run(network, work, settings, output, self.restart)

    def _settings(self, stage: StageSettings) -> TrainingSettings:
        return TrainingSettings(
            stage.steps,
            stage.batch,
            stage.size,
            stage.size,
            stage.learning_rate,
            self.seed,
            self.where.precision,
        )

    def _job(self, stage: StageSettings) -> Job:
        network = self.start.independent if stage.kind == "image" else make_recurrent(self.start.independent)
        return training_job(
            network.to(self.training.device),
            self.training.vgg,
            self.training.loss,
            self._settings(stage),
            self.folder.folder,
            stage.frames,
        )

    @property
    def _outputs(self) -> list[Path]:
        """What logs and states of the stages stand beside."""
        stages = enumerate(self.recipe.stages, 1)
        return [self.folder.training / f"{number}_{stage.kind}.safetensors" for number, stage in stages]
