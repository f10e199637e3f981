"""The stages of a training, each by itself: what they take, what they will take, and averages of networks."""

import logging
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Required, TypedDict, Unpack

import torch
from torch import Tensor

from nststab.datasets.folders import HELD_OUT, SintelClips
from nststab.engines.torch_engine import autocast
from nststab.errors import NststabError, SettingError
from nststab.listener import Listener, named, silent
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget, temporal_loss
from nststab.methods.build import Machine
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_target, save_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.networks.settings import PerceptualSettings
from nststab.networks.transformation import (
    NetworkConfig,
    TransformationNetwork,
    interpolate,
    make_recurrent,
    with_margin,
)
from nststab.settings import did_you_mean
from nststab.storage.folders import refuse_overwriting, require_parent
from nststab.styles.source import picture_target
from nststab.tasks.plan import Seconds, between, check, noise
from nststab.tasks.plan import Work as PlannedWork
from nststab.train.settings import LEAST_CROP, ImageSettings, Stage, TrainingSettings, VideoSettings, loss_weights
from nststab.train.stages import unrolled
from nststab.train.style import independent_network
from nststab.train.training import VALIDATION_CLIPS, Trained, Training, Work, training_machine, training_photos
from nststab.vgg import PerceptualNetwork

log = logging.getLogger(__name__)


