"""Seconds a frame of the recurrent and the independent network, side by side in one run.

python benchmarks/speed.py [--size 432 240] [--frames 20]
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from nststab.networks import NetworkConfig, TransformationNetwork
from nststab.stylizer import FeedForward, Precision


def main() -> None:
    """Alternates the two networks frame by frame, so that a noisy machine disturbs both alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(432, 240), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    width, height = arguments.size
    noise = torch.rand(arguments.frames + 2, 3, height, width, generator=torch.Generator().manual_seed(0))
    frames = torch.split(noise, 1)
    print(f"{width}x{height}, {torch.get_num_threads()} threads, {arguments.device}, {arguments.frames} frames")
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        seconds = measure(frames, arguments.device, precision)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, values in seconds.items():
            spread = f"{min(values) * 1e3:.0f} to {max(values) * 1e3:.0f}"
            print(f"{precision:9} {name:12} median {medians[name] * 1e3:6.1f} ms a frame ({spread})")
        print(f"{precision:9} recurrent / independent = {medians['recurrent'] / medians['independent']:.3f}")


def measure(frames: tuple[Tensor, ...], device: str, precision: Precision) -> dict[str, list[float]]:
    """Seconds of each frame after two frames of warm-up, by kind of network."""
    streams: dict[str, Iterator[Tensor]] = {}
    for name in ("independent", "recurrent"):
        network = TransformationNetwork(NetworkConfig(recurrent=name == "recurrent"))
        streams[name] = FeedForward(network, device, precision)(frames)
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    for index in range(len(frames)):
        for name, stream in streams.items():
            started = time.perf_counter()
            next(stream)
            if index >= 2:
                seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
