"""What a trained style is worth, and its card: stability and losses of its networks, and a contact sheet."""

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import nststab
from nststab.datasets.folders import davis_sequences
from nststab.frames import as_frames, pictures_of
from nststab.listener import Listener, reported
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget
from nststab.measure.rows import DAVIS_SIZE, style_rows
from nststab.measure.settings import LOSS_FRAMES
from nststab.measure.stability import CONTENT, StabilitySettings, measure, perceptual_losses, spread
from nststab.methods.build import Machine
from nststab.methods.feed_forward import FeedForward
from nststab.report.sheet import contact_sheet
from nststab.storage.tables import Row
from nststab.styles.shipped import NETWORKS, demo_clip
from nststab.styles.source import StyleSource
from nststab.train.style import StyleTraining, kind
from nststab.train.training import Trained
from nststab.vgg import PerceptualNetwork
from nststab.video.clip import open_clip

log = logging.getLogger(__name__)

_TRACE = "tr(ΦΦᵀ)/(CHW), style image at longest side 512"
_LOSSES = "weighted terms on held-out data at the end of training: photographs and synthetic clips, {sizes}"
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


def footage_of(davis: Path | None) -> tuple[int, int]:
    """How many frames the figures will be of, and their longest side: of DAVIS, or of the bundled clip."""
    if davis is None:
        return _DEMO_FRAMES, _DEMO_SIZE
    return _DAVIS_FRAMES * len(davis_sequences(davis, None, DAVIS_SIZE)), DAVIS_SIZE


@dataclass(frozen=True)
class StyleNetworks:
    """The networks of a trained style with what their pictures are measured by."""

    source: StyleSource
    target: StyleTarget
    perceptual: PerceptualNetwork
    where: Machine
    seed: int

    def stylized(self, method: str, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
        network = self.source.trained(method).network
        return pictures_of(FeedForward(network, self.where.device, self.where.precision)(as_frames(pictures)))

    def figures(self, footage: Iterable[Footage], progress: Listener) -> "StyleFigures | None":
        """Stability and losses of the input, then of each network; None without footage."""
        losses = perceptual_losses(PerceptualLoss(self.perceptual, self.target, LossSettings()), self.where.device)
        settings = StabilitySettings(_PATCHES, seed=self.seed)
        measured, frames, masked, size = {}, 0, False, 0
        with reported(progress, "measuring", None) as advance:
            for clip in footage:
                stylized = {method: self.stylized(method, clip.frames) for method in NETWORKS}
                chosen = spread(len(clip.frames), LOSS_FRAMES)
                rows = measure(clip.frames, stylized, settings, clip.foreground, losses, loss_frames=chosen)
                measured[clip.name] = {name: row.as_row() for name, row in rows.items()}
                frames, masked = frames + len(clip.frames), clip.foreground is not None
                size = max(clip.frames[0].shape[-2:])
                advance(frames, note=clip.name)
        if not measured:
            return None
        means = {row["method"]: row for row in style_rows("", measured, self.seed)}
        names = ", ".join(measured)
        told = _WHAT.format(
            clips=f"{names}, {frames} frames in all, at longest side {size}",
            where="background" if masked else "corresponding",
            patches=_PATCHES,
            losses=LOSS_FRAMES,
        )
        return StyleFigures(means, told)

    def sheet(self, photos: Sequence[Tensor], frames: Sequence[Tensor]) -> Tensor:
        """Photographs above what the independent network makes of them, frames above what the recurrent one makes."""
        photos, frames = photos[:_SHOWN], frames[: _SETTLED + _SHOWN]
        rows = {
            "photographs that were held out": photos,
            "independent": list(self.stylized("independent", photos)),
            "consecutive frames": frames[-_SHOWN:],
            "recurrent": list(self.stylized("recurrent", frames))[-_SHOWN:],
        }
        return contact_sheet(list(rows.values()), list(rows))


@dataclass(frozen=True)
class StyleFigures:
    """Rows of figures by the method's name, the input's first, and a sentence that tells what they are of."""

    rows: Mapping[str, Row]
    what: str

    def card(self) -> dict[str, Any]:
        """As a card has them."""
        return {
            "what": self.what,
            **{CEILING if name == CONTENT else name: _told(row) for name, row in self.rows.items()},
        }


def _told(row: Mapping[str, Any]) -> dict[str, float | int | None]:
    keys = ("psnr", "ssim", "flicker", "style_loss", "content_loss")
    rounded = {key: None if math.isnan(row[key]) else round(row[key], _DIGITS) for key in keys}
    return {"n": row["n"], **rounded}


def style_card(
    training: StyleTraining,
    done: Sequence[Trained],
    picture: Path,
    photos: Path,
    traces: Mapping[str, float],
    figures: StyleFigures | None,
    command: str,
) -> dict[str, Any]:
    """The fields of a shipped style's card; of artist, year, source and rights nothing is known."""
    image, *between, recurrent = (_settings(trained.record) for trained in done)
    losses = [trained.record["validation"] for trained in (done[0], done[-1])]
    sizes = ", ".join(f"{kind(stage)} {stage.width}x{stage.height}" for stage in training.stages)
    return {
        "name": training.folder.style.name,
        "title": title(picture),
        **dict.fromkeys(("artist", "year", "source", "rights")),
        "data": {
            "photos": len(training.training.photos),
            "held_out": len(training.training.held_out),
            "what": f"photographs of the folder {photos.resolve().name}",
            "clips": "synthetic, made from the same photographs",
        },
        "seed": training.stages[0].seed,
        "command": [command],
        "start": {"style": training.start.name, "why": training.start.why},
        "settings": {"independent": image, "between": between, "recurrent": recurrent},
        "seconds": [round(trained.seconds, 2) for trained in done],
        "losses": {
            "what": _LOSSES.format(sizes=sizes),
            **{
                name: {term: round(value, _DIGITS) for term, value in terms.items()}
                for name, terms in zip(NETWORKS, losses, strict=True)
            },
        },
        "gram_trace": {**{layer: round(trace, 1) for layer, trace in traces.items()}, "what": _TRACE},
        "figures": {"command": command, **(figures.card() if figures else {})},
        "version": nststab.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def title(picture: Path) -> str:
    """What a picture's file name says that it is."""
    words = picture.stem.replace("_", " ").replace("-", " ").split()
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def _settings(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("stage", "settings", "loss", "synthetic") if key in record}
