"""Measures how steady a clip is that any program made of another, whose frames and flow are the reference.

python examples/score_clip.py original.mp4 stylized.mp4 [another.mp4 ...] --style the_great_wave
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from nststab.assets import find_style, perceptual_weights
from nststab.evaluate.pairing import Pairing
from nststab.evaluate.results import Table
from nststab.evaluate.score import ScoreMeter, ScoreSettings, score, table
from nststab.evaluate.stability import perceptual_losses
from nststab.flow import dis
from nststab.losses import LossSettings, PerceptualLoss
from nststab.shots import split_shots
from nststab.stylizer import load_perceptual, load_target
from nststab.video import open_clip


def score_clips(original: Path, stylized: Sequence[Path], style: str) -> Table:
    """The figures of the original itself, then those of the clips, the steadiest first."""
    pairing = Pairing(open_clip(original), [open_clip(path) for path in stylized])  # checks that they belong together
    target, _ = load_target(find_style(style).target)
    losses = PerceptualLoss(load_perceptual(perceptual_weights()), target, LossSettings())
    meter = ScoreMeter(len(stylized), ScoreSettings(patches=10), perceptual_losses(losses))
    for done in score(split_shots(pairing.original_frames()), pairing.counterparts, meter, dis):
        print(f"{done} frames", end="\r")
    pairing.finish()
    own, *scores = meter.result()
    return table(own, list(zip([path.name for path in stylized], scores, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("stylized", type=Path, nargs="+")
    parser.add_argument("--style", default="the_great_wave", help="the shipped style that they were given")
    print(score_clips(**vars(parser.parse_args())).markdown())
