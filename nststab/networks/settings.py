"""Which perceptual network looks at the pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nststab.settings import Pooling, Settings, setting


@dataclass(frozen=True)
class PerceptualSettings(Settings):
    """A VGG by torchvision's name, by a file of weights, or by default the bundled VGG-16."""

    network: Literal["vgg16", "vgg19"] | None = setting(
        None,
        "Perceptual network that torchvision downloads once: vgg19 as Gatys, or vgg16, deeper than the bundled one.",
        told="the bundled VGG-16",
    )
    vgg_weights: Path | None = setting(
        None,
        "VGG-16 or VGG-19 weights, .safetensors or torchvision's .pth.",
        told="the bundled VGG-16",
        metavar="FILE",
    )
    pooling: Pooling = setting("max", "Pooling of the perceptual network.")
