"""What a plan tells of the bundled clip, and what it takes: python benchmarks/forecast.py SIZE

Both are seconds of this process on one thread, so what else the machine does hardly counts.
"""

import argparse
import os
import tempfile
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nststab
from nststab.styles.shipped import demo_clip
from nststab.tasks.compare import plan_compare
from nststab.tasks.stylize import plan_stylize


def main() -> None:
    """Prints a line for each kind of output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", type=int, help="longest side in pixels")
    options: dict[str, Any] = {"style": "mosaic", "size": parser.parse_args().size, "device": "cpu", "engine": "torch"}
    options["precision"] = "float32"
    time.monotonic = time.process_time
    with tempfile.TemporaryDirectory() as folder:
        for output in ("out.mp4", "out.gif", "out/", "compared.mp4"):
            compares, path = output.startswith("compared"), f"{folder}/{output}"
            told = (plan_compare if compares else plan_stylize)(demo_clip(), path, **options).total_seconds
            started = time.process_time()
            (nststab.compare if compares else nststab.stylize)(demo_clip(), path, **options)
            print(f"{output}: told {told:.1f} s, took {time.process_time() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
