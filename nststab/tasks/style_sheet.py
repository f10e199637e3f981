"""A sheet of one picture, or of one frame of a clip, in every shipped style."""

import logging
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.listener import Listener, reported, silent
from nststab.methods.build import machine
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint
from nststab.report.sheet import contact_sheet
from nststab.shots import split_shots
from nststab.storage.folders import refuse_inputs, refuse_overwriting, require_parent
from nststab.styles.shipped import styles
from nststab.video.clip import open_clip
from nststab.video.formats import PICTURE_SUFFIXES
from nststab.video.images import resize, write_picture

log = logging.getLogger(__name__)

SIZE = 512  # longest side of a picture on it
FRAMES = 12  # of a clip; a recurrent network's first frames are not as steady, or as fine, as its later ones


def draw_sheet(
    source: str | Path,
    output: str | Path,
    *,
    size: int = SIZE,
    device: str = "auto",
    precision: str = "auto",
    restart: bool = False,
    progress: Listener = silent,
) -> Path:
    """Writes the picture `output`: the last of the frames of `source`, and the same in every style, under their names.

    A picture is drawn by the independent networks. Of a clip it is the last of its first 12 frames, or of the first
    shot where that is shorter, drawn by the recurrent ones.

    Args:
        size: longest side of the frames; smaller ones are not enlarged.
        restart: overwrite the output.

    Raises NststabError where the output is wrong or no style has such a network, and OSError.
    """
    source, output = Path(source), Path(output)
    _check_output(source, output, restart)
    where = machine(device, precision)
    frames = _frames(source, size)
    method = "recurrent" if len(frames) > 1 else "independent"
    chosen = {style.name: style.checkpoint(method) for style in styles() if method in style.methods}
    for style in styles():
        if style.name not in chosen:
            log.warning(f"{style.name} is left out, it has no {method} network")
    if not chosen:
        raise NststabError(f"no style with a {method} network is shipped")
    panels = {"input": frames[-1].rgb}
    with reported(progress, f"{method}, styles", len(chosen)) as advance:
        for number, (name, checkpoint) in enumerate(chosen.items()):
            *_, last = FeedForward(load_checkpoint(checkpoint).network, where.device, where.precision)(frames)
            panels[name] = last.rgb
            advance(number + 1)
    write_picture(output, labelled(list(panels.values()), list(panels)))
    log.info(f"{output}: {', '.join(chosen)}")
    return output


def _check_output(source: Path, output: Path, restart: bool) -> None:
    """Raises what speaks against writing there, before anything is computed."""
    if output.suffix.lower() not in PICTURE_SUFFIXES:
        known = ", ".join(sorted(PICTURE_SUFFIXES))
        raise SettingError(f"{output}: expected a picture ({known}) to draw on")
    require_parent(output)
    refuse_overwriting(output, restart, "restart=True")
    refuse_inputs(output, [source])


def _frames(source: Path, size: int) -> list[Frame]:
    """The first frames of the first shot, no larger than `size`."""
    frames = islice(open_clip(source).frames(), FRAMES)
    shots = split_shots(frame.with_rgb(resize(frame.rgb, min(size, max(frame.rgb.shape[-2:])))) for frame in frames)
    return list(next(shots))


def labelled(pictures: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """Pictures in rows and columns, each under its own label: (1, 3, H, W)."""
    panels = [contact_sheet([[picture]], [label]) for picture, label in zip(pictures, labels, strict=True)]
    columns = math.ceil(len(panels) / math.isqrt(len(panels)))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    return contact_sheet(rows, [""] * len(rows))
