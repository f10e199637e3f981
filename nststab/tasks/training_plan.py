"""What a training takes: one of its steps as a plan measures it."""

import time
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from nststab.engines.torch_engine import autocast
from nststab.losses import LossSettings, PerceptualLoss, temporal_loss
from nststab.networks.transformation import TransformationNetwork
from nststab.tasks.plan import Seconds, Work, between, noise
from nststab.train.settings import TrainingSettings
from nststab.vgg import PerceptualNetwork

_LEAST_CROP = 32
_REPEATED = 3  # steps that are measured
_CROP = 12  # bytes a pixel of a float32 RGB picture
_VALIDATED, _VALIDATED_CLIPS = 8, 4  # pictures that are held out, or clips made of them
_FORWARD = 1 / 3  # of a step's time: without the gradient


def training_work(
    network: TransformationNetwork,
    vgg: PerceptualNetwork,
    loss: LossSettings,
    settings: TrainingSettings,
    output: Path,
    length: int = 1,
) -> Work:
    """The work of `train_image`, and with clips of several frames of `train_video`; all on the device of `vgg`."""
    images = settings.batch * length
    network, unstyled = deepcopy(network), _unstyled(vgg, loss)  # of the job's own no gradient must be left

    def step(width: int, height: int) -> Seconds:
        return Seconds.of(_step_seconds(network, unstyled, settings, length, width, height))

    def sized(longest: int) -> tuple[int, int]:
        scale = longest / max(settings.width, settings.height)
        return max(_LEAST_CROP, int(settings.width * scale)), max(_LEAST_CROP, int(settings.height * scale))

    def advice(longest: int) -> str:
        width, height = sized(longest)
        return f"height={height} width={width}" + (", or a smaller batch" if settings.batch > 1 else "")

    clips = f" of {length} frames" if length > 1 else ""
    validations = settings.steps // settings.validate_every + 2  # before the first step and after the last
    return Work(
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
        lambda width, height: (3 * images + _VALIDATED * length) * _CROP * width * height,
        advice,
        sized,
        _LEAST_CROP,
        validations * _FORWARD * (_VALIDATED if length == 1 else _VALIDATED_CLIPS) / settings.batch,
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
    """Seconds of some training steps on noise."""
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
    pictures: list[Tensor] = []
    for frame in frames.unbind(1):
        pictures.append(network(frame, pictures[-1] if pictures else None))
    stacked = torch.stack(pictures, dim=1)  # (N, T, 3, H, W)
    terms = list(loss(stacked.flatten(0, 1), loss.content_targets(frames.flatten(0, 1))).values())
    if len(pictures) > 1:
        later, earlier = stacked[:, 1:].flatten(0, 1), stacked[:, :-1].flatten(0, 1)
        terms.append(temporal_loss(later, earlier, torch.zeros_like(later[:, :2]), torch.ones_like(later[:, :1])))
    return terms
