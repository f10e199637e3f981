"""What decides the figures of a score or a comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nststab.errors import SettingError
from nststab.flow.settings import FlowMethod
from nststab.networks.settings import PerceptualSettings
from nststab.settings import Settings, same, setting

LOSS_FRAMES = 10  # of each sequence of DAVIS: a frame's losses cost several times what stylizing it does
HIGHER_IS_BETTER = ("psnr", "ssim", "trusted")
LOWER_IS_BETTER = ("warp_error", "flicker", "drift", "content_loss", "style_loss")
"""The figures of a clip that a limit can be set to, by their names in JSON."""


@dataclass(frozen=True)
class MeasureSettings(Settings):
    """What scores and comparisons share."""

    patches: int = setting(10, "Patches of each pair of frames.", least=1)
    cuts: bool = setting(True, "Take the clip for one shot; else no figure spans a cut of it.")
    network: Literal["vgg16", "vgg19"] | None = same(PerceptualSettings, "network")
    vgg_weights: Path | None = same(PerceptualSettings, "vgg_weights")
    seed: int = setting(0, "Seed of everything random.", least=0, most=2**32 - 1)

    @property
    def perceptual(self) -> PerceptualSettings:
        """The network that losses are measured with."""
        return PerceptualSettings(self.network, self.vgg_weights)


@dataclass(frozen=True)
class ScoreSettings(MeasureSettings):
    """How clips are measured beside their original.

    Losses are those of the second frame and of each `loss_every`-th after it: they take longer than all the rest, and
    change little from frame to frame.
    """

    gaps: tuple[int, ...] = setting((1, 5), "Frames over which the warping error is taken.", least=1)
    limit: int | None = setting(None, "Take only the first frames of every clip.", least=2, told="all")
    loss_every: int = setting(5, "Losses are measured of each so many frames.", least=1)
    flow_method: FlowMethod | None = setting(
        None,
        "How optical flow is estimated; deepflow is more exact in slow motion, raft needs its weights.",
        told="dis",
    )
    flow_cache: Path | None = setting(
        None,
        "Folder to keep optical flow in, by content, so that another run reads it.",
        told="it is not kept",  # at 1920x1080 a frame has 66 MB
        metavar="DIR",
        decides=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gaps[:1] != (1,) or list(self.gaps) != sorted(set(self.gaps)):
            raise SettingError(
                f"gaps: expected numbers that rise from 1, as in 1,2,4, got {','.join(map(str, self.gaps))}"
            )
