"""The long jobs as `--plan` sees them: what each does, what memory it takes, and how its frame is timed."""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from nststab.baselines.gatys import SMALLEST_SCALE
from nststab.engines.torch_engine import autocast
from nststab.flow.estimators import ESTIMATORS, between_frames
from nststab.flow.pairs import flow_ahead
from nststab.frames import as_frames
from nststab.losses import LossSettings, PerceptualLoss, temporal_loss
from nststab.memory import resident
from nststab.methods.build import FEED_FORWARD, Machine, OptimizerOptions, later_iterations, loop_settings, stylizer
from nststab.networks.transformation import TransformationNetwork, with_margin
from nststab.styles.source import Style
from nststab.tasks import footprints
from nststab.tasks.plan import Seconds, noise
from nststab.tasks.planning import Job
from nststab.train.settings import TrainingSettings
from nststab.vgg import PerceptualNetwork

_REPEATED = 2  # frames, iterations and steps of a probe after which the quickest counts
_LEAST_CROP = 32


def training_job(
    network: TransformationNetwork,
    vgg: PerceptualNetwork,
    loss: LossSettings,
    settings: TrainingSettings,
    output: Path,
    length: int = 1,
    style_pixels: float = 0,
) -> Job:
    """`train image`, and with clips of several frames `train video`; `network` and `vgg` are on their device."""
    held, images = resident(), settings.batch * length
    network, unstyled = deepcopy(network), footprints.unstyled(vgg, loss)  # of the job's own no gradient must be left

    def measure(width: int, height: int) -> Seconds:
        return Seconds(*[_step_seconds(network, unstyled, settings, length, width, height)] * 2)

    def sized(longest: int) -> tuple[int, int]:
        scale = longest / max(settings.width, settings.height)
        return max(_LEAST_CROP, int(settings.width * scale)), max(_LEAST_CROP, int(settings.height * scale))

    def advice(longest: int) -> str:
        width, height = sized(longest)
        return f"--height {height} --width {width}" + (", or a smaller --batch" if settings.batch > 1 else "")

    plain = with_margin(network, 0).to(vgg.mean.device)
    step = footprints.of_training(plain, unstyled, settings.arithmetic, images)
    clips = f" of {length} frames" if length > 1 else ""
    return Job(
        {
            "crops": f"{settings.width}x{settings.height}, {settings.batch} a step{clips}",
            "output": str(output),
            "method": f"training in {settings.arithmetic}",
        },
        settings.steps,
        "steps",
        settings.width,
        settings.height,
        step,
        footprints.of_training_data(images, length),
        measure,
        max(settings.width, settings.height),
        sized,
        advice,
        footprints.of_style_picture(style_pixels),
        _LEAST_CROP,
        vgg.mean.device,
        held,
        network.config.margin,
    )


def _iterations(method: str, optimizer: OptimizerOptions) -> tuple[float, float, int]:
    """Iterations at the full size of a first and of a later frame, and the number of scales."""
    loop = loop_settings(optimizer)
    later = later_iterations(optimizer.settings()) if method == "ruder" else loop.iterations
    return loop.iterations, later, optimizer.scales


def frame_seconds(
    method: str, style: Style, optimizer: OptimizerOptions, where: Machine, width: int, height: int
) -> Seconds:
    """Of a whole frame: two frames of a network, or as many iterations as the settings allow."""
    if method in FEED_FORWARD:
        marks = [time.monotonic()]
        network = stylizer(method, style, optimizer, max(width, height), where)
        marks += [time.monotonic() for _ in network(as_frames(noise(width, height, 1 + _REPEATED)))]
        return Seconds(*[_least(marks[1:])] * 2)
    one = _iteration(style, optimizer, where, width, height)
    first, later, scales = _iterations(method, optimizer)
    smaller = [scale for scale in range(1, scales) if min(width, height) / 2**scale >= SMALLEST_SCALE]
    first += sum(loop_settings(optimizer).coarse_iterations / 4**scale for scale in smaller)
    if method == "gatys":
        return Seconds(one * first, one * first)
    flow = 0.0 if optimizer.flow.files else _flow_seconds(optimizer.flow.method, width, height)
    flow *= len(optimizer.long_term or (1,))
    if optimizer.passes > 1:
        each = one * (first + (optimizer.passes - 1) * later)
        return Seconds(each, each + flow)
    return Seconds(one * first, one * later + flow)


def _iteration(style: Style, optimizer: OptimizerOptions, where: Machine, width: int, height: int) -> float:
    """Seconds of an iteration."""
    marks: list[float] = []
    short = replace(optimizer, iterations=(_REPEATED,), scales=1, passes=1, init=None)
    gatys = stylizer("gatys", style, short, max(width, height), where, lambda *_: marks.append(time.monotonic()))
    for _ in gatys(as_frames(noise(width, height))):
        pass
    return _least(marks)


def _least(marks: Sequence[float]) -> float:
    """The shortest time from one mark to the next: what disturbs only adds."""
    return min(after - before for before, after in pairwise(marks))


def _flow_seconds(method: str, width: int, height: int) -> float:
    """Seconds of a pair of frames, both directions side by side."""
    started = time.monotonic()
    for _ in flow_ahead(as_frames(noise(width, height, 2)), between_frames(ESTIMATORS[method])):
        pass
    return time.monotonic() - started


def _step_seconds(
    network: TransformationNetwork,
    loss: PerceptualLoss,
    settings: TrainingSettings,
    length: int,
    width: int,
    height: int,
) -> float:
    """Seconds of a training step on noise."""
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
    return _least(marks)


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
