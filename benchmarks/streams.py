"""Frames a second and memory of several streams at once in one process, a painter and a thread for each."""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from nststab.startup import tune_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style", nargs="?", default="light/candy")
    parser.add_argument("--method", choices=("recurrent", "independent"), default="independent")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino", "onnx"), default="auto")
    parser.add_argument("--sizes", default="256,512", help="sides of square frames")
    parser.add_argument("--streams", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    sizes, streams = given.sizes.split(","), given.streams.split(",")
    if len(sizes) == len(streams) == 1:
        measure(given.style, given, int(sizes[0]), int(streams[0]))
        return
    print("side streams frames/s each memory: MiB before, after, a stream", flush=True)
    for size in sizes:
        for count in streams:  # a process each: memory that an earlier one used would be counted
            one = ["--sizes", size, "--streams", count, "--seconds", str(given.seconds)]
            how = ["--method", given.method, "--engine", given.engine]
            subprocess.run([sys.executable, __file__, given.style, *how, *one], check=True)


def measure(style: str, given: Any, size: int, streams: int) -> None:
    """Prints a row: all frames a second, those of a stream, and the memory that painters and their work took."""
    tune_process()
    import numpy as np

    from nststab.memory import resident
    from nststab.methods.painter import Painter

    painters = [Painter(style, given.method, engine=given.engine, work_size="full") for _ in range(1)]
    before = resident().now  # with the libraries, and one painter that has not painted
    painters += [Painter(style, given.method, engine=given.engine, work_size="full") for _ in range(streams - 1)]
    frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    begin, done = threading.Barrier(streams + 1), [0] * streams

    def paint(number: int) -> None:
        painters[number](frame)  # compiles
        begin.wait()
        end = time.monotonic() + given.seconds
        while time.monotonic() < end:
            painters[number](frame)
            done[number] += 1

    threads = [threading.Thread(target=paint, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    begin.wait()
    started = time.monotonic()
    for thread in threads:
        thread.join()
    speed, after = sum(done) / (time.monotonic() - started), resident().peak
    mib = [f"{count / 2**20:.0f}" for count in (before, after, (after - before) / streams)]
    print(size, streams, f"{speed:.2f}", f"{speed / streams:.2f}", *mib, flush=True)


if __name__ == "__main__":
    main()
