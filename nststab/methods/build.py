"""Construction: from what the command line says to networks, losses and stylizers."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings, Keep
from nststab.baselines.multipass import MultiPass, MultiPassSettings
from nststab.baselines.ruder import Ruder, RuderSettings
from nststab.cli.common import given
from nststab.errors import NststabError, SettingError
from nststab.flow.source import FlowSource
from nststab.losses import LossSettings, PerceptualLoss
from nststab.networks.checkpoints import FeedForward, Precision, Stylizer
from nststab.networks.perceptual import layers_of, perceptual_network
from nststab.styles.source import Style, style_source
from nststab.vgg import Pooling
from nststab.video.images import read_picture, resize

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nststab.measure.stability import FrameLosses

FEED_FORWARD = ("recurrent", "independent")
IterationReport = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Machine:
    """Where to compute, and in which arithmetic."""

    device: torch.device
    precision: Precision

    @property
    def optimizing(self) -> Precision:
        """The perceptual network's arithmetic in an optimisation; float16 has not the range for its gradients."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"


def machine(device: str, precision: str) -> Machine:
    """Resolves `auto`; raises ValueError for a device that is not there."""
    chosen = torch.device(_best_device() if device == "auto" else device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[chosen.type]:
        raise NststabError(f"no {chosen.type} device is available here; there is {_best_device()}")
    result = Machine(chosen, _best_precision(chosen) if precision == "auto" else precision)  # type: ignore[arg-type]
    log.debug(f"computing on {result.device.type}, {torch.get_num_threads()} threads")
    return result


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: torch.device) -> Precision:
    """16 bits where the hardware multiplies them; elsewhere they would be emulated, and slow."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bfloat16"
    return "float32"


@dataclass(frozen=True)
class OptimizerOptions:
    """What the command line says to the optimisation methods; None and absent keys leave the method's own default."""

    loss: Mapping[str, Any] = field(default_factory=dict)  # LossSettings
    loop: Mapping[str, Any] = field(default_factory=dict)  # GatysSettings
    iterations: tuple[int, ...] | None = None
    temporal_weight: float | None = None
    long_term: tuple[int, ...] | None = None
    passes: int = 1
    temporal_from: int | None = None
    init: str | None = None
    scales: int = 1
    style_scale: float = 1.0
    network: str | None = None
    vgg_weights: Path | None = None
    pooling: Pooling = "max"
    flow: FlowSource = field(default_factory=FlowSource)


def perceptual_loss(style: Style, options: OptimizerOptions, content_side: int, device: torch.device) -> PerceptualLoss:
    """The loss of `gatys` and `ruder`; a style picture is scaled to `style_scale` times the content's longest side."""
    return _losses(style, replace(options, scales=1), content_side, Machine(device, "float32"))[0]


def measuring_losses(
    style: Style, options: Mapping[str, Any], content_side: int, where: Machine, style_scale: float = 1.0
) -> "FrameLosses":
    """Style and content loss of frames with weights of one, which compare whatever the methods were run with.

    options: --network and --vgg-weights, by click's names.
    """
    from nststab.measure.stability import perceptual_losses

    measured = OptimizerOptions(style_scale=style_scale, network=options["network"], vgg_weights=options["vgg_weights"])
    return perceptual_losses(perceptual_loss(style, measured, content_side, where.device), where.device)


def _losses(style: Style, options: OptimizerOptions, content_side: int, where: Machine) -> list[PerceptualLoss]:
    """The losses of all scales, the coarsest first: each has half the size of the next, and the style pictures too."""
    if options.style_scale != 1:
        if not style.scalable:
            raise SettingError(f"--style-scale has no effect on {style.text}, which has no picture to scale")
        style = style.drawn()
    network = perceptual_network(options.vgg_weights, where.device, options.network, options.pooling)
    settings = replace(LossSettings(), **(layers_of(network) | dict(options.loss)))
    losses = []
    for scale in reversed(range(options.scales)):
        side = max(16, round(content_side * options.style_scale / 2**scale))
        target = style.target(network, settings.style_layers, side)
        layers = options.loss.get("style_layers", tuple(target))  # a checkpoint has its own
        own = replace(settings, style_layers=layers)
        losses.append(PerceptualLoss(network, target, own, getattr(torch, where.optimizing)))
    return losses


