"""What a trained style is worth: stability and losses of its networks beside the input, and a contact sheet."""

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from nststab.cli.common import progress
from nststab.datasets.folders import davis_sequences
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget
from nststab.measure.rows import DAVIS_SIZE, LOSS_FRAMES, style_rows
from nststab.measure.stability import CONTENT, StabilitySettings, measure, perceptual_losses, spread
from nststab.methods.build import Machine
from nststab.networks.checkpoints import FeedForward
from nststab.report.sheet import contact_sheet
from nststab.styles.shipped import NETWORKS, demo_clip
from nststab.styles.source import StyleSource
from nststab.tasks.comparison import print_stability
from nststab.vgg import PerceptualNetwork
from nststab.video.clip import open_clip

log = logging.getLogger(__name__)

CEILING = "content ceiling"  # what cards call the input
_DEMO_FRAMES, _DEMO_SIZE = 24, 256
_DAVIS_FRAMES = 20  # of each sequence
_PATCHES = 10  # of each pair of frames
_SETTLED = 4  # frames after which a recurrent network draws as it does later
_SHOWN = 4  # photographs, and consecutive frames, on the sheet
_DIGITS = 4
_WHAT = (
    "{clips}; {where} patches, {patches} a pair; unweighted losses, scaled by energy, of {losses} frames of each clip "
    "at most; flicker in levels of 255; mean over clips"
)


class Footage(NamedTuple):
    """A clip to measure on: frames (1, 3, H, W), and masks of the foreground where there are any."""

    name: str
    frames: list[Tensor]
    foreground: list[Tensor] | None = None


def demo_footage() -> Iterator[Footage]:
    """The beginning of the bundled clip; none where PyAV is missing, without which no video is read."""
    try:
        clip = open_clip(demo_clip(), _DEMO_SIZE)
    except OSError as error:
        log.warning(f"stability is not measured on the bundled clip: {error}")
        return
    yield Footage("the bundled clip", [frame.rgb for frame in itertools.islice(clip.frames(), _DEMO_FRAMES)])


def davis_footage(davis: Path) -> Iterator[Footage]:
    """The beginnings of all sequences of DAVIS that are there, by the protocol of the paper's Table 1."""
    for sequence in davis_sequences(davis, None, DAVIS_SIZE):
        frames, masks = (itertools.islice(part, _DAVIS_FRAMES) for part in (sequence.frames(), sequence.masks()))
        yield Footage(sequence.name, list(frames), list(masks))


@dataclass(frozen=True)
class StyleNetworks:
    """The networks of a trained style with what their pictures are measured by."""

    source: StyleSource
    target: StyleTarget
    perceptual: PerceptualNetwork
    where: Machine
    seed: int

    def stylizer(self, method: str) -> FeedForward:
        return FeedForward(self.source.trained(method).network, self.where.device, self.where.precision)

    def figures(self, footage: Iterable[Footage]) -> dict[str, Any]:
        """What a card tells, by row: the input's, then each network's; prints the table. Nothing without footage."""
        losses = perceptual_losses(PerceptualLoss(self.perceptual, self.target, LossSettings()), self.where.device)
        settings = StabilitySettings(_PATCHES, seed=self.seed)
        measured, frames, masked, size = {}, 0, False, 0
        with progress("measuring", None) as advance:
            for clip in footage:
                stylized = {method: self.stylizer(method)(clip.frames) for method in NETWORKS}
                chosen = spread(len(clip.frames), LOSS_FRAMES)
                rows = measure(clip.frames, stylized, settings, clip.foreground, losses, loss_frames=chosen)
                measured[clip.name] = {name: row.as_row() for name, row in rows.items()}
                frames, masked = frames + len(clip.frames), clip.foreground is not None
                size = max(clip.frames[0].shape[-2:])
                advance(frames, note=clip.name)
        if not measured:
            return {}
        means = {row["method"]: row for row in style_rows("", measured, self.seed)}
        print_stability(means)
        names = ", ".join(measured)
        told = _WHAT.format(
            clips=f"{names}, {frames} frames in all, at longest side {size}",
            where="background" if masked else "corresponding",
            patches=_PATCHES,
            losses=LOSS_FRAMES,
        )
        return {"what": told, **{CEILING if name == CONTENT else name: _told(row) for name, row in means.items()}}

    def sheet(self, photos: Sequence[Tensor], frames: Sequence[Tensor]) -> Tensor:
        """Photographs above what the independent network makes of them, frames above what the recurrent one makes."""
        photos, frames = photos[:_SHOWN], frames[: _SETTLED + _SHOWN]
        rows = {
            "photographs that were held out": photos,
            "independent": list(self.stylizer("independent")(photos)),
            "consecutive frames": frames[-_SHOWN:],
            "recurrent": list(self.stylizer("recurrent")(frames))[-_SHOWN:],
        }
        return contact_sheet(list(rows.values()), list(rows))


def _told(row: Mapping[str, Any]) -> dict[str, float | int | None]:
    keys = ("psnr", "ssim", "flicker", "style_loss", "content_loss")
    rounded = {key: None if math.isnan(row[key]) else round(row[key], _DIGITS) for key in keys}
    return {"n": row["n"], **rounded}
