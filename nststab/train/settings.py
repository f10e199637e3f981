"""The settings of all trainings: of one stage, of a style's two networks, and of one network of many styles."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar

from nststab.settings import Settings, group, setting

Precision = Literal["auto", "float32", "bfloat16"]
Stage = TypeVar("Stage", bound="TrainingSettings")
LEAST_CROP = 32  # side of a crop in pixels


@dataclass(frozen=True)
class _Computed(Settings):
    precision: Precision = setting("auto", "Arithmetic of the networks; auto takes what is fast on the device.")

    @property
    def arithmetic(self) -> Literal["float32", "bfloat16"]:
        """The precision, once that of a machine stands in the place of auto."""
        return "bfloat16" if self.precision == "bfloat16" else "float32"

    def on(self, precision: str) -> Self:
        """With the precision of a machine; never float16, whose range small gradients fall below."""
        return replace(self, precision="bfloat16" if precision == "bfloat16" else "float32")


@dataclass(frozen=True)
class TrainingSettings(_Computed):
    """What all stages share. The learning rate falls to zero on a half cosine, after a short warm-up.

    The paper keeps Adam's 1e-3 to the end; the fall ends at a lower loss in as many steps. `save_seconds` is what a
    kill costs at most.
    """

    steps: int = setting(6000, "Steps of Adam.", least=1)
    batch: int = setting(1, "Pictures or clips a step.", least=1)
    height: int = setting(256, "Height of the crops in pixels.", least=LEAST_CROP)
    width: int = setting(256, "Width of the crops in pixels.", least=LEAST_CROP)
    learning_rate: float = setting(0.001, "Highest learning rate; it falls to 0 on a cosine.", above=0)
    seed: int = setting(0, "Seed of everything random.", least=0, most=2**32 - 1)
    validate_every: int = setting(500, "Steps from one validation to the next.", least=1)
    save_seconds: float = setting(30.0, "Seconds from one saving of the state to the next.", decides=False)

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


def loss_weights(stage: ImageSettings | VideoSettings) -> dict[str, Any]:
    """The weights of `LossSettings` that a stage gives."""
    given = {name: getattr(stage, name) for name in ("content_weight", "style_weight", "tv_weight")}
    return {name: weight for name, weight in given.items() if weight is not None}


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


@dataclass(frozen=True)
class NetworkSettings(_Computed):
    """How one network of many styles is trained (`train_network`).

    A run goes on with the same `width`, `blocks`, `strokes`, `length` and `only_rows`, which make another network or
    train another part of it; the rest may be changed when it is resumed.

    Convolutions are trained by Muon, all else by Adam. Crops grow in equal parts of the run; over its last part both
    rates fall to zero.
    """

    pictures: int = setting(300_000, "Pictures to train on, in all.", least=1, decides=False)
    batch: int = setting(4, "Pictures a step, of styles drawn for each.", least=1, decides=False)
    crops: tuple[int, ...] = setting(
        (128, 192, 256), "Sides of the crops, from first to last.", least=LEAST_CROP, decides=False
    )
    strokes: tuple[int, ...] = setting(
        (512, 1024), "Longest sides of the style pictures; each makes a style.", least=16
    )
    width: int = setting(48, "Channels at a quarter of the resolution.", least=4)
    blocks: int = setting(5, "Residual blocks.", least=0)
    learning_rate: float = setting(0.02, "Learning rate of the convolutions (Muon).", above=0, decides=False)
    adam_rate: float = setting(0.002, "Learning rate of all else (Adam).", above=0, decides=False)
    cooldown: float = setting(
        0.2, "Last part of the run, over which the rates fall to 0.", least=0, most=1, decides=False
    )
    content_weight: float = setting(1.0, "Weight of the content loss.", least=0, decides=False)
    style_weight: float = setting(2.0, "Weight of the style loss.", least=0, decides=False)
    style_weights: tuple[float, ...] | None = setting(
        None, "Of the styles' losses among each other, one for each.", least=0, told="1 for each", decides=False
    )
    shift_weight: float = setting(
        30.0, "Weight of the change when the content moves by whole pixels.", least=0, decides=False
    )
    length: int = setting(
        1,
        "Frames of a clip; with more than one the network is recurrent, and trained on clips of photographs.",
        least=1,
    )
    temporal_weight: float = setting(
        50.0, "Weight of what a recurrent network changes along the motion of a clip.", least=0, decides=False
    )
    photograph_weight: float = setting(
        100.0, "Weight of what the row that draws a photograph as it is changes of it.", least=0, decides=False
    )
    only_rows: bool = setting(
        False,
        "Train nothing but each style's own scales and shifts, to add styles to a network.",
        decides=True,
    )
    averaging: float = setting(0.999, "Part of the averaged weights that a step keeps.", least=0, most=1, decides=False)
    seed: int = setting(0, "Seed of everything random.", least=0, most=2**32 - 1, decides=False)
    precision: Precision = setting(
        "auto", "Arithmetic of the networks; auto takes what is fast on the device.", decides=False
    )
    validate_every: int = setting(5000, "Steps from one validation to the next.", least=1, decides=False)
    save_seconds: float = setting(120.0, "Seconds from one saving of the state to the next.", decides=False)

    def crop(self, pictures: int) -> int:
        """Side of the crops after so many pictures."""
        return self.crops[min(len(self.crops) - 1, len(self.crops) * pictures // self.pictures)]

    def rate(self, pictures: int, step: int) -> float:
        """What both learning rates are multiplied by after so many pictures, in so many steps."""
        left = 1 - pictures / self.pictures
        return min(1.0, (step + 1) / 50) * (min(1.0, left / self.cooldown) if self.cooldown else 1.0)


ADDED_STYLE = NetworkSettings(
    pictures=320, batch=1, crops=(128,), strokes=(700,), adam_rate=0.01, shift_weight=0.0, only_rows=True
)
"""What adds a painting to a network in minutes: as many steps as there are pictures, all of one row."""


def _scaled(stage: Stage, effort: float) -> Stage:
    return replace(stage, steps=max(1, round(stage.steps * effort)))
