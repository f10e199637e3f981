"""The perceptual network that settings ask for, and the layers that go with it."""

import logging
from pathlib import Path
from typing import Any

import torch

from nststab.errors import NststabError, SettingError
from nststab.networks.checkpoints import read_tensors, require_finite
from nststab.networks.pretrained import pretrained
from nststab.networks.settings import PerceptualSettings
from nststab.storage.jobs import content_hash
from nststab.styles.shipped import perceptual_weights
from nststab.vgg import Padding, PerceptualNetwork, Pooling, normalization

log = logging.getLogger(__name__)


def load_perceptual(path: Path, pooling: Pooling = "max", padding: Padding = "zeros") -> PerceptualNetwork:
    """Reads the weights of a VGG, with the normalisation that goes with them.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it holds no weights, those of another network, or
            some that are not finite.
    """
    tensors, metadata = read_tensors(path)
    try:
        network = PerceptualNetwork(tensors, normalization(tensors, metadata), pooling, padding)
    except ValueError as error:
        raise NststabError(f"{path}: {error}") from error
    require_finite(dict(network.weights), f"{path} is of no use")  # a classifier, which is not read, may hold NaN
    return network


def perceptual_network(
    device: torch.device, settings: PerceptualSettings | None = None, padding: Padding = "zeros"
) -> PerceptualNetwork:
    """The network that `settings` name, by default the bundled VGG-16; SettingError where they name two."""
    settings = settings or PerceptualSettings()
    if settings.network and settings.vgg_weights:
        raise SettingError("network and vgg_weights exclude each other")
    if settings.network:
        state = pretrained(settings.network, log.info)
        return PerceptualNetwork(state, normalization(state, {}), settings.pooling, padding).to(device)
    return load_perceptual(settings.vgg_weights or perceptual_weights(), settings.pooling, padding).to(device)


def perceptual_name(settings: PerceptualSettings) -> str:
    """What results call the network that `settings` name: a file by its name and content."""
    path = settings.vgg_weights
    return f"{path.name} ({content_hash(path)})" if path else settings.network or "the bundled VGG-16"


def layers_of(network: PerceptualNetwork) -> dict[str, Any]:
    """The layers of the losses that go with a network: Gatys et al.'s for VGG-19, Johnson et al.'s for VGG-16."""
    if "relu3_4" not in network.layers:
        return {}
    return {"content_layers": ("relu4_2",), "style_layers": tuple(f"relu{block}_1" for block in range(1, 6))}
