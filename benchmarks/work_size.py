"""What enlarging a painted clip is worth: its frames small, by bicubic interpolation, and as they are made here.

python benchmarks/work_size.py clip.mp4 OUT --style the_great_wave --work-size 427
nststab score OUT/input OUT/small OUT/bicubic OUT/enlarged
"""

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch

from nststab.frames import Frame
from nststab.methods.build import build, machine
from nststab.methods.enlarge import Enlarged
from nststab.styles.source import chosen_style
from nststab.tasks.preview import labelled
from nststab.video.clip import open_clip
from nststab.video.images import scaled, write_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--style", default="the_great_wave")
    parser.add_argument("--work-size", type=int, default=640)
    parser.add_argument("--size", type=int)
    parser.add_argument("--start", type=float)
    parser.add_argument("--frames", type=int, default=10)
    given = parser.parse_args()
    clip = open_clip(given.clip, given.size, start=given.start)
    painter = build(
        "recurrent", chosen_style(given.style), longest_side=given.work_size, machine=machine("auto", "auto")
    )
    small: list[torch.Tensor] = []

    def painted(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in painter(frames):
            small.append(frame.rgb)
            yield frame

    frames = list(islice(clip.frames(), given.frames))
    for frame, made in zip(frames, Enlarged(painted, given.work_size)(frames), strict=True):
        shown = {"input": frame.rgb, "bicubic": scaled(small[-1], clip.height, clip.width), "enlarged": made.rgb}
        for name, picture in {**shown, "small": small[-1]}.items():
            (given.output / name).mkdir(parents=True, exist_ok=True)
            write_picture(given.output / name / f"{frame.number:04d}.png", picture)
    top, left = clip.height // 4, clip.width // 3
    parts = [picture[..., top : 3 * top, left : 2 * left] for picture in shown.values()]
    write_picture(given.output / "sheet.jpg", labelled(parts, list(shown)))


if __name__ == "__main__":
    main()
