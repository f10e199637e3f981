"""Construction: the one place where methods are built of styles, settings and a machine."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.baselines.gatys import HISTORY, Gatys, Keep
from nststab.baselines.multipass import MultiPass
from nststab.baselines.ruder import Ruder
from nststab.baselines.settings import FIRST_PASS, GatysSettings, MultiPassSettings, RuderSettings
from nststab.engines import EngineName, make_engine
from nststab.errors import NststabError, SettingError
from nststab.flow.estimators import FlowSource, flow_source
from nststab.frames import Frame, Stylizer
from nststab.losses import LossSettings, PerceptualLoss
from nststab.methods.feed_forward import FeedForward
from nststab.methods.regions import Blended
from nststab.methods.settings import FEED_FORWARD as FEED_FORWARD
from nststab.methods.settings import (
    FULL_STRENGTH,
    MachineSettings,
    MethodSettings,
    OptimizationSettings,
    strength_at,
)
from nststab.networks.perceptual import layers_of, perceptual_network
from nststab.networks.settings import PerceptualSettings
from nststab.settings import Precision, did_you_mean
from nststab.storage.parts import State
from nststab.styles.source import NoTarget, Style, StyleRegions, style_source
from nststab.tiled_loss import TiledLoss
from nststab.vgg import Padding
from nststab.video.images import read_opaque, resize

if TYPE_CHECKING:
    from nststab.measure.stability import FrameLosses

log = logging.getLogger(__name__)

_PICTURES = 16  # of an optimisation beside L-BFGS' history: iterates, gradients, the features of the content
IterationReport = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Machine:
    """Where to compute, in which arithmetic, and in how many bytes of memory, if that is bounded."""

    device: torch.device
    precision: Precision
    engine: EngineName = "torch"
    memory: int | None = None

    @property
    def optimizing(self) -> Precision:
        """The perceptual network's arithmetic in an optimisation; float16 has not the range for its gradients."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"


