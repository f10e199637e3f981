"""Construction: from what the command line says to networks, losses and stylizers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys, GatysSettings, Keep
from nststab.baselines.ruder import Ruder, RuderSettings
from nststab.cli.common import explain, given
from nststab.cli.flow_source import FlowSource
from nststab.cli.perceptual import layers_of, perceptual_network
from nststab.cli.style_source import StyleSource
from nststab.images import read_picture, resize
from nststab.losses import LossSettings, PerceptualLoss
from nststab.stylizer import FeedForward, Precision, Stylizer

FEED_FORWARD = ("recurrent", "independent")
IterationReport = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Machine:
    """Where to compute, and in which arithmetic."""

    device: torch.device
    precision: Precision


def machine(device: str, precision: str) -> Machine:
    """Resolves `auto`; raises ValueError for a device that is not there."""
    chosen = torch.device(_best_device() if device == "auto" else device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[chosen.type]:
        raise ValueError(f"no {chosen.type} device is available here; there is {_best_device()}")
    result = Machine(chosen, _best_precision(chosen) if precision == "auto" else precision)  # type: ignore[arg-type]
    explain(f"computing on {result.device.type}, {torch.get_num_threads()} threads")
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
    init: str | None = None
    style_scale: float = 1.0
    network: str | None = None
    vgg_weights: Path | None = None
    flow: FlowSource = field(default_factory=FlowSource)


def perceptual_loss(
    style: StyleSource, options: OptimizerOptions, content_side: int, device: torch.device
) -> PerceptualLoss:
    """The loss of `gatys` and `ruder`; a style picture is scaled to `style_scale` times the content's longest side."""
    if style.picture is None and options.style_scale != 1:
        raise click.UsageError(f"--style-scale has no effect on {style.text}, which is no picture")
    network = perceptual_network(options.vgg_weights, device, options.network)
    settings = replace(LossSettings(), **(layers_of(network) | dict(options.loss)))
    side = max(16, round(content_side * options.style_scale))
    target = style.target(network, settings.style_layers, side)
    layers = options.loss.get("style_layers", tuple(target))  # a checkpoint has its own
    return PerceptualLoss(network, target, replace(settings, style_layers=layers))


def stylizer(
    method: str,
    style: StyleSource,
    options: OptimizerOptions,
    content_side: int,
    where: Machine,
    report: IterationReport | None = None,
    keep: Keep | None = None,
) -> Stylizer:
    """Builds a method; `report` gets every iteration of an optimisation, and `keep` its result."""
    if method in FEED_FORWARD:
        explain(f"{method} in {where.precision}")
        return FeedForward(style.trained(method).network, where.device, where.precision)
    loss = perceptual_loss(style, options, content_side, where.device)
    loop, start = loop_settings(options), _start(options, content_side)
    optimized: Stylizer
    if method == "gatys":
        optimized = Gatys(loss, loop, report, where.device, start, keep)
    else:
        flow, settings = options.flow.function(), _ruder(options, loop)
        optimized = Ruder(loss, flow, settings, report, where.device, start, keep)
    return optimized


def loop_settings(options: OptimizerOptions) -> GatysSettings:
    """Settings of the first frame's optimisation."""
    changed = dict(options.loop)
    if options.init in ("content", "noise"):
        changed["init"] = options.init
    if options.iterations:
        changed["iterations"] = options.iterations[0]
    return replace(GatysSettings(), **changed)


def _start(options: OptimizerOptions, content_side: int) -> Callable[[Tensor], Tensor] | None:
    """What gives the start picture, at the content's size, where --init names one."""
    if options.init in (None, "content", "noise"):
        return None
    picture = resize(read_picture(Path(str(options.init))).rgb, content_side)
    return lambda _frame: picture


def _ruder(options: OptimizerOptions, loop: GatysSettings) -> RuderSettings:
    changed: dict[str, Any] = {"gatys": loop}
    if options.iterations and len(options.iterations) == 2:
        changed["later_iterations"] = options.iterations[1]
    changed |= given(temporal_weight=options.temporal_weight, long_term=options.long_term)
    return replace(RuderSettings(), **changed)
