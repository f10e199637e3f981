"""What labelled pictures are drawn with: dark paper, text, rectangles, and the colours of clips upon it."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

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
