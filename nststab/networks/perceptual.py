"""The perceptual network that the command line asks for, and the layers that go with it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nststab.errors import NststabError, SettingError
from nststab.networks.checkpoints import read_tensors
from nststab.networks.pretrained import pretrained
from nststab.storage.jobs import content_hash
from nststab.styles.shipped import perceptual_weights
from nststab.vgg import PerceptualNetwork, Pooling, normalization

log = logging.getLogger(__name__)


def load_perceptual(path: Path, pooling: Pooling = "max") -> PerceptualNetwork:
    """Reads the weights of a VGG, such as `assets.perceptual_weights()`, with the normalisation that goes with them.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it holds no weights, or those of another network.
    """
    tensors, metadata = read_tensors(path)
    try:
        return PerceptualNetwork(tensors, normalization(tensors, metadata), pooling)
    except ValueError as error:
        raise NststabError(f"{path}: {error}") from error


def perceptual_network(
    weights: Path | None, device: torch.device, name: str | None = None, pooling: Pooling = "max"
) -> PerceptualNetwork:
    """The bundled VGG-16, the user's weights, or torchvision's network of that `name`."""
    if name and weights:
        raise SettingError("--network and --vgg-weights exclude each other")
    if name:
        state = pretrained(name, log.info)
        return PerceptualNetwork(state, normalization(state, {}), pooling).to(device)
    return load_perceptual(weights or perceptual_weights(), pooling).to(device)


def perceptual_name(options: Mapping[str, Any]) -> str:
    """What results call the network that --network and --vgg-weights name: a file by its name and content."""
    path: Path | None = options["vgg_weights"]
    return f"{path.name} ({content_hash(path)})" if path else options["network"] or "the bundled VGG-16"


def layers_of(network: PerceptualNetwork) -> dict[str, Any]:
    """The layers of the losses that go with a network: Gatys et al.'s for VGG-19, Johnson et al.'s for VGG-16."""
    if "relu3_4" not in network.layers:
        return {}
    return {"content_layers": ("relu4_2",), "style_layers": tuple(f"relu{block}_1" for block in range(1, 6))}
