"""Shows a clip beside what the independent and the recurrent network make of it, and measures how steady they are.

python examples/compare_methods.py clip.mp4 compared.mp4 --style the_great_wave --size 432 --differences
"""

import argparse
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from nststab.flow.estimators import dis
from nststab.flow.pairs import FlowPair
from nststab.losses import LossSettings, PerceptualLoss
from nststab.measure.intervals import mean_of_known
from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings, in_step, perceptual_losses
from nststab.metrics import unexplained_change
from nststab.networks.checkpoints import FeedForward, load_checkpoint, load_perceptual, load_target
from nststab.report.colors import series_of
from nststab.report.layout import ComparisonLayout
from nststab.shots import by_shot
from nststab.storage.tables import Table
from nststab.styles.shipped import NETWORKS, find_style, perceptual_weights
from nststab.video.clip import Clip, convert_clip, open_clip


def compare_methods(source: Clip, output: str, style: str, differences: bool = False) -> Table:
    """Writes `source` and what both methods make of it to `output`, over a curve of their SSIM; gives their figures."""
    shipped = find_style(style)
    stylizers = {name: FeedForward(load_checkpoint(shipped.checkpoint(name)).network) for name in NETWORKS}
    names = [CONTENT, *stylizers]
    # Stability is half the truth: a blurred clip is steady too, and its losses tell.
    loss = PerceptualLoss(load_perceptual(perceptual_weights()), load_target(shipped.target)[0], LossSettings())
    meter = StabilityMeter(StabilitySettings(patches=10), perceptual_losses(loss))
    layout = ComparisonLayout(names, series_of(names), source.frame_count, differences)

    def panels(shot: Iterable[Tensor]) -> Iterator[Tensor]:
        meter.start_shot()
        layout.start_shot()
        before: list[Tensor] = []
        for content, made in in_step(shot, stylizers):
            meter.update(content, made)
            frames, pair = [content, *made.values()], meter.pair
            ssims = [math.nan] * len(frames) if pair is None else [mean_of_known(values) for values in pair.ssims]
            yield layout.render(frames, ssims, changes(before, frames) if before and differences else None)
            before = frames

    convert_clip(source, output, lambda frames: by_shot(panels, frames))
    columns = ("", "PSNR dB", "SSIM", "flicker", "style loss", "content loss")
    figures = {
        name: (row.psnr, row.ssim, row.flicker, row.style_loss, row.content_loss)
        for name, row in meter.result().items()
    }
    return Table("", columns, [[name, *(f"{value:.3f}" for value in row)] for name, row in figures.items()])


def changes(before: list[Tensor], frames: list[Tensor]) -> list[Tensor]:
    """What changes in each clip, of which the first is the input, and its motion does not explain."""
    flow = FlowPair.of(dis(before[0], frames[0]), dis(frames[0], before[0]))
    return [unexplained_change(old, new, flow.backward, flow.trusted) for old, new in zip(before, frames, strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("output", help="a file (.mp4, .gif, ...), or a folder of pictures if it ends in /")
    parser.add_argument("--style", default="the_great_wave")
    parser.add_argument("--size", type=int, help="longest side of a panel; by default the clip's own")
    parser.add_argument("--fps", type=float, help="frames per second; by default the clip's own")
    parser.add_argument("--start", type=float, help="seconds to leave out at the beginning")
    parser.add_argument("--duration", type=float, help="seconds to compare; by default all")
    parser.add_argument("--differences", action="store_true", help="show below each panel where it flickers")
    chosen = parser.parse_args()
    source = open_clip(chosen.clip, chosen.size, start=chosen.start, duration=chosen.duration, fps=chosen.fps)
    print(compare_methods(source, chosen.output, chosen.style, chosen.differences).markdown())
