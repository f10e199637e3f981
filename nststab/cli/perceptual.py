"""The perceptual network that the command line asks for, and the layers that go with it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

from nststab.assets import perceptual_weights
from nststab.cli.common import say
from nststab.cli.pretrained import pretrained
from nststab.jobs import content_hash
from nststab.stylizer import read_tensors
from nststab.vgg import PerceptualNetwork, Pooling, normalization


def perceptual_network(
    weights: Path | None, device: torch.device, name: str | None = None, pooling: Pooling = "max"
) -> PerceptualNetwork:
    """The bundled VGG-16, the user's weights, or torchvision's network of that `name`."""
    if name and weights:
        raise click.UsageError("--network and --vgg-weights exclude each other")
    if name:
        state = pretrained(name, say)
        return PerceptualNetwork(state, normalization(state, {}), pooling).to(device)
    path = weights or perceptual_weights()
    tensors, metadata = read_tensors(path)
    try:
        return PerceptualNetwork(tensors, normalization(tensors, metadata), pooling).to(device)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def perceptual_name(options: Mapping[str, Any]) -> str:
    """What results call the network that --network and --vgg-weights name: a file by its name and content."""
    path: Path | None = options["vgg_weights"]
    return f"{path.name} ({content_hash(path)})" if path else options["network"] or "the bundled VGG-16"


def fingerprint(network: PerceptualNetwork) -> str:
    """Tells perceptual networks apart by their first layer, in 16 bits as the bundled one has it, and their pooling.

    VGG-16 and VGG-19 have the same shapes at the style layers, and Gram matrices of one are nonsense to the other.
    """
    weight = network.weights[f"{network.layers[0]}_weight"].detach().cpu().half().contiguous()
    digest = hashlib.blake2b(weight.numpy().tobytes(), digest_size=8).hexdigest()
    return digest if network.pooling == "max" else f"{digest}-{network.pooling}"


def layers_of(network: PerceptualNetwork) -> dict[str, tuple[str, ...]]:
    """The layers of the losses that go with a network: Gatys et al.'s for VGG-19, Johnson et al.'s for VGG-16."""
    if "relu3_4" not in network.layers:
        return {}
    return {"content_layers": ("relu4_2",), "style_layers": tuple(f"relu{block}_1" for block in range(1, 6))}
