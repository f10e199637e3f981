"""Whether `deflicker` lasts: memory and mean colour over a long film, and frames a second at 480p and 1080p.

python benchmarks/deflicker_long.py --davis DAVIS [--sequence camel] [--frames 3000] [--width 160]

The film is a sequence of DAVIS there and back, again and again, in light that flickers at random (seed 0) and with new
noise in each frame, so that there is always something to take out. Drift: the largest slope of the mean colour of the
result less that of the flickering film, a line through all frames. The frames of 480p and 1080p are the same, scaled; a
processor's seconds tell of the work where others are at it too.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.folders import davis_sequences
from nststab.frames import Frame
from nststab.memory import reset_peak, resident
from nststab.methods.deflicker import Deflicker
from nststab.metrics import drift_slopes

FIRST = 200  # frames after which everything that is kept has been filled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, required=True)
    parser.add_argument("--sequence", default="camel")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--width", type=int, default=160)
    options = parser.parse_args()
    sequence = davis_sequences(options.davis, [options.sequence], 854)[0]
    scene = [sequence.frame(t) for t in range(40)]
    print(long(scene, options.frames, options.width))
    for height, width in ((480, 854), (1080, 1920)):
        print(speed(scene, height, width))


def film(scene: list[Tensor], count: int, height: int, width: int, means: Tensor) -> Iterator[Frame]:
    """Frames with their original; the mean colours of what flickers are put into `means` (T, 3)."""
    generator = torch.Generator().manual_seed(0)
    small = [F.interpolate(one, (height, width), mode="area") for one in scene]
    there_and_back = itertools.cycle([*small, *small[-2:0:-1]])
    for number, original in enumerate(itertools.islice(there_and_back, count)):
        light = 0.8 + 0.2 * torch.rand(1, 3, 1, 1, generator=generator)
        noise = 0.1 * torch.rand(original.shape, generator=generator)
        rgb = 0.9 * light * original + noise
        means[number] = rgb.mean((0, 2, 3))
        yield Frame(rgb, number, content=original)


def long(scene: list[Tensor], count: int, width: int) -> str:
    means, made = torch.zeros(2, count, 3).unbind()
    memory = {}
    for number, frame in enumerate(Deflicker()(film(scene, count, width * 9 // 16, width, means)), start=1):
        made[number - 1] = frame.rgb.mean((0, 2, 3))
        if number in (FIRST, count):
            memory[number] = resident().now / 2**20
    drift = drift_slopes((made - means).double()).largest
    told = ", ".join(f"{size:.0f} MB after {number} frames" for number, size in memory.items())
    return (
        f"{count} frames of {width}x{width * 9 // 16}: {told}; drift {1000 * drift:+.3f} levels of 255 in 1000 frames"
    )


def speed(scene: list[Tensor], height: int, width: int) -> str:
    frames = list(film(scene, 12, height, width, torch.zeros(12, 3)))
    reset_peak()
    begun, worked = time.perf_counter(), time.process_time()
    count = sum(1 for _ in Deflicker()(frames))
    seconds, work = time.perf_counter() - begun, time.process_time() - worked
    told = f"{count / seconds:.2f} frames a second, {work / count:.2f} s of a processor a frame"
    return f"{width}x{height}: {told}, {resident().peak / 2**20:.0f} MB"


if __name__ == "__main__":
    main()
