"""Seconds of a training step with the transformation network in either memory format, alternating in one run.

python benchmarks/memory_format.py [--size 192] [--steps 10] [--device cpu]
"""

import argparse
import statistics
import time

import torch

from nststab.engines.torch_engine import autocast
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.networks.checkpoints import read_tensors
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.styles.shipped import perceptual_weights
from nststab.vgg import PerceptualNetwork, normalization

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> None:
    """Prints the median of each format, forward and backward in bfloat16, two pictures a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    tensors, metadata = read_tensors(perceptual_weights())
    vgg = PerceptualNetwork(tensors, normalization(tensors, metadata)).to(arguments.device)
    photos = torch.rand(2, 3, arguments.size, arguments.size, generator=torch.Generator().manual_seed(0))
    photos = photos.to(arguments.device)
    settings = LossSettings()
    loss = PerceptualLoss(vgg, style_target(vgg, photos[:1], settings.style_layers), settings)
    networks = {
        name: TransformationNetwork(NetworkConfig()).to(arguments.device).to(memory_format=memory_format)
        for name, memory_format in FORMATS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for step in range(arguments.steps + 2):
        for name, network in networks.items():
            started = time.perf_counter()
            with autocast(arguments.device, "bfloat16"):
                terms = loss(network(photos), loss.content_targets(photos))
            total = torch.stack(list(terms.values())).sum()
            torch.autograd.backward(total)
            total.item()  # waits for an accelerator
            if step >= 2:
                seconds[name].append(time.perf_counter() - started)
    for name, values in seconds.items():
        print(f"{name:13} {statistics.median(values) * 1e3:.0f} ms a step ({min(values) * 1e3:.0f} at best)")


if __name__ == "__main__":
    main()
