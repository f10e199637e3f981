"""Measures how steady a clip is that any program made of another, whose frames and flow are the reference.

python examples/score_clip.py original.mp4 stylized.mp4 [another.mp4 ...] --style painting.jpg
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nststab.flow.estimators import dis
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.measure.pairing import Pairing
from nststab.measure.score import ContentLoss, ScoreMeter, score, table
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import Loss, perceptual_losses
from nststab.networks.checkpoints import load_perceptual
from nststab.shots import split_shots
from nststab.storage.tables import Table
from nststab.styles.shipped import perceptual_weights
from nststab.video.clip import open_clip
from nststab.video.images import read_picture, resize


def score_clips(original: Path, stylized: Sequence[Path], style: Path | None) -> Table:
    """The figures of the original itself, then those of the clips, the steadiest first."""
    pairing = Pairing(open_clip(original), [open_clip(path) for path in stylized])  # checks that they belong together
    vgg, settings = load_perceptual(perceptual_weights()), LossSettings()
    loss: Loss = ContentLoss(vgg, settings.content_layers)
    if style is not None:  # a clip may be steady because it has little style
        painting = resize(read_picture(style).rgb, max(pairing.width, pairing.height))
        loss = PerceptualLoss(vgg, style_target(vgg, painting, settings.style_layers), settings)
    meter = ScoreMeter(len(stylized), ScoreSettings(patches=10), perceptual_losses(loss))
    for done in score(split_shots(pairing.original_frames()), pairing.counterparts, meter, dis):
        print(f"{done} frames", end="\r", file=sys.stderr, flush=True)
    pairing.finish()
    own, *scores = meter.result()
    return table(own, list(zip([path.name for path in stylized], scores, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original", type=Path)
    parser.add_argument("stylized", type=Path, nargs="+")
    parser.add_argument("--style", type=Path, help="the picture whose style they were given")
    print(score_clips(**vars(parser.parse_args())).markdown())