def stylizer(
    method: str,
    style: Style,
    options: OptimizerOptions,
    content_side: int,
    where: Machine,
    report: IterationReport | None = None,
    keep: Keep | None = None,
    folder: Path | None = None,
) -> Stylizer:
    """Builds a method; `report` gets every iteration of an optimisation, and `keep` its result.

    `folder` is where several passes of `ruder` keep the clip; they need one.
    """
    if method in FEED_FORWARD:
        log.debug(f"{method} in {where.precision}")
        return FeedForward(style.trained(method).network, where.device, where.precision)
    log.debug(f"{method} with its perceptual network in {where.optimizing}")
    *coarse, loss = _losses(style, options, content_side, where)
    start = _start(options, content_side, where)
    optimized: Stylizer
    if method == "gatys":
        optimized = Gatys(loss, loop_settings(options), report, where.device, start, keep, coarse)
    elif options.passes > 1:
        assert folder is not None
        flow, settings = options.flow.function(), _multi_pass(options)
        optimized = MultiPass(loss, flow, settings, folder, report, where.device, start, coarse)
    else:
        flow = options.flow.function()
        optimized = Ruder(loss, flow, _ruder(options), report, where.device, start, keep, coarse)
    return optimized


def loop_settings(options: OptimizerOptions) -> GatysSettings:
    """Settings of the first frame's optimisation, or of the first pass."""
    changed = dict(options.loop)
    if options.init in ("content", "noise"):
        changed["init"] = options.init
    if options.iterations:
        changed["iterations"] = options.iterations[0]
    return replace(MultiPassSettings().gatys if options.passes > 1 else GatysSettings(), **changed)


def _start(options: OptimizerOptions, content_side: int, where: Machine) -> Callable[[Tensor], Tensor] | None:
    """What gives the start picture, at the content's size, where --init names a style's network or a picture."""
    if options.init in (None, "content", "noise"):
        return None
    if options.init.startswith("style:"):
        checkpoint = style_source(options.init.removeprefix("style:")).trained("independent")
        network = FeedForward(checkpoint.network, where.device, where.precision)
        return lambda frame: next(network([frame]))
    picture = resize(read_picture(Path(str(options.init))).rgb, content_side)
    return lambda frame: _fitted(picture, frame)


def _fitted(picture: Tensor, frame: Tensor) -> Tensor:
    """`picture` in the size of `frame`, from which rounding may part it by a pixel; another shape is left as it is."""
    size = frame.shape[-2:]
    if max(abs(own - wanted) for own, wanted in zip(picture.shape[-2:], size, strict=True)) > 1:
        return picture
    return F.interpolate(picture, size, mode="bilinear", align_corners=False) if picture.shape[-2:] != size else picture


def _ruder(options: OptimizerOptions) -> RuderSettings:
    return replace(RuderSettings(), **_later_frames(options), **given(long_term=options.long_term))


def _multi_pass(options: OptimizerOptions) -> MultiPassSettings:
    changed = _later_frames(options) | given(passes=options.passes, temporal_from=options.temporal_from)
    return replace(MultiPassSettings(), **changed)


def _later_frames(options: OptimizerOptions) -> dict[str, Any]:
    """What a single and several passes share."""
    changed: dict[str, Any] = {"gatys": loop_settings(options), **given(temporal_weight=options.temporal_weight)}
    if options.iterations:
        changed["later_iterations"] = later_iterations(options)
    return changed


def later_iterations(options: OptimizerOptions) -> int:
    """Of each later frame, or of each frame in a later pass: no more than of the first, where one number is given."""
    several = options.passes > 1
    default = MultiPassSettings().later_iterations if several else RuderSettings().later_iterations
    first, *later = options.iterations or (default,)
    return later[0] if later else min(default, first)
