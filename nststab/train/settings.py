"""The settings of all trainings: of one stage, of a style's two networks, and of one network of many styles."""

import math
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeVar

from nststab.settings import Settings, group, setting

Precision = Literal["auto", "float32", "bfloat16"]
Stage = TypeVar("Stage", bound="TrainingSettings")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """What all stages share. The learning rate falls to zero on a half cosine, after a short warm-up.

    The paper keeps Adam's 1e-3 to the end; the fall ends at a lower loss in as many steps. `save_seconds` is what a
    kill costs at most.
    """

    steps: int = setting(6000, "Steps of Adam.", least=1)
    batch: int = setting(1, "Pictures or clips a step.", least=1)
    height: int = setting(256, "Height of the crops in pixels.", least=32)
    width: int = setting(256, "Width of the crops in pixels.", least=32)
    learning_rate: float = setting(0.001, "Highest learning rate; it falls to 0 on a cosine.", above=0)
    seed: int = setting(0, "Seed of everything random.", least=0, most=2**32 - 1)
    precision: Precision = setting("auto", "Arithmetic of the networks; auto takes what is fast on the device.")
    validate_every: int = setting(500, "Steps from one validation to the next.", least=1)
    save_seconds: float = setting(30.0, "Seconds from one saving of the state to the next.", decides=False)

    @property
    def arithmetic(self) -> Literal["float32", "bfloat16"]:
        """The precision, once that of a machine stands in the place of auto."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    def on(self, precision: str) -> Self:
        """With the precision of a machine; never float16, whose range small gradients fall below."""
        return replace(self, precision="bfloat16" if precision == "bfloat16" else "float32")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm_up = min(1.0, (step + 1) / 50)
        return self.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class ImageSettings(TrainingSettings):
    """The image stage: an independent network on photographs, by content and style loss (Johnson et al. 2016)."""

    style_size: int = setting(384, "Longest side of the style picture.", least=16, metavar="PIXELS")
    content_weight: float = setting(1.0, "Weight of the content loss.", least=0)
    style_weight: float = setting(1.0, "Weight of the style loss.", least=0)
    tv_weight: float = setting(0.0, "Weight of total variation.", least=0)
    margin: int = setting(16, "Pixels by which frames are reflected, then cut off.", least=0)


@dataclass(frozen=True)
class VideoSettings(TrainingSettings):
    """The video stage: a recurrent network on clips, by the temporal loss as well (Gupta et al. 2017, section 4).

    `temporal_weight` weighs eq. (6) as written, summed over channels and divided by H·W, in the mean over pairs. What
    is None stays as it was in the image stage.
    """

    steps: int = setting(3000, "Steps of Adam.", least=1)
    temporal_weight: float = setting(100.0, "Weight of the temporal loss.", least=0)
    length: int = setting(4, "Frames of a clip, all back-propagated through.", least=2)
    sintel_share: float = setting(0.2, "Share of Sintel's clips, where there are any.", least=0, most=1)
    content_weight: float | None = setting(None, "Weight of the content loss.", least=0, told="as trained before")
    style_weight: float | None = setting(None, "Weight of the style loss.", least=0, told="as trained before")
    tv_weight: float | None = setting(None, "Weight of total variation.", least=0, told="as trained before")
    margin: int | None = setting(
        None, "Pixels by which frames are reflected, then cut off.", least=0, told="as trained before"
    )


@dataclass(frozen=True)
class StyleSettings(Settings):
    """How `train_style` makes a style's two networks; what was tried and measured stands in docs/training.md.

    It begins with the networks of another style, which takes a fraction of the steps that random weights need.
    """

    effort: float = setting(1.0, "Steps of every stage, as a multiple of the usual ones.", above=0)
    image: ImageSettings = group(ImageSettings, steps=800, style_size=512, style_weight=2.0)
    video: VideoSettings = group(VideoSettings, steps=300, temporal_weight=50.0)

    @property
    def stages(self) -> tuple[ImageSettings, VideoSettings]:
        """The stages with `effort` times their steps, one of each at least."""
        return _scaled(self.image, self.effort), _scaled(self.video, self.effort)


def _scaled(stage: Stage, effort: float) -> Stage:
    return replace(stage, steps=max(1, round(stage.steps * effort)))
