"""Contact sheets of the shipped styles, docs/styles/NAME.jpg, from the bundled clip.

python benchmarks/style_sheets.py [--styles NAME,...] [--size 288]

Rows: the input, the independent and the recurrent network. Columns: three frames far apart, a frame and the one after
it enlarged, and four times the difference of the two.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nststab.frames import as_frames, pictures_of
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint
from nststab.report.sheet import contact_sheet
from nststab.styles.shipped import demo_clip, find_style, styles
from nststab.video.clip import open_clip
from nststab.video.images import write_picture

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "styles"
APART = (4, 24, 44)
ENLARGED = 2
GAIN = 4.0  # of the difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--styles", default=",".join(style.name for style in styles()))
    parser.add_argument("--size", type=int, default=288)
    options = parser.parse_args()
    frames = [frame.rgb for frame in itertools.islice(open_clip(demo_clip(), options.size).frames(), APART[-1] + 1)]
    for name in options.styles.split(","):
        style = find_style(name)
        rows, labels = [row(frames)], ["input"]
        for method in style.methods:
            stylize = FeedForward(load_checkpoint(style.checkpoint(method)).network, precision="bfloat16")
            rows.append(row(list(pictures_of(stylize(as_frames(frames))))))
            labels.append(method)
        write_picture(FOLDER / f"{name}.jpg", contact_sheet(rows, labels))


def row(frames: Sequence[Tensor]) -> list[Tensor]:
    first, second = frames[APART[1]], frames[APART[1] + 1]
    difference = (second - first).abs() * GAIN
    return [frames[index] for index in APART] + [middle(picture) for picture in (first, second, difference)]


def middle(picture: Tensor) -> Tensor:
    """The middle of a picture in the picture's own size, without smoothing."""
    height, width = picture.shape[-2:]
    top, left = height * (ENLARGED - 1) // (2 * ENLARGED), width * (ENLARGED - 1) // (2 * ENLARGED)
    part = picture[..., top : top + height // ENLARGED, left : left + width // ENLARGED].clamp(0, 1)
    return torch.nn.functional.interpolate(part, picture.shape[-2:], mode="nearest")


if __name__ == "__main__":
    main()
