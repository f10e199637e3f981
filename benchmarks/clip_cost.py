"""What `nststab stylize` takes of a clip: seconds of the processor and by the clock a further frame, and peak memory.

ffmpeg -ss 2 -i skv_bigbuckbunny.mp4 -frames:v 24 -vf scale=3840:2160:flags=lanczos -crf 18 clip.mp4
python benchmarks/clip_cost.py clip.mp4 --style candy --work-size 640

4 frames and more are stylized by processes of their own, so that what every run takes does not count. This program
imports no large library, because a child's account begins with the size of its parent.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SHORT = 4  # frames
MARGIN = 0.5  # of a frame, so that rounding does not add one


class Run(NamedTuple):
    processor: float
    clock: float
    peak: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--rate", type=float, default=25, help="frames of the clip a second")
    parser.add_argument("--frames", type=int, default=24, help="frames of the longer run")
    given, options = parser.parse_known_args()
    few, many = (stylized(given.clip, (frames - MARGIN) / given.rate, options) for frames in (SHORT, given.frames))
    processor, clock = ((many[place] - few[place]) / (given.frames - SHORT) for place in (0, 1))
    print(
        f"{processor:.3f} s of the processor, {clock:.3f} s by the clock a frame; {many.peak / 1e9:.2f} GB at the peak"
    )


def stylized(clip: str, seconds: float, options: list[str]) -> Run:
    """One run of so many seconds of the clip."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(sys.executable).with_name("nststab")), "stylize", clip]
        command += ["-o", f"{folder}/out.mp4", "--duration", f"{seconds:.3f}", *options]
        started = time.monotonic()
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit("nststab failed")
        return Run(used.ru_utime + used.ru_stime, time.monotonic() - started, used.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
