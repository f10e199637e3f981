"""Trains the network of many styles for some minutes, on a machine that has nothing but this checkout: a lent GPU.

python benchmarks/campaign.py pack --photos PHOTOS -o campaign.zip mosaic.jpg the_scream.jpg ...
python benchmarks/campaign.py train campaign.zip -o FOLDER --minutes 7.5 --set batch=64 --set learning_rate=0.02

`pack` puts photographs and paintings into one file, smaller where they would not fit into --megabytes. `train` begins
with the shipped network, or with --start-from, and finds out how many pictures the minutes allow, so that the rates
fall to zero in time. FOLDER gets network.safetensors, its curve, and every minute the state, which another run goes on
from. On a GPU it computes in bfloat16, channels last, and all processors but one make the batches.
"""

import argparse
import logging
import tempfile
import time
import zipfile
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from statistics import median

import torch
from PIL import Image, ImageOps

from nststab.listener import silent
from nststab.storage.jobs import unfinished
from nststab.tasks.train_network import train_network
from nststab.train.loop import STATE, TrainingStopped, read_state
from nststab.train.settings import NetworkSettings
from nststab.video.picture_files import is_picture

PROBED = 12  # steps that the time of one is measured by, after as many that are slower
AFTERWARDS = 15.0  # seconds for the validation and the files
SAVED = 60.0  # seconds from one saving of the state to the next
QUALITIES = (92, 85, 75, 60, 45)  # of the JPEGs, of which the first that fits is taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("paintings", type=Path, nargs="+")
    packing.add_argument("--photos", type=Path, required=True)
    packing.add_argument("-o", "--output", type=Path, required=True)
    packing.add_argument("--megabytes", type=float, default=45)
    training = commands.add_parser("train")
    training.add_argument("packed", type=Path)
    training.add_argument("-o", "--output", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=7.5)
    training.add_argument("--start-from", default="light")
    training.add_argument("--device", default="auto")
    training.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of `train network`")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.command == "pack":
        pack(options.photos, options.paintings, options.output, options.megabytes)
    else:
        train(options)


def pack(photos: Path, paintings: Sequence[Path], output: Path, megabytes: float) -> None:
    """Writes the file: photographs as they train at most, and paintings at the largest stroke size."""
    largest = max(NetworkSettings().strokes)
    found = sorted(path for path in photos.rglob("*") if is_picture(path))
    for quality in QUALITIES:
        with zipfile.ZipFile(output, "w") as packed:
            for number, path in enumerate(found):
                packed.writestr(f"photos/{number:05d}.jpg", jpeg(path, 2 * largest, quality))
            for path in paintings:
                packed.writestr(f"paintings/{path.stem}.jpg", jpeg(path, largest, 95))
        if output.stat().st_size <= megabytes * 1e6:
            print(f"{output}: {len(found)} photographs of quality {quality}, {len(paintings)} paintings")
            return
    raise SystemExit(f"{output} is larger than {megabytes} MB: pack fewer photographs")


def jpeg(path: Path, longest: int, quality: int) -> bytes:
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        upright.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        file = BytesIO()
        upright.save(file, "JPEG", quality=quality)
        return file.getvalue()


def affordable(settings: NetworkSettings, done: int, step: float, seconds: float) -> int:
    """How many pictures in all are seen in so many seconds more, where a step took `step` after `done` of them.

    A step takes the longer the more pixels its crops have, and crops grow with the part of all pictures that was seen.
    """
    pixel = step / settings.crop(done) ** 2

    def left(steps: int) -> float:
        planned = replace(settings, pictures=done + settings.batch * steps)
        return pixel * sum(planned.crop(seen) ** 2 for seen in range(done, planned.pictures, settings.batch))

    most = max(0, settings.pictures - done) // settings.batch
    return done + settings.batch * max(0, bisect_right(range(most + 1), seconds, key=left) - 1)


def train(options: argparse.Namespace) -> None:
    deadline = time.monotonic() + 60 * options.minutes - AFTERWARDS
    options.output.mkdir(parents=True, exist_ok=True)
    output = options.output / "network.safetensors"
    settings = NetworkSettings(save_seconds=SAVED)
    for name, _, text in (one.partition("=") for one in options.set):
        settings = settings.with_text(name, text)
    if options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available()):
        torch.set_num_threads(1)  # each of the readers
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(options.packed) as packed:
        packed.extractall(folder)

        def run(settings: NetworkSettings, stop: Callable[[], bool]) -> bool:
            """Whether it got to its end."""
            try:
                train_network(
                    sorted(Path(folder, "paintings").iterdir()),
                    photos=Path(folder, "photos"),
                    output=output,
                    start_from=options.start_from,
                    settings=settings,
                    device=options.device,
                    progress=silent,
                    stop=stop,
                )
            except TrainingStopped:
                return False
            return True

        times: list[float] = []

        def probed() -> bool:
            times.append(time.monotonic())
            return len(times) == 2 * PROBED

        if run(settings, probed):
            return
        probe = median(late - early for early, late in zip(times[PROBED:], times[PROBED + 1 :], strict=False))
        state = read_state(unfinished(output) / STATE)
        assert state is not None
        done = int(state["pictures"])
        settings = replace(settings, pictures=affordable(settings, done, probe, deadline - time.monotonic()))
        print(f"{settings.batch / probe:.1f} pictures a second: {settings.pictures} in {options.minutes} minutes")
        if not run(settings, lambda: time.monotonic() > deadline):
            run(replace(settings, pictures=1), lambda: False)  # what was done is the end


if __name__ == "__main__":
    main()
