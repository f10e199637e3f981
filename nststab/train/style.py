"""The training of a style: what it begins with, its folder, and its stages one after the other."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nststab.datasets.synthetic import SyntheticSettings
from nststab.errors import SettingError
from nststab.listener import Listener
from nststab.losses import StyleTarget, style_loss
from nststab.methods.build import Machine
from nststab.networks.checkpoints import Checkpoint, save_checkpoint, save_target
from nststab.networks.transformation import TransformationNetwork, make_recurrent, transfer_recurrence, with_margin
from nststab.storage.durable import write_durably
from nststab.storage.folders import refuse_overwriting, require_parent
from nststab.styles.shipped import NETWORKS, Style, styles
from nststab.styles.source import StyleSource, style_name, style_source
from nststab.train.settings import LEAST_CROP, ImageSettings, Stage, TrainingSettings, VideoSettings, loss_weights
from nststab.train.stages import VideoData
from nststab.train.training import Trained, Training, Work
from nststab.vgg import PerceptualNetwork
from nststab.video.images import remove_parts, resize, write_picture

log = logging.getLogger(__name__)

_PICTURE, _THUMBNAIL = 928, 128  # longest sides: enough to compute Gram targets of, and to show
_CARD = "card.json"
_FILES = (".safetensors", ".pth", ".pt")  # that other commands of `train` write, or read
_NETWORKS = ("recurrent.safetensors", "independent.safetensors", "target.safetensors")
_PRODUCTS = (_CARD, "sheet.jpg", "image.jpg", "thumbnail.jpg", *_NETWORKS)
_MOVING = 8  # frames to look at where there is no clip


@dataclass(frozen=True)
class Start:
    """The style to begin with, and `why` it is this one; `recurrent` is None where it has no such network."""

    name: str
    why: str
    independent: TransformationNetwork
    recurrent: TransformationNetwork | None

    def widened(self, network: TransformationNetwork) -> TransformationNetwork:
        """`network` made recurrent, with what fine-tuning changed in the start style's networks."""
        if self.recurrent is None:
            return make_recurrent(network)
        return transfer_recurrence(network, self.independent, self.recurrent)


def independent_network(style: str) -> TransformationNetwork:
    """The independent network of a trained style: shipped, in a folder, or a checkpoint."""
    return _trained(style).trained("independent").network


def starting_style(
    style: str | None, target: StyleTarget, perceptual: PerceptualNetwork, style_size: int, margin: int
) -> Start:
    """The named style, or the shipped one whose Gram targets are nearest; its networks with another margin."""
    if style is None:
        source, why = _nearest(target, perceptual, style_size)
    else:
        source, why = _trained(style), "as asked for"
    independent = with_margin(source.trained("independent").network, margin)
    assert source.checkpoint is not None
    path = source.checkpoint("recurrent")
    if path == source.checkpoint("independent") or not path.is_file():  # a checkpoint, not a folder of both
        return Start(style_name(source.text), f"{why}, which has no recurrent network", independent, None)
    recurrent = with_margin(source.trained("recurrent").network, margin)
    start = Start(style_name(source.text), why, independent, recurrent)
    start.widened(independent)  # raises where the two do not go together, rather than after the first stage
    return start


def distance(target: StyleTarget, other: StyleTarget) -> float:
    """The style loss, scaled by energy, that a picture with the Gram matrices of `other` has for the `target`."""
    return float(torch.stack([style_loss(other[layer], gram) for layer, gram in target.items()]).sum())


def _trained(style: str) -> StyleSource:
    source = style_source(style)
    if source.checkpoint is None:
        what = "a picture" if source.many is None else "one of a network of many styles"
        raise SettingError(f"start from: expected a trained style, {style} is {what}")
    return source


def _nearest(target: StyleTarget, perceptual: PerceptualNetwork, style_size: int) -> tuple[StyleSource, str]:
    """Of the shipped styles with both networks."""
    shipped = [style_source(style.name) for style in styles() if len(style.methods) == 2]
    if not shipped:
        raise SettingError("no style is shipped to begin with; name one of your own to start from")
    layers = tuple(target)
    distances = [distance(target, source.target(perceptual, layers, style_size)) for source in shipped]
    nearest = min(range(len(shipped)), key=distances.__getitem__)
    why = f"the nearest of {len(shipped)} shipped styles" if len(shipped) > 1 else "the only shipped style"
    return shipped[nearest], why


