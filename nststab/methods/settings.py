"""What can be said to the methods, and which of it each of them reads."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nststab.baselines.settings import FIRST_PASS, GatysSettings, MultiPassSettings, RuderSettings, rising
from nststab.errors import NststabError, SettingError
from nststab.flow.settings import FlowSettings
from nststab.networks.settings import PerceptualSettings
from nststab.settings import LAYERS, Curve, LossSettings, Settings, at, curve, group, same, setting

if TYPE_CHECKING:
    from nststab.frames import Frame

FEED_FORWARD = ("recurrent", "independent")
OPTIMISERS = ("ruder", "gatys")
METHODS = (*FEED_FORWARD, *OPTIMISERS)
_GROUPS = {"gatys": ("loss", "gatys"), "ruder": ("loss", "gatys", "ruder", "flow")}  # that the method reads


LEAST_WORK_SIZE = 32
"""The smallest longest side that a network paints at."""

FULL_STRENGTH: Curve = ((0.0, 1.0),)
_STRENGTH: Any = {"least": 0, "most": 1, "told": "1", "metavar": "X|TIME:X,...", "parse": curve}


def strength_curve(given: str | float | Sequence[tuple[float, float]]) -> Curve:
    """The setting `strength` of a number, pairs or text; raises SettingError where it is none."""
    try:
        return curve(given)
    except ValueError as error:
        raise SettingError(f"strength: {error}") from None


def strength_at(strength: Curve, frame: "Frame") -> float:
    """Of a frame; raises NststabError where it has no time and one is needed."""
    if frame.time is None and len(strength) > 1:
        raise NststabError("strength: a curve needs frames that have times, as those of pictures with fps have")
    return at(strength, float(frame.time or 0))


def _layers(default: tuple[str, ...], gatys: str) -> str:
    return f"{','.join(default)}; {gatys} with VGG-19, as Gatys"


@dataclass(frozen=True)
class LossChoice(Settings):
    """Weights and layers of the losses that are minimised; the layers are by default those of the network."""

    content_weight: float = same(LossSettings, "content_weight")
    style_weight: float = same(LossSettings, "style_weight")
    tv_weight: float = same(LossSettings, "tv_weight")
    content_layers: tuple[str, ...] | None = setting(
        None, "Where the content loss looks.", told=_layers(LossSettings.content_layers, "relu4_2"), choices=LAYERS
    )
    style_layers: tuple[str, ...] | None = setting(
        None,
        "Where the style loss looks.",
        told=_layers(LossSettings.style_layers, "relu1_1 to relu5_1"),
        choices=LAYERS,
    )
    scaling: Literal["energy", "paper"] = same(LossSettings, "scaling")

    def resolved(self, layers: LossSettings) -> LossSettings:
        """With the layers of a network, `layers`, where none were chosen."""
        return LossSettings(
            self.content_weight,
            self.style_weight,
            self.tv_weight,
            tuple(dict.fromkeys(self.content_layers or layers.content_layers)),
            tuple(dict.fromkeys(self.style_layers or layers.style_layers)),
            self.scaling,
        )


@dataclass(frozen=True)
class OptimizationSettings(PerceptualSettings):
    """How `gatys` and `ruder` minimise, and the network that they look with."""

    iterations: tuple[int, ...] | None = setting(
        None,
        "Iterations a frame at most; ruder: of the first frame and of later ones, or of the first pass and later ones.",
        least=1,
        told=f"{GatysSettings.iterations},{RuderSettings.later_iterations}; with several passes "
        f"{FIRST_PASS},{MultiPassSettings.later_iterations}",
        metavar="N[,N]",
    )
    optimizer: Literal["lbfgs", "adam"] = same(GatysSettings, "optimizer")
    learning_rate: float = same(GatysSettings, "learning_rate")
    tolerance: float = same(GatysSettings, "tolerance")
    init: str = setting(
        "content",
        "Start from the content, noise, what a trained style makes of the content, or a picture.",
        metavar="content|noise|style:NAME|IMAGE",
    )
    seed: int = same(GatysSettings, "seed")
    scales: int = setting(1, "Sizes of the picture, each twice the one before; the last is the full one.", least=1)
    chroma_weight: float = same(GatysSettings, "chroma_weight")
    coarse_iterations: int = same(GatysSettings, "coarse_iterations")
    style_scale: float = setting(1.0, "Size of a style picture relative to the content's.", above=0)


@dataclass(frozen=True)
class PassSettings(Settings):
    """How `ruder` ties the frames of a clip."""

    temporal_weight: float = same(RuderSettings, "temporal_weight")
    long_term: tuple[int, ...] = same(RuderSettings, "long_term")
    passes: int = setting(1, "Passes over a clip, in alternating direction.", least=1)
    temporal_from: int | None = same(MultiPassSettings, "temporal_from")
    blend: float = same(MultiPassSettings, "blend")

    def __post_init__(self) -> None:
        super().__post_init__()
        rising(self.long_term)


@dataclass(frozen=True)
class MachineSettings(Settings):
    """Where to compute; what these become decides a result, not how they were said."""

    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Where to compute.", decides=False)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "Arithmetic of the networks; auto takes what is fast on the device.", decides=False
    )
    engine: Literal["auto", "torch", "openvino", "onnx"] = setting(
        "auto",
        "What runs recurrent and independent; auto takes OpenVINO on a processor where it is installed.",
        decides=False,
    )


@dataclass(frozen=True)
class MethodSettings(Settings):
    """Everything that can be said to the four methods; of the groups the feed-forward ones read nothing."""

    loss: LossChoice = group(LossChoice)
    gatys: OptimizationSettings = group(OptimizationSettings)
    ruder: PassSettings = group(PassSettings)
    flow: FlowSettings = group(FlowSettings)
    style_weights: tuple[float, ...] | None = setting(
        None, "Parts of several styles in their blend, as in 3,7.", least=0, told="equal parts", metavar="X,..."
    )
    stroke: float | None = setting(
        None,
        "Size of the strokes of a network of many styles, from 0.5 to 2.",
        least=0.5,
        most=2,
        told="as of the painting at the size of the frame",
    )
    strength: Curve = setting(
        FULL_STRENGTH,
        "How far a network of many styles goes, from 0, the input, to 1; over time as in 0:0,2:1, at 0 and 2 seconds.",
        **_STRENGTH,
    )

    def check(self, methods: Collection[str], also: Collection[str] = ()) -> None:
        """Raises SettingError for what none of `methods` reads, as silence would pass for an effect, and for what
        contradicts itself. `also` are settings, or groups, that are read by something else."""
        read = {name for method in methods for name in _GROUPS.get(method, ())} | set(also)
        for one in self.given():
            group_name = one.name.partition(".")[0]
            if group_name in ("loss", "gatys", "ruder", "flow") and not {one.name, group_name} & read:
                raise SettingError(f"{one.name} has no effect on {', '.join(methods)}")
        ruder, gatys, flow = self.ruder, self.gatys, self.flow
        idle = {
            "ruder.temporal_from": (ruder.passes == 1, "without several ruder.passes"),
            "ruder.blend": (ruder.passes == 1, "without several ruder.passes"),
            "gatys.learning_rate": (gatys.optimizer == "lbfgs", "with gatys.optimizer lbfgs"),
            "gatys.coarse_iterations": (gatys.scales == 1, "without several gatys.scales"),
        }
        given = [one.name for one in self.given()]
        for name, (is_idle, why) in idle.items():
            if is_idle and name in given:
                raise SettingError(f"{name} has no effect {why}")
        if ruder.temporal_from and ruder.temporal_from > ruder.passes:
            raise SettingError(f"ruder.temporal_from is over the last of the {ruder.passes} ruder.passes")
        if len(ruder.long_term) > 1 and ruder.passes > 1:
            raise SettingError("ruder.long_term has no effect with several ruder.passes")
        if gatys.iterations and len(gatys.iterations) > (2 if "ruder" in methods else 1):
            raise SettingError("gatys.iterations takes one number, and for ruder two at most")
        if self.style_weights is not None and not any(self.style_weights):
            raise SettingError("style_weights: expected a weight above 0")
        for name in ("stroke", "strength"):
            if name in [one.name for one in self.given()] and not set(FEED_FORWARD) & set(methods):
                raise SettingError(f"{name} has no effect on {', '.join(methods)}")
        if gatys.vgg_weights and not gatys.vgg_weights.is_file():
            fault = "is a directory" if gatys.vgg_weights.is_dir() else "does not exist"
            raise SettingError(f"gatys.vgg_weights: {str(gatys.vgg_weights)!r} {fault}")
        if flow.files and not flow.files.is_dir():
            fault = "is a file" if flow.files.exists() else "does not exist"
            raise SettingError(f"flow.files: {str(flow.files)!r} {fault}; expected a folder of .flo files")
        if gatys.network and gatys.vgg_weights:
            raise SettingError("gatys.network and gatys.vgg_weights exclude each other")
        if not (gatys.init in ("content", "noise") or gatys.init.startswith("style:") or Path(gatys.init).is_file()):
            expected = "content, noise, style:NAME or an existing picture"
            raise SettingError(f"gatys.init: {gatys.init}: expected {expected}")
        if flow.files and (flow.method != FlowSettings.method or flow.cache):
            name = "flow.cache" if flow.cache else "flow.method"
            raise SettingError(f"{name} has no effect with flow.files, which reads the flow from files")


@dataclass(frozen=True)
class DeflickerSettings(Settings):
    """How `Deflicker` takes the flicker out of a clip."""

    strength: Curve = setting(
        FULL_STRENGTH,
        "From 0, the clip as it is, to 1, as steady as can be; over time as in 0:0,2:1, at 0 and 2 seconds.",
        **_STRENGTH,
    )
    lifetime: int = setting(32, "Frames after which a texture is drawn anew at the latest.", least=2, most=240)
    look_ahead: int | None = setting(
        None,
        "Frames after it that smooth the tone of a frame; 0 is causal.",
        least=0,
        most=60,
        told="8, and 0 from a pipe",
        metavar="N",
    )
    flow_side: int = setting(384, "Longest side in pixels at which the flow is estimated.", least=64)
