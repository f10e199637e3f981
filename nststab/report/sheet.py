"""Contact sheets: rows of pictures, each under its label."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.report.canvas import INK, PAPER, SMALLEST_TEXT, text_cover


def contact_sheet(rows: Sequence[Sequence[Tensor]], labels: Sequence[str]) -> Tensor:
    """Rows of pictures, each row under its label: (1, 3, H', W'), both even.

    rows: pictures (1, 3, H, W) in [0, 1] of any sizes; the largest sets the cells, smaller ones are centred. An empty
    label leaves its bar out.

    Raises ValueError where a row is empty, or there is not one label for each.
    """
    if not rows or len(rows) != len(labels) or not all(rows):
        raise NststabError(f"expected pictures and a label for each row, got {len(rows)} rows and {len(labels)} labels")
    cell = [max(picture.shape[axis] for row in rows for picture in row) for axis in (-2, -1)]
    text = max(SMALLEST_TEXT, round(math.sqrt(cell[0] * cell[1]) / 20))
    gap = max(2, text // 3)
    strips = [_grid([[_centred(picture.detach().cpu(), *cell) for picture in row]], gap) for row in rows]
    labelled = [_labelled(strip, label, text) if label else strip for strip, label in zip(strips, labels, strict=True)]
    return _grid([[strip] for strip in labelled], gap)


def _labelled(picture: Tensor, label: str, text: int) -> Tensor:
    """The picture under a bar with its label, widened where the label is longer than the picture is wide."""
    picture = picture.detach().cpu().float().clamp(0, 1)
    bar = _bar(label, text, picture.shape[-1])
    return torch.cat([bar, _centred(picture, picture.shape[-2], bar.shape[-1])], -2)


def _bar(label: str, text: int, width: int) -> Tensor:
    """A label in the middle of a bar (1, 3, 1.5 text, at least width)."""
    ink = (PAPER + (INK - PAPER) * text_cover(label, text)).expand(1, 3, -1, -1)
    margin = text // 4
    return _centred(ink, text + 2 * margin, max(width, ink.shape[-1] + 2 * margin))


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
