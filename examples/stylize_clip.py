"""Stylizes a clip: python examples/stylize_clip.py CLIP OUT [STYLE]

CLIP is a video, a folder of pictures or a pattern of them; OUT ends in .mp4, .mkv, .webm, .gif, or / for a folder.
"""

import sys
from functools import partial
from pathlib import Path

from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint
from nststab.shots import by_shot
from nststab.styles.shipped import find_style
from nststab.video.clip import convert_clip, open_clip


def main(clip: Path, output: str, style: str = "the_great_wave") -> None:
    """Stylizes `clip` with the style's recurrent network, starting afresh at every cut."""
    stylizer = FeedForward(load_checkpoint(find_style(style).checkpoint("recurrent")).network)
    result = convert_clip(open_clip(clip), output, partial(by_shot, stylizer))
    print(f"{output}: {result.frames} frames", *result.notes, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