def machine(device: str, precision: str, engine: str = "auto") -> Machine:
    """Resolves `auto`; raises NststabError for a device that is not there, SettingError for what is no device."""
    MachineSettings(device, precision, engine)  # type: ignore[arg-type]
    chosen = torch.device(_best_device() if device == "auto" else device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[chosen.type]:
        raise NststabError(f"no {chosen.type} device is available here; there is {_best_device()}")
    best: Any = "float32" if engine == "onnx" else _best_precision(chosen)
    arithmetic: Any = best if precision == "auto" else precision
    runs: Any = best_engine(chosen, arithmetic) if engine == "auto" else engine
    result = Machine(chosen, arithmetic, runs)
    log.debug(f"computing on {result.device.type}, {torch.get_num_threads()} threads")
    return result


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_engine(device: torch.device, precision: Precision) -> EngineName:
    """OpenVINO where it is installed and can: it takes less time on a processor."""
    can = device.type == "cpu" and precision != "float16"
    return "openvino" if can and find_spec("openvino") else "torch"


def _best_precision(device: torch.device) -> Precision:
    """16 bits where the hardware multiplies them; elsewhere they would be emulated, and slow."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bfloat16"
    return "float32"


@dataclass(frozen=True)
class Around:
    """What a method is built into: what hears every iteration of an optimisation, and what keeps results.

    keep: the result of each optimisation, as for `Gatys`. state: that of a network, as for `FeedForward`. folder: where
    several passes of `ruder` keep the clip; they need one. flow: where `ruder` has it from, if not from its settings.
    """

    iteration: IterationReport | None = None
    keep: Keep | None = None
    state: State | None = None
    folder: Path | None = None
    flow: FlowSource | None = None


ALONE = Around()


@dataclass(frozen=True)
class _Order:
    """What a method is built of."""

    method: str
    style: Style
    settings: MethodSettings
    longest_side: int
    machine: Machine
    around: Around


def build(
    method: str,
    style: Style,
    settings: MethodSettings | None = None,
    *,
    longest_side: int,
    machine: Machine,
    around: Around = ALONE,
) -> Stylizer:
    """Builds one of the four methods for frames of a longest side.

    settings: what `gatys` and `ruder` read; see `MethodSettings.check` for what has no effect.

    Raises:
        SettingError: an unknown method, a style that it cannot follow, or settings that cannot be.
    """
    if method not in _BUILDERS:
        raise SettingError(f"there is no method {method!r}; {did_you_mean(method, list(_BUILDERS))}")
    return _BUILDERS[method](_Order(method, style, settings or MethodSettings(), longest_side, machine, around))


def _feed_forward(order: _Order) -> Stylizer:
    where = order.machine
    if isinstance(order.style, StyleRegions):
        return Blended(tuple(_feed_forward(replace(order, style=one, around=ALONE)) for one in order.style.styles))
    log.debug(f"{order.method} in {where.precision} by {where.engine}")
    settings = order.settings
    strength = settings.strength
    changes = strength != FULL_STRENGTH
    network = order.style.trained(order.method, settings.stroke, changes, order.longest_side).network
    engine = make_engine(where.engine, network, where.device, where.precision, where.memory)
    followed = (lambda frame: strength_at(strength, frame)) if changes else None
    return FeedForward(engine, strength=followed, state=order.around.state)


def _gatys(order: _Order) -> Gatys:
    where, settings, around = order.machine, order.settings, order.around
    log.debug(f"{order.method} with its perceptual network in {where.optimizing}")
    *coarse, loss = scaled_losses(order.style, settings, order.longest_side, where)
    start = start_picture(settings.gatys.init, order.longest_side, where)
    chosen = frame_settings(settings)
    return Gatys(loss, chosen, around.iteration, where.device, start, around.keep, coarse)


def _ruder(order: _Order) -> Stylizer:
    ruder, later = order.settings.ruder, later_iterations(order.settings)
    flow = (order.around.flow or flow_source(order.settings.flow)).function
    if ruder.passes == 1:
        single: Stylizer = Ruder(_gatys(order), flow(), RuderSettings(later, ruder.temporal_weight, ruder.long_term))
        return single
    if isinstance(order.style, StyleRegions):
        raise SettingError("mask_styles: ruder takes one style in several ruder.passes")
    if (folder := order.around.folder) is None:
        raise NststabError("several passes need a folder to keep the clip in")
    several = MultiPassSettings(later, ruder.passes, ruder.blend, ruder.temporal_weight, ruder.temporal_from)
    first = replace(order, around=replace(order.around, keep=None))
    multiple: Stylizer = MultiPass(_gatys(first), flow(), several, folder)
    return multiple


_BUILDERS: Mapping[str, Callable[[_Order], Stylizer]] = {
    "recurrent": _feed_forward,
    "independent": _feed_forward,
    "ruder": _ruder,
    "gatys": _gatys,
}


def scaled_losses(
    style: Style,
    settings: MethodSettings,
    longest_side: int,
    where: Machine,
    padding: Padding = "replicate",
) -> list[PerceptualLoss]:
    """The losses of all scales, the coarsest first: each has half the size of the next, and the style pictures too.

    A style picture is scaled to `gatys.style_scale` times the content's longest side; without that setting the picture
    of a style with kept Gram targets to their size. `padding` is the network's: against VGG's zeros an optimisation
    draws a frame around the picture, dark or of odd colours.
    """
    gatys = settings.gatys
    if gatys.style_scale != 1:
        if not style.scalable:
            raise SettingError(f"gatys.style_scale has no effect on {style.text}, which has no picture to scale")
        style = style.drawn()
    network = perceptual_network(where.device, gatys, padding)
    chosen = settings.loss.resolved(replace(LossSettings(), **layers_of(network)))
    losses = []
    for scale in reversed(range(gatys.scales)):
        side = max(16, round(longest_side * gatys.style_scale / 2**scale))
        target = style.target(network, chosen.style_layers, side)
        kept = target if isinstance(target, Mapping) else target[0]
        layers = settings.loss.style_layers or tuple(kept)  # a checkpoint has its own
        own = replace(chosen, style_layers=layers)
        dtype = getattr(torch, where.optimizing)
        if where.memory is None:
            losses.append(PerceptualLoss(network, target, own, dtype))
        elif not isinstance(target, Mapping):
            raise SettingError("memory has no effect on a picture with a style in each region")
        else:
            pictures = _PICTURES + (2 * HISTORY if gatys.optimizer == "lbfgs" else 0)
            losses.append(TiledLoss(network, target, own, dtype, where.memory, pictures))
    return losses


def measuring_losses(
    style: Style,
    perceptual: PerceptualSettings,
    longest_side: int,
    where: Machine,
    style_scale: float = 1.0,
) -> "FrameLosses":
    """Style and content loss of frames with weights of one, which compare whatever the methods were run with."""
    from nststab.measure.stability import perceptual_losses

    gatys = OptimizationSettings(
        perceptual.network, perceptual.vgg_weights, perceptual.pooling, style_scale=style_scale
    )
    plain = Machine(where.device, "float32")
    (loss,) = scaled_losses(style, MethodSettings(gatys=gatys), longest_side, plain, padding="zeros")
    return perceptual_losses(loss, where.device)


def content_losses(perceptual: PerceptualSettings, where: Machine) -> "FrameLosses":
    """The content loss alone, where the style is not known."""
    from nststab.measure.score import ContentLoss
    from nststab.measure.stability import perceptual_losses

    network = perceptual_network(where.device, perceptual)
    layers = layers_of(network).get("content_layers", LossSettings().content_layers)
    return perceptual_losses(ContentLoss(network, layers), where.device)


def losses_beside(
    style: Style,
    perceptual: PerceptualSettings,
    longest_side: int,
    where: Machine,
    style_scale: float = 1.0,
    say: Callable[[str], None] = log.warning,
) -> "FrameLosses":
    """What `measuring_losses` gives; of a style that only its network draws, which is said, the style loss is NaN."""
    try:
        return measuring_losses(style, perceptual, longest_side, where, style_scale)
    except NoTarget as error:
        say(f"the style loss is not measured: {error}")
        content = content_losses(perceptual, where)
        return lambda stylized, original: {"style": math.nan, **content(stylized, original)}


def frame_settings(settings: MethodSettings) -> GatysSettings:
    """Of the first frame's optimisation, or of each frame's in the first pass."""
    gatys = settings.gatys
    default = FIRST_PASS if settings.ruder.passes > 1 else GatysSettings.iterations
    return GatysSettings(
        gatys.iterations[0] if gatys.iterations else default,
        gatys.optimizer,
        gatys.learning_rate,
        "noise" if gatys.init == "noise" else "content",
        gatys.seed,
        gatys.tolerance,
        gatys.chroma_weight,
        gatys.coarse_iterations,
    )


def later_iterations(settings: MethodSettings) -> int:
    """Of each later frame, or of each frame in a later pass: no more than of the first, where one number is given."""
    default = (MultiPassSettings if settings.ruder.passes > 1 else RuderSettings)().later_iterations
    first, *later = settings.gatys.iterations or (default,)
    return later[0] if later else min(default, first)


def start_picture(init: str, longest_side: int, where: Machine) -> Callable[[Tensor], Tensor] | None:
    """What gives the start picture, at the content's size, where `init` names a style's network or a picture."""
    if init in ("content", "noise"):
        return None
    if init.startswith("style:"):
        checkpoint = style_source(init.removeprefix("style:")).trained("independent")
        network = FeedForward(checkpoint.network, where.device, where.precision)
        return lambda frame: next(network([Frame(frame)])).rgb
    picture = resize(read_opaque(Path(init)), longest_side)
    return lambda frame: _fitted(picture, frame)


def _fitted(picture: Tensor, frame: Tensor) -> Tensor:
    """`picture` in the size of `frame`, from which rounding may part it by a pixel; another shape is left as it is."""
    size = frame.shape[-2:]
    if max(abs(own - wanted) for own, wanted in zip(picture.shape[-2:], size, strict=True)) > 1:
        return picture
    return F.interpolate(picture, size, mode="bilinear", align_corners=False) if picture.shape[-2:] != size else picture
