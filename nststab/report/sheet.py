"""Dark paper with text, and contact sheets: rows of pictures, each under its label."""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.video.images import text_mask

PAPER = 0.07  # the background, dark so that it does not outshine the frames
INK = 0.92
FAINT = 0.58  # of text that explains
SMALLEST_TEXT = 12  # pixels; below that letters run together
_FINER = 4

ON_DARK = ("#EBEBEB", "#4AA9E6", "#F5843C", "#2FC296", "#E39CC5", "#F0B23A", "#9AD6F7")
"""The colours of `SERIES`, lighter, as on the dark page of a report: a contrast of at least 6:1 with the paper."""


def rgb(color: str) -> Tensor:
    """A colour such as "#0072B2" as (3, 1, 1) in [0, 1]."""
    return torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]).view(3, 1, 1)


@functools.lru_cache(maxsize=1024)  # figures change with every frame, but are the same few
def text_cover(text: str, height: int) -> Tensor:
    """A line of text as coverage (H, W) in [0, 1].

    Made small from larger letters, because Pillow fits small ones to whole pixels, which tears words apart.
    """
    large = text_mask(text, _FINER * height)
    return F.avg_pool2d(F.pad(large, (0, -large.shape[-1] % _FINER)), _FINER)[0, 0]


def shortened(text: str, height: int, width: int) -> str:
    """The text in one line, its end cut off by an ellipsis where it would be wider than `width` pixels."""
    text = " ".join(text.split())
    if text_cover(text, height).shape[-1] <= width:
        return text
    while text and text_cover(f"{text}…", height).shape[-1] > width:
        text = text[:-1].rstrip()
    return f"{text}…"


def blend(canvas: Tensor, cover: Tensor, top: int, left: int, color: Tensor | float) -> None:
    """Lay a colour over a canvas (3, H, W), in place, as far as `cover` (h, w) in [0, 1] says; cut off at its edges."""
    height, width = canvas.shape[-2:]
    rows, columns = slice(max(0, -top), max(0, height - top)), slice(max(0, -left), max(0, width - left))
    cover = cover[rows, columns]
    top, left = max(0, top), max(0, left)
    under = canvas[:, top : top + cover.shape[0], left : left + cover.shape[1]]
    under += cover * (color - under)


def fill(canvas: Tensor, top: int, left: int, height: int, width: int, color: Tensor | float) -> None:
    """A rectangle of one colour."""
    blend(canvas, torch.ones(height, width), top, left, color)


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
            top, left = i * (height + gap), margin + j * (width + gap)
            canvas[..., top : top + height, left : left + width] = _centred(picture, height, width)
    return canvas


def _centred(picture: Tensor, height: int, width: int) -> Tensor:
    """The picture in the middle of a larger, empty one."""
    down, right = height - picture.shape[-2], width - picture.shape[-1]
    return F.pad(picture, (right // 2, right - right // 2, down // 2, down - down // 2), value=PAPER)