@dataclass(frozen=True)
class StyleFolder:
    """NAME/ of `train style`; its card is written last, and says that all is done."""

    folder: Path

    @property
    def style(self) -> Style:
        return Style(self.folder.resolve().name, self.folder)

    @property
    def training(self) -> Path:
        """Where the stages keep their states, logs and pictures."""
        return self.folder / "training"

    @property
    def sizes(self) -> Path:
        """The file of the crops that the stages are trained on; it is there while the style is in work."""
        return self.training / "sizes.json"

    def outputs(self, stages: Sequence[TrainingSettings]) -> list[Path]:
        """What logs and states of the stages stand beside."""
        return [self.training / f"{number}_{kind(stage)}.safetensors" for number, stage in enumerate(stages, 1)]

    @property
    def sheet(self) -> Path:
        """The file of the contact sheet."""
        return self.folder / "sheet.jpg"

    @property
    def unfinished(self) -> bool:
        """Whether there is a run to resume."""
        return self.sizes.is_file() and not (self.folder / _CARD).exists()

    def refuse_overwriting(self, restart: bool) -> None:
        """Raises SettingError for what stands there already and is no unfinished run, unless `restart`, and OSError."""
        if self.folder.is_file() or self.folder.suffix in _FILES:
            raise SettingError(f"output: expected a folder's name, got the file {self.folder}")
        require_parent(self.folder)
        refuse_overwriting(self.folder, restart or self.unfinished, "restart=True")
        place = self.folder if self.folder.is_dir() else self.folder.parent
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    def begin(self) -> None:
        """Makes the folder; a finished style in it is removed, an unfinished one is resumed."""
        if not self.unfinished:
            for name in _PRODUCTS:
                (self.folder / name).unlink(missing_ok=True)
        self.training.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)

    def write_pictures(self, picture: Tensor) -> None:
        """The style's picture (1, 3, H, W), so that it stays usable where the original goes, and a small one."""
        for name, longest in (("image", _PICTURE), ("thumbnail", _THUMBNAIL)):
            smaller = resize(picture, min(longest, max(picture.shape[-2:])))
            write_picture(self.folder / f"{name}.jpg", smaller)

    def finish(self, card: Mapping[str, Any]) -> None:
        """Writes the card, and removes what only a run that is resumed needs; logs and validation pictures stay."""
        text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
        write_durably(self.folder / _CARD, text.encode(errors="backslashreplace"))  # in JSON such an escape, too
        for path in self.training.glob("*.unfinished"):
            shutil.rmtree(path)
        self.sizes.unlink(missing_ok=True)


@dataclass(frozen=True)
class StyleTraining:
    """A style in training: `start` is what its first stage begins with; `restart` removes a run of other settings."""

    name: str
    stages: tuple[ImageSettings | VideoSettings, ...]
    training: Training
    start: Start
    where: Machine
    folder: StyleFolder
    restart: bool = False

    @property
    def style_size(self) -> int:
        """Longest side of the picture that its Gram targets are of."""
        return next(stage.style_size for stage in self.stages if isinstance(stage, ImageSettings))

    @property
    def resumes(self) -> bool:
        """Whether there is a run to resume, of these settings or others."""
        return self.folder.unfinished and not self.restart

    def moving_frames(self) -> list[Tensor]:
        """Frames (1, 3, H, W) of a clip made from photographs that were held out."""
        last = self.stages[-1]
        data = VideoData(self.training.held_out, SyntheticSettings(_MOVING, last.height, last.width))
        return list(torch.split(data.clips(1, torch.Generator().manual_seed(last.seed)).frames[0], 1))

    def run(self, picture: Tensor, progress: Listener, stop: Callable[[], bool]) -> list[Trained]:
        """Trains all stages and writes networks, targets and pictures; what a kill has left is resumed.

        Raises TrainingStopped where `stop` said so, and OtherSettings where there is the run of others.
        """
        folder = self.folder
        folder.begin()
        write_durably(folder.sizes, json.dumps([(stage.height, stage.batch) for stage in self.stages]).encode())
        network, done = self.start.independent, list[Trained]()
        for number, (stage, output) in enumerate(zip(self.stages, folder.outputs(self.stages), strict=True), 1):
            log.info(f"stage {number} of {len(self.stages)}: {kind(stage)}, {stage.steps} steps")
            network = self._begun(stage, network)
            checkpoint = folder.style.checkpoint(NETWORKS[isinstance(stage, VideoSettings)])

            def save(trained: Trained, path: Path = checkpoint, made: TransformationNetwork = network) -> None:
                save_checkpoint(path, Checkpoint(made, {}, trained.record))

            run, work = self.training.run, self._work(stage, done)
            done.append(run(network, work, output, save, restart=self.restart, progress=progress, stop=stop, keep=True))
        made_with = {"perceptual": self.training.vgg.fingerprint, "style_size": self.style_size}
        save_target(folder.style.target, self.training.target, made_with)
        folder.write_pictures(picture)
        return done

    def _work(self, stage: ImageSettings | VideoSettings, before: Sequence[Trained]) -> Work:
        if isinstance(stage, ImageSettings):
            told = {"style": self.name, "style_size": stage.style_size, "start_from": self.start.name}
            return self.training.image(stage, told)
        # without its validation, of which another number of threads may change the last digit, and its version
        began = {key: value for key, value in before[-1].record.items() if key not in ("validation", "version")}
        loss = replace(self.training.loss, **loss_weights(stage))
        return replace(self.training, loss=loss).video(stage, None, {"style": self.name, "from": began})

    def _begun(self, stage: ImageSettings | VideoSettings, network: TransformationNetwork) -> TransformationNetwork:
        """What a stage begins with, after `network`."""
        widens = isinstance(stage, VideoSettings) and not network.config.recurrent
        begun = self.start.widened(network) if widens else deepcopy(network)
        if stage.margin is not None:
            begun = with_margin(begun, stage.margin)
        return begun.to(self.training.device)

    def remembered(self) -> "tuple[ImageSettings | VideoSettings, ...] | None":
        """The stages with the crops and batches of the run to resume; None where there is none."""
        try:
            sizes = [(int(size), int(batch)) for size, batch in json.loads(self.folder.sizes.read_text())]
        except (OSError, ValueError, TypeError):
            return None
        if not self.resumes or len(sizes) != len(self.stages):
            return None
        return tuple(sized(stage, *size) for stage, size in zip(self.stages, sizes, strict=True))


def kind(stage: TrainingSettings) -> str:
    """`image` or `video`."""
    return "video" if isinstance(stage, VideoSettings) else "image"


def sized(stage: Stage, height: int, batch: int) -> Stage:
    """The stage on crops of another height and the same shape, so many a step."""
    width = max(LEAST_CROP, round(stage.width * height / stage.height))
    return replace(stage, height=height, width=width, batch=batch)
