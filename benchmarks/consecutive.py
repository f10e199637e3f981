"""A sheet of consecutive frames: a row for each folder of frames, and the change from frame to frame beneath it.

python benchmarks/consecutive.py input/ independent/ recurrent/ --first 40 --crop 160 60 200 140 -o consecutive.jpg
"""

import argparse
import itertools
from pathlib import Path

from torch import Tensor

from nststab.report.sheet import contact_sheet
from nststab.video.clip import open_clip
from nststab.video.images import write_picture

AMPLIFIED = 4


def main() -> None:
    """Reads the same frames of every folder; changes are amplified and shown on black."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--first", type=int, default=0, help="number of the first frame, from 0")
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--crop", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"))
    parser.add_argument("--size", type=int, help="longest side of the frames")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[list[Tensor]] = []
    labels: list[str] = []
    for path in arguments.clips:
        frames = [
            cropped(frame.rgb, arguments.crop)
            for frame in itertools.islice(
                open_clip(path, arguments.size).frames(), arguments.first, arguments.first + arguments.count
            )
        ]
        changes = [((b - a).abs() * AMPLIFIED).clamp(0, 1) for a, b in itertools.pairwise(frames)]
        rows.append([*frames, *changes])
        labels.append(f"{path.stem}: {len(frames)} consecutive frames, and their change x{AMPLIFIED}")
    write_picture(arguments.output, contact_sheet(rows, labels))


def cropped(frame: Tensor, crop: list[int] | None) -> Tensor:
    """The part of a frame (1, 3, H, W) that `crop`, x, y, width and height, names."""
    if crop is None:
        return frame
    x, y, width, height = crop
    return frame[..., y : y + height, x : x + width]


if __name__ == "__main__":
    main()