def never() -> bool:
    """Does not ask a training to stop."""
    return False


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that was trained, the Gram targets of its style, and the record that stands in its checkpoint."""

    network: TransformationNetwork
    target: StyleTarget
    record: Mapping[str, Any]
    output: Path

    @property
    def losses(self) -> Mapping[str, float]:
        """The weighted terms on held-out data at the end."""
        terms: Mapping[str, float] = self.record["validation"]
        return terms


class StageOptions(TypedDict, total=False):
    """What both stages take beside their settings.

    photos: a folder of photographs; those that cannot be read are named in the log and left out.
    output: the `.safetensors` file of the network, NAME.safetensors. Beside it NAME.jsonl gets the losses of every step
        and NAME.validation pictures; NAME.safetensors.unfinished keeps what a killed run has done, for the same call to
        resume.
    network, vgg_weights: another perceptual network, by torchvision's name or by its file.
    restart: overwrite the output, and remove the unfinished work of other settings.
    """

    photos: Required[str | Path]
    output: Required[str | Path]
    network: Literal["vgg16", "vgg19"] | None
    vgg_weights: str | Path | None
    device: str
    restart: bool


def _begun(options: StageOptions, settings: Stage) -> tuple[Stage, bool, Path, Machine]:
    """Settings, `restart`, output and machine of a stage; SettingError for options that there are not, or that miss."""
    known = list(StageOptions.__annotations__)
    for name in options:
        if name not in known:
            raise SettingError(f"there is no option {name!r}; {did_you_mean(name, known)}")
    for name in sorted(StageOptions.__required_keys__ - options.keys()):
        raise SettingError(f"{name}: none was given")
    restart = options.get("restart", False)
    output = checked_output(options["output"], restart)
    where = training_machine(options.get("device", "auto"), settings.precision)
    return settings.on(where.precision), restart, output, where


@dataclass(frozen=True)
class StageTraining:
    """A stage that is ready to be trained; `planned` is what memory and time of it can be told from."""

    training: Training
    network: TransformationNetwork
    work: Work
    output: Path
    planned: PlannedWork
    restart: bool

    def run(self, progress: Listener = silent, stop: Callable[[], bool] = never) -> TrainedNetwork:
        """Trains the network and writes its checkpoint; raises DoesNotFit where there is too little memory for that.

        stop: asked after every step whether to save the state and raise TrainingStopped.
        """
        check(self.planned)

        def save(trained: Trained) -> None:
            save_checkpoint(self.output, Checkpoint(self.network, self.training.target, trained.record))

        trained = self.training.run(
            self.network, self.work, self.output, save, restart=self.restart, progress=progress, stop=stop
        )
        made = TrainedNetwork(self.network, self.training.target, trained.record, self.output)
        log.info(f"{self.output}: trained for {self.work.settings.steps} steps, validation {named(made.losses)}")
        return made


def image_training(
    painting: str | Path,
    *,
    start_from: str | Path | None = None,
    settings: ImageSettings | None = None,
    **options: Unpack[StageOptions],
) -> StageTraining:
    """An independent network, to be trained on photographs by content and style loss: Johnson et al. 2016.

    Args:
        painting: the style's picture.
        start_from: the style whose network it begins with, by name, folder or checkpoint; from another style's network
            it takes a fraction of the steps. None: random weights.

    Raises:
        NststabError: a setting, an input or the output is wrong. OSError: a file cannot be read or written.
    """
    painting, (settings, restart, output, where) = Path(painting), _begun(options, ImageSettings.of(settings))
    vgg = _perceptual(options, where)
    loss = LossSettings(**loss_weights(settings))
    torch.manual_seed(settings.seed)
    if start_from is None:
        start, begun = TransformationNetwork(NetworkConfig()), {}
    else:
        start, begun = independent_network(str(start_from)), {"start_from": Path(start_from).stem}
    model = with_margin(start, settings.margin).to(where.device)
    target = picture_target(painting, vgg, loss.style_layers, settings.style_size, "style_size")
    training = Training(*training_photos(options["photos"], output), vgg, target, loss)
    work = training.image(settings, {"style": painting.stem, "style_size": settings.style_size, **begun})
    planned = training_work(model, vgg, loss, settings, output)
    return StageTraining(training, model, work, output, planned, restart)


def video_training(
    checkpoint: str | Path,
    *,
    sintel: str | Path | None = None,
    settings: VideoSettings | None = None,
    **options: Unpack[StageOptions],
) -> StageTraining:
    """The independent network of `checkpoint`, to be fine-tuned into a recurrent one: Gupta et al. 2017, section 4.

    Clips are made from photographs, so the flow between their frames is exact; back-propagation goes through all frames
    of a clip. A recurrent checkpoint is trained further.

    Args:
        checkpoint: what `image_training`, `video_training` or `train_style` wrote.
        sintel: the folder of MPI-Sintel in its own layout, added to the synthetic clips.

    Raises as `image_training`.
    """
    checkpoint, (settings, restart, output, where) = Path(checkpoint), _begun(options, VideoSettings.of(settings))
    start = load_checkpoint(checkpoint)
    grams = _gram_targets(checkpoint, start)
    if not grams:
        raise NststabError(f"{checkpoint} carries no Gram targets: it was not written by `nststab train image`")
    loss = replace(_loss_before(start.training), **loss_weights(settings))
    vgg = _perceptual(options, where)
    if start.training.get("perceptual", vgg.fingerprint) != vgg.fingerprint:
        raise NststabError(f"{checkpoint} was trained with another perceptual network (vgg_weights)")
    model = start.network if start.network.config.recurrent else make_recurrent(start.network)
    if settings.margin is not None:
        model = with_margin(model, settings.margin)
    model = model.to(where.device)
    target = {layer: gram.to(where.device) for layer, gram in grams.items()}
    training = Training(*training_photos(options["photos"], output), vgg, target, loss)
    record = {"style": start.training.get("style"), "from": dict(start.training)}
    work = training.video(settings, SintelClips(Path(sintel)) if sintel else None, record)
    planned = training_work(model, vgg, loss, settings, output, settings.length)
    return StageTraining(training, model, work, output, planned, restart)


def average_networks(
    first: str | Path, second: str | Path, output: str | Path, share: float = 0.5, restart: bool = False
) -> TransformationNetwork:
    """Writes the network whose weights are (1 - share) times those of `first` and share times those of `second`.

    Where `second` was trained further from `first` with other weights of the loss, it lies between them in style,
    content and stability (Izmailov et al. 2018). Raises NststabError where they are not of one kind.
    """
    output = checked_output(output, restart)
    first, second = Path(first), Path(second)
    one, other = load_checkpoint(first), load_checkpoint(second)
    try:
        network = interpolate(one.network, other.network, share)
    except NststabError as error:
        raise NststabError(f"{first} and {second} have no average: {error}") from error
    record = {**other.training, "average": {"share": share, "first": dict(one.training)}}
    save_checkpoint(output, Checkpoint(network, _gram_targets(first, one), record))
    log.info(f"{output}: {1 - share:g} of {first} and {share:g} of {second}")
    return network


def _loss_before(record: Mapping[str, Any]) -> LossSettings:
    """The weights and layers that a network was trained with, of those that there are today."""
    known = {field.name for field in fields(LossSettings)}
    before: dict[str, Any] = {name: value for name, value in record.get("loss", {}).items() if name in known}
    before |= {name: tuple(value) for name, value in before.items() if isinstance(value, list)}
    return LossSettings(**before)


def _gram_targets(path: Path, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """A checkpoint's own, or those that stand beside it in the folder of a style."""
    beside = path.with_name("target.safetensors")
    return load_target(beside)[0] if not checkpoint.style and beside.is_file() else checkpoint.style


