"""What a training adds to the memory of its process.

What can be counted is counted, the rest are constants which `benchmarks/plan.py` holds against measured peaks
(docs/plan.md): on a CPU the libraries' convolutions keep copies in layouts of their own, and allocators keep what was
freed. Bytes a pixel are of a frame (of a crop, in training), unless said otherwise.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nststab.engines.torch_engine import autocast
from nststab.losses import LossSettings, PerceptualLoss
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision
from nststab.tasks.plan import Footprint, saved_for_backward
from nststab.vgg import PerceptualNetwork

_PICTURE = 12  # bytes a pixel of a float32 RGB picture
_TRAINING, _TRAINING_DATA = 290e6, 60e6
_BOTH_TYPES = 1.15  # in training, 16-bit gradients meet float32 ones of the same layer
_TEMPORAL = 300  # a pixel of each frame of a clip that is trained on
_STYLE = 150e6
_STYLE_PICTURE = 1300  # a pixel of the style picture, while its Gram matrices are computed


def of_training(network: TransformationNetwork, loss: PerceptualLoss, precision: Precision, images: int) -> Footprint:
    """A step on `images` crops: those of a batch, times the frames of a clip."""

    def terms(pixels: Tensor) -> Mapping[str, Tensor]:
        with autocast(pixels.device, precision):
            return loss(network(pixels), loss.content_targets(pixels.detach()))

    saved = saved_for_backward(terms, loss.network.mean.device)
    both = 1.0 if precision == "float32" else _BOTH_TYPES
    return Footprint(_TRAINING, saved * both * images)


def of_training_data(images: int, length: int) -> Footprint:
    """Crops that are read ahead, those of the validation, and what the temporal loss of clips needs."""
    if length == 1:
        return Footprint(_TRAINING_DATA, (3 * images + 8) * _PICTURE)
    return Footprint(_TRAINING_DATA, (3 * images + 4 * length) * 2 * _PICTURE + images * _TEMPORAL)


def of_style_picture(pixels: float) -> Footprint:
    """The Gram matrices of a style picture of so many pixels."""
    return Footprint(_STYLE + pixels * _STYLE_PICTURE if pixels else 0)


def unstyled(network: PerceptualNetwork, settings: LossSettings) -> PerceptualLoss:
    """A loss in all but its style, which is not computed yet: enough to count."""
    network.require(settings.style_layers)
    sides = {layer: len(network.weights[f"{layer}_bias"]) for layer in settings.style_layers}
    grams = {layer: torch.zeros(1, side, side, device=network.mean.device) for layer, side in sides.items()}
    return PerceptualLoss(network, grams, settings)
