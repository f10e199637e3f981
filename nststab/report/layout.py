"""Pictures that set frames beside each other: labelled panels for `compare`, contact sheets for training."""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.images import text_mask

PAPER = 0.07  # the background, dark so that it does not outshine the frames
INK = 0.92
SMALLEST_TEXT = 12  # pixels; below that letters run together


def side_by_side(frames: Sequence[Tensor], labels: Sequence[str]) -> Tensor:
    """The same frame of several methods as labelled panels, in their order: (1, 3, H', W'), both even for 4:2:0 video.

    frames: (1, 3, H, W) in [0, 1], all of one size, shown pixel by pixel. Up to three panels stand in one row (up to
    six upright ones), more in two. The result's size follows from the frames' size and the labels alone, so it is the
    same over a clip.

    Raises ValueError where frames differ in size, or there is not one label for each.
    """
    if not frames or len(frames) != len(labels):
        raise ValueError(f"expected one label for each frame, got {len(frames)} frames and {len(labels)} labels")
    for frame in frames:
        if frame.shape != frames[0].shape or frame.shape[:2] != (1, 3):
            raise ValueError(
                f"expected frames of one shape (1, 3, H, W), got {tuple(frames[0].shape)} and {tuple(frame.shape)}"
            )
    height, width = frames[0].shape[-2:]
    in_one_row = 3 if width >= height else 6
    columns = len(frames) if len(frames) <= in_one_row else math.ceil(len(frames) / 2)
    text = _text_height(height, width)
    panels = [_labelled(frame, label, text) for frame, label in zip(frames, labels, strict=True)]
    return _grid([panels[i : i + columns] for i in range(0, len(panels), columns)], gap=max(2, text // 3))


def contact_sheet(rows: Sequence[Sequence[Tensor]], labels: Sequence[str]) -> Tensor:
    """Rows of pictures, each row under its label: (1, 3, H', W'), both even.

    rows: pictures (1, 3, H, W) in [0, 1] of any sizes; the largest sets the cells, smaller ones are centred. An empty
    label leaves its bar out.

    Raises ValueError where a row is empty, or there is not one label for each.
    """
    if not rows or len(rows) != len(labels) or not all(rows):
        raise ValueError(f"expected pictures and a label for each row, got {len(rows)} rows and {len(labels)} labels")
    cell = [max(picture.shape[axis] for row in rows for picture in row) for axis in (-2, -1)]
    text = _text_height(*cell)
    gap = max(2, text // 3)
    strips = [_grid([[_centred(picture.detach().cpu(), *cell) for picture in row]], gap) for row in rows]
    labelled = [_labelled(strip, label, text) if label else strip for strip, label in zip(strips, labels, strict=True)]
    return _grid([[strip] for strip in labelled], gap)


def _text_height(height: int, width: int) -> int:
    return max(SMALLEST_TEXT, round(math.sqrt(height * width) / 20))


def _labelled(picture: Tensor, label: str, text: int) -> Tensor:
    """The picture under a bar with its label, widened where the label is longer than the picture is wide."""
    picture = picture.detach().cpu().float().clamp(0, 1)
    bar = _bar(label, text, picture.shape[-1])
    return torch.cat([bar, _centred(picture, picture.shape[-2], bar.shape[-1])], -2)


@functools.lru_cache(maxsize=64)  # the same bars stand over every frame of a clip
def _bar(label: str, text: int, width: int) -> Tensor:
    """A label in the middle of a bar (1, 3, 1.5 text, at least width)."""
    mask = text_mask(label, text)
    margin = text // 4
    ink = (PAPER + (INK - PAPER) * mask).expand(-1, 3, -1, -1)
    return _centred(ink, text + 2 * margin, max(width, mask.shape[-1] + 2 * margin))


def _grid(rows: Sequence[Sequence[Tensor]], gap: int) -> Tensor:
    """Pictures in cells as large as the largest of them, a gap apart; a shorter row stands in the middle."""
    height = max(picture.shape[-2] for row in rows for picture in row)
    width = max(picture.shape[-1] for row in rows for picture in row)
    total_height = len(rows) * (height + gap) - gap
    total_width = max(map(len, rows)) * (width + gap) - gap
    # even, because 4:2:0 video has to be
    canvas = torch.full((1, 3, total_height + total_height % 2, total_width + total_width % 2), PAPER)
    for i, row in enumerate(rows):
        margin = (total_width - (len(row) * (width + gap) - gap)) // 2
        for j, picture in enumerate(row):
            _paste(canvas, picture, (height, width), i * (height + gap), margin + j * (width + gap))
    return canvas


def _paste(canvas: Tensor, picture: Tensor, cell: tuple[int, int], top: int, left: int) -> None:
    """Put a picture into the middle of a cell."""
    height, width = picture.shape[-2:]
    top += (cell[0] - height) // 2
    left += (cell[1] - width) // 2
    canvas[..., top : top + height, left : left + width] = picture


def _centred(picture: Tensor, height: int, width: int) -> Tensor:
    """The picture in the middle of a larger, empty one."""
    down, right = height - picture.shape[-2], width - picture.shape[-1]
    return F.pad(picture, (right // 2, right - right // 2, down // 2, down - down // 2), value=PAPER)