def _perceptual(options: StageOptions, where: Machine) -> PerceptualNetwork:
    weights = options.get("vgg_weights")
    settings = PerceptualSettings(options.get("network"), Path(weights) if weights else None)
    return perceptual_network(where.device, settings)


def checked_output(output: str | Path, restart: bool = False) -> Path:
    """`output`; raises what speaks against writing there, before anything is computed."""
    output = Path(output)
    if output.suffix != ".safetensors":
        raise SettingError(f"output: expected a .safetensors file, got {output.name}")
    require_parent(output)
    refuse_overwriting(output, restart, "restart=True")
    return output


_REPEATED = 3  # steps that are measured
_CROP = 12  # bytes a pixel of a float32 RGB picture
_FORWARD = 1 / 3  # of a step's time: without the gradient


def training_work(
    network: TransformationNetwork,
    vgg: PerceptualNetwork,
    loss: LossSettings,
    settings: TrainingSettings,
    output: Path,
    length: int = 1,
) -> PlannedWork:
    """The work of `image_training`, and with clips of several frames of `video_training`; on the device of `vgg`."""
    images = settings.batch * length
    network, unstyled = deepcopy(network), _unstyled(vgg, loss)  # of the job's own no gradient must be left

    def step(width: int, height: int) -> Seconds:
        return Seconds.of(_step_seconds(network, unstyled, settings, length, width, height))

    def sized(longest: int) -> tuple[int, int]:
        scale = longest / max(settings.width, settings.height)
        return max(LEAST_CROP, int(settings.width * scale)), max(LEAST_CROP, int(settings.height * scale))

    def advice(longest: int) -> str:
        width, height = sized(longest)
        return f"height={height} width={width}" + (", or a smaller batch" if settings.batch > 1 else "")

    clips = f" of {length} frames" if length > 1 else ""
    validations = settings.steps // settings.validate_every + 2  # before the first step and after the last
    return PlannedWork(
        {
            "crops": f"{settings.width}x{settings.height}, {settings.batch} a step{clips}",
            "output": str(output),
            "method": f"training in {settings.arithmetic}",
        },
        settings.steps,
        "steps",
        settings.width,
        settings.height,
        (step,),
        lambda width, height: (3 * images + HELD_OUT * length) * _CROP * width * height,
        advice,
        sized,
        LEAST_CROP,
        validations * _FORWARD * (HELD_OUT if length == 1 else VALIDATION_CLIPS) / settings.batch,
        images,
        vgg.mean.device,
    )


def _unstyled(network: PerceptualNetwork, settings: LossSettings) -> PerceptualLoss:
    """A loss in all but its style, which is not computed yet: enough to measure."""
    network.require(settings.style_layers)
    sides = {layer: len(network.weights[f"{layer}_bias"]) for layer in settings.style_layers}
    grams = {layer: torch.zeros(1, side, side, device=network.mean.device) for layer, side in sides.items()}
    return PerceptualLoss(network, grams, settings)


def _step_seconds(
    network: TransformationNetwork,
    loss: PerceptualLoss,
    settings: TrainingSettings,
    length: int,
    width: int,
    height: int,
) -> list[float]:
    device = next(network.parameters()).device
    frames = (
        torch.cat(list(noise(width, height, settings.batch * length))).view(-1, length, 3, height, width).to(device)
    )
    optimizer = torch.optim.Adam(network.parameters(), 0.0)
    marks = [time.monotonic()]
    for _ in range(_REPEATED):
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, settings.arithmetic):
            terms = _terms(network, loss, frames)
        torch.autograd.backward(torch.stack(terms).sum())
        optimizer.step()
        next(network.parameters()).sum().item()  # waits for an accelerator
        marks.append(time.monotonic())
    return between(marks)


def _terms(network: TransformationNetwork, loss: PerceptualLoss, frames: Tensor) -> list[Tensor]:
    """The losses of clips (N, T, 3, H, W) that stand still."""
    stacked = unrolled(network, frames)
    terms = list(loss(stacked.flatten(0, 1), loss.content_targets(frames.flatten(0, 1))).values())
    if stacked.shape[1] > 1:
        later, earlier = stacked[:, 1:].flatten(0, 1), stacked[:, :-1].flatten(0, 1)
        terms.append(temporal_loss(later, earlier, torch.zeros_like(later[:, :2]), torch.ones_like(later[:, :1])))
    return terms
