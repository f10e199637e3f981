"""Frames a second and memory of several streams at once: separate painters in threads, and one batch of all."""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import product
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
    parser.add_argument("--how", default="separate,batch", help="painters in threads, or one batch")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    sizes, streams, hows = given.sizes.split(","), given.streams.split(","), given.how.split(",")
    if len(sizes) == len(streams) == len(hows) == 1:
        measure(given, int(sizes[0]), int(streams[0]))
        return
    print("side streams how frames/s each, CPU ms a frame, memory: MiB before, after, a stream", flush=True)
    for size, count, how in product(sizes, streams, hows):
        if (count, how) != ("1", "batch"):  # one stream is one painter
            one = ["--sizes", size, "--streams", count, "--how", how, "--seconds", str(given.seconds)]
            same = [given.style, "--method", given.method, "--engine", given.engine]
            # a process each: memory that an earlier one used would be counted
            subprocess.run([sys.executable, __file__, *same, *one], check=True)


def measure(given: Any, size: int, streams: int) -> None:
    """Prints a row: all frames a second, those of a stream, and the memory that painters and their work took."""
    tune_process()
    import numpy as np

    from nststab.memory import resident
    from nststab.methods.painter import Painter, paint_batch

    def painter() -> Painter:
        return Painter(given.style, given.method, engine=given.engine, work_size="full")

    first = painter()
    before = resident().now  # with the libraries, and one painter that has not painted
    frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    calls: list[Callable[[], Any]]
    if given.how == "batch":
        together = [first, *(first.another() for _ in range(streams - 1))]
        calls = [lambda: paint_batch(together, [frame] * streams)]
    else:
        calls = [partial(one, frame) for one in (first, *(painter() for _ in range(streams - 1)))]
    begin, done = threading.Barrier(len(calls) + 1), [0] * len(calls)

    def paint(number: int) -> None:
        calls[number]()  # compiles
        begin.wait()
        end = time.monotonic() + given.seconds
        while time.monotonic() < end:
            calls[number]()
            done[number] += streams // len(calls)

    threads = [threading.Thread(target=paint, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    begin.wait()
    started, used = time.monotonic(), time.process_time()
    for thread in threads:
        thread.join()
    speed, after = sum(done) / (time.monotonic() - started), resident().peak
    cost = 1000 * (time.process_time() - used) / sum(done)
    mib = [f"{count / 2**20:.0f}" for count in (before, after, (after - before) / streams)]
    print(size, streams, given.how, f"{speed:.2f}", f"{speed / streams:.2f}", f"{cost:.0f}", *mib, flush=True)


if __name__ == "__main__":
    main()
