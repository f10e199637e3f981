"""Stylizes a clip from Python: python examples/stylize_clip.py CLIP OUT [STYLE]."""

import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from nststab.assets import find_style
from nststab.shots import by_shot
from nststab.stylizer import FeedForward, load_checkpoint
from nststab.video import convert_clip, open_clip


def main(clip: Path, output: str, style: str = "the_great_wave") -> None:
    """Stylizes `clip` with the style's recurrent network, starting afresh at every cut."""
    stylizer = FeedForward(load_checkpoint(find_style(style).checkpoint("recurrent")).network)

    def stylize(frames: Iterator[Tensor]) -> Iterator[Tensor]:
        return by_shot(stylizer, frames)

    result = convert_clip(open_clip(clip), output, stylize)
    print(f"{output}: {result.frames} frames")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
