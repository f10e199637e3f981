"""The settings of all experiments. Their docstrings are the help of the commands; no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nststab.errors import NststabError, SettingError
from nststab.flow.settings import FlowMethod, FlowSettings
from nststab.measure.settings import LOSS_FRAMES
from nststab.networks import settings as networks
from nststab.settings import Settings, same, setting

DAVIS_480P = 854  # longest side, which the paper's patches are for


@dataclass(frozen=True)
class ExperimentSettings(Settings):
    """What every experiment has."""

    seed: int = setting(0, "Seed of everything random.", least=0, most=2**32 - 1)


@dataclass(frozen=True)
class PerceptualSettings(ExperimentSettings):
    """The network that style and content losses are measured with, and that ruder and gatys minimise."""

    network: Literal["vgg16", "vgg19"] | None = same(networks.PerceptualSettings, "network")
    vgg_weights: Path | None = same(networks.PerceptualSettings, "vgg_weights")

    @property
    def perceptual(self) -> networks.PerceptualSettings:
        """As the library takes it."""
        return networks.PerceptualSettings(self.network, self.vgg_weights)


@dataclass(frozen=True)
class StylizingSettings(PerceptualSettings):
    """What the experiments that stylize share."""

    iterations: tuple[int, ...] | None = setting(
        None, "ruder and gatys: iterations of each first frame, and of ruder's later ones.", told="500,150", least=1
    )
    flow_method: FlowMethod = same(FlowSettings, "method")
    flow_cache: Path | None = same(FlowSettings, "cache")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations is not None and len(self.iterations) > 2:
            raise SettingError(f"iterations: expected a number, or two as in 500,150, got {self.iterations}")


@dataclass(frozen=True)
class Table1Settings(StylizingSettings):
    """Table 1 of Gupta et al. 2017: do background patches of adjacent frames look alike after stylization?

    For each pair of frames a random patch without foreground and the patch of the next frame that resembles it most:
    100x100 within 20 pixels in frames of 854, scaled to --size. PSNR and SSIM between the stylized patches; the input's
    own stand beside. Intervals are bootstrapped over sequences. Stability counts only beside the style and content
    loss of the same clips: three ways to be stable without being good are measured as well.

    --html writes a report that can be sent to anyone: the sequences in step, their curves, what is steady and what is
    not.
    """

    patches: int = setting(1, "Patches of each pair of frames.", least=1)
    size: int = setting(432, "Longest side of the frames in pixels.", least=16, metavar="PIXELS")
    limit: int | None = setting(None, "Frames of each sequence.", least=2, told="all")
    loss_frames: int = setting(
        LOSS_FRAMES, "Frames of each sequence whose losses are measured, most of the time of large ones.", least=1
    )


@dataclass(frozen=True)
class SpeedSettings(PerceptualSettings):
    """Table 2 of Gupta et al. 2017: seconds a frame of every method, arithmetic and memory.

    Networks alternate frame by frame on the bundled clip, scaled to squares. Optimisations run a few iterations, whose
    median is scaled to the 1000 iterations a frame that the paper counts: such rows are extrapolated. L-BFGS keeps two
    pictures more after each of its first 20 iterations, which fewer than that do not show in the memory.
    """

    size: tuple[int, ...] = setting(
        (256, 512, 1024), "Sides of the square frames in pixels.", least=16, metavar="PIXELS,..."
    )
    limit: int = setting(10, "Frames of each network, and pairs of each flow, after the warm-up.", least=1)
    measured_iterations: int = setting(
        10, "Iterations of ruder and gatys, which are scaled to the paper's 1000.", least=1
    )
    flow_methods: tuple[FlowMethod, ...] = setting(
        ("deepflow", "dis"), "With ruder: flow in both directions, timed apart.", metavar="FLOW,..."
    )
    engines: tuple[Literal["torch", "openvino", "onnx"], ...] = setting(
        ("torch",), "What runs the networks, in rows of their own.", metavar="ENGINE,..."
    )
    light: bool = setting(False, "The light network of the style, too, where there is one.")


@dataclass(frozen=True)
class GramTraceSettings(StylizingSettings):
    """How unstable are styles on videos of a fixed camera, against the trace of their Gram matrix (Figure 3)?

    Instability is the mean squared difference of adjacent stylized frames. What moves in the videos themselves counts
    too, so their own is shown. Videos smaller than --size are not enlarged. A style needs its picture for the trace: a
    folder of networks may hold image.jpg, or card.json with gram_trace.

    The lines of `nststab styles IMAGE` are those of a results.json, copied to nststab/styles/instability.json.
    """

    size: int = setting(432, "Longest side of the frames in pixels.", least=16, metavar="PIXELS")
    limit: int = setting(100, "Frames of each clip.", least=2)


@dataclass(frozen=True)
class DistortionSettings(StylizingSettings):
    """Does the result change as much as an input that was moved, blurred, sharpened (Gupta et al. 2017, Figure 6)?

    A patch c of 256x256 pixels (scaled with --size) is moved by 0 to 19 pixels, blurred and sharpened; SSIM(f(c),
    f(d(c))) stands beside SSIM(c, d(c)). For independent and gatys each patch stands by itself, for all other methods
    d(c) follows c in a clip of two frames. --limit bounds the frames of each sequence that patches are drawn from.
    """

    patches: int = setting(10, "Patches of background, in turn from every sequence.", least=1)
    size: int = setting(DAVIS_480P, "Longest side of the frames in pixels.", least=16, metavar="PIXELS")
    limit: int | None = setting(None, "Frames of each sequence that patches are drawn from.", least=2, told="all")
    translation: tuple[int, ...] = setting(tuple(range(20)), "Pixels that a patch is moved by, to the right.", least=0)
    blur: tuple[float, ...] = setting(
        tuple(step / 2 for step in range(11)),
        "Sigmas of the Gaussian blur, in pixels of the frames.",
        least=0,
    )
    sharpening: tuple[float, ...] = setting(
        tuple(step / 2 for step in range(11)),
        "How many times the difference to a blur of sigma 1 is added (unsharp masking).",
        least=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("translation", "blur", "sharpening"):
            if not any(getattr(self, name)):
                raise SettingError(f"{name}: expected a strength above 0 among others")

    def steps(self) -> list[tuple[str, float]]:
        """Every distortion in every strength."""
        return [(name, one) for name in ("translation", "blur", "sharpening") for one in getattr(self, name)]


@dataclass(frozen=True)
class ShiftSettings(StylizingSettings):
    """Why style networks flicker, part two: how much does a result change when the picture only moves?

    The first frame of each sequence is panned by whole and half pixels, zoomed and turned; the result of the moved
    frame is moved back and compared with that of the frame. The result's own gradient and its style loss stand beside
    it, since a blurred result changes little too.
    """

    size: int = setting(320, "Longest side of the frames in pixels.", least=64, metavar="PIXELS")
    pans: tuple[float, ...] = setting((0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8), "Pixels that it is panned by.", above=0)
    zooms: tuple[float, ...] = setting((0.01, 0.03), "Factors less 1 that it is zoomed by.", above=0, most=0.2)
    turns: tuple[float, ...] = setting((0.5, 2), "Degrees that it is turned by.", above=0, most=10)

    def steps(self) -> list[tuple[str, float]]:
        """Every movement with its strength."""
        movements = {"pan": self.pans, "zoom": self.zooms, "turn": self.turns}
        return [(name, float(strength)) for name, strengths in movements.items() for strength in strengths]


@dataclass(frozen=True)
class TheoremSettings(ExperimentSettings):
    """Minimise the style objective in feature space from random starts (Gupta et al. 2017, Figure 2 and Theorem 1).

    Features with the Gram matrix G lie on a sphere of radius sqrt(tr G); that every point of it has that Gram matrix,
    as the paper says too, holds for one channel only. Both are shown by numbers, for random Gram matrices and those of
    the styles at relu1_1. Nothing is stylized.
    """

    starts: int = setting(8, "Random starts of each Gram matrix; two or more, to tell minimisers apart.", least=2)
    size: int = setting(512, "Longest side of the style pictures.", least=16, metavar="PIXELS")


@dataclass(frozen=True)
class DriftSettings(StylizingSettings):
    """Measure what builds up over hundreds of frames: drift of brightness and colour, ghosts, traces of a cut.

    The first frame of INPUT, a clip or a picture, is a still under new sensor noise in every frame; a disc of its
    mirrored negative slides in and vanishes, and a cut leads to that negative. The first frames of a clip are looped
    forwards and backwards. Without INPUT it is the bundled clip.
    """

    frames: int = setting(300, "Frames of the still, and of the loop.", least=20)
    noise: float = setting(0.02, "Standard deviation of the still's noise, of a range of 1.", least=0, most=0.25)
    size: int = setting(256, "Longest side of the frames in pixels.", least=16, metavar="PIXELS")
    limit: int | None = setting(None, "Frames of INPUT that are looped.", least=1, told="20, or what fits twice")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.looped > self._longest_loop:
            raise NststabError(
                f"two rounds of a loop of {self.limit} frames, forwards and backwards, do not fit into {self.frames} "
                f"frames, {self.settled} of which settle: expected a loop of at most {self._longest_loop}"
            )

    @property
    def settled(self) -> int:
        """The first frames, which nothing is measured on: 50, or a tenth of less than a hundred."""
        return 50 if self.frames >= 100 else self.frames // 10

    @property
    def window(self) -> int:
        """Frames of the still that are averaged: 25, fewer where four times as many do not come after settling."""
        return min(25, (self.frames - self.settled) // 4)

    @property
    def looped(self) -> int:
        """Frames of the loop; of one alone, a picture, there is no loop."""
        return min(20, self._longest_loop) if self.limit is None else self.limit

    @property
    def period(self) -> int:
        """Frames after which the loop repeats: a, b, c, b, a, b, ... has 4."""
        return max(1, 2 * (self.looped - 1))

    @property
    def _longest_loop(self) -> int:
        return (self.frames - self.settled) // 4 + 1
