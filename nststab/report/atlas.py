"""Many small clips in one video: they cannot fall out of step, and a page decodes once for all of them."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16  # pixels of a macroblock: a rectangle begins with one, so that clips are coded apart from each other
_MARGIN = 4  # at least so many pixels repeat a rectangle's edge: the codec smooths its blocks' borders


class Rect(NamedTuple):
    """A rectangle of an atlas, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Atlas:
    """Where `count` clips of `width` x `height` pixels stand in one picture, and their heat maps at half that size.

    Attributes:
        clips, heats: the rectangles.
        width, height: of the whole picture, multiples of 16, as near to a square as rows and columns allow: decoders
            bound the sides.
    """

    def __init__(self, count: int, width: int, height: int) -> None:
        self.clips, self.heats, self.width, self.height = min(
            (_arranged(count, width, height, columns) for columns in range(1, count + 1)),
            key=lambda found: max(found[2:]),
        )

    def compose(self, frames: Sequence[Tensor], heats: Sequence[Tensor]) -> Tensor:
        """The picture (1, 3, H, W) of the clips' frames (1, 3, `height`, `width`) and heat maps of any size."""
        canvas = torch.zeros(1, 3, self.height, self.width)
        for rect, picture in [*zip(self.clips, frames, strict=True), *zip(self.heats, heats, strict=True)]:
            if picture.shape[-2:] != (rect.height, rect.width):
                picture = F.interpolate(picture, (rect.height, rect.width), mode="area")
            down, right = _padded(rect.height), _padded(rect.width)
            edges = (0, right - rect.width, 0, down - rect.height)
            canvas[..., rect.y : rect.y + down, rect.x : rect.x + right] = F.pad(picture, edges, mode="replicate")
        return canvas


def _arranged(count: int, width: int, height: int, columns: int) -> tuple[list[Rect], list[Rect], int, int]:
    """The rectangles of clips in rows of `columns`, those of their heat maps below, and the size of the whole."""
    clips = list(_rows(count, width, height, columns, 0))
    below = clips[-1].y + _padded(height)
    across, down = math.ceil(width / 2), math.ceil(height / 2)
    wide = columns * _padded(width)
    heats = list(_rows(count, across, down, max(1, wide // _padded(across)), below))
    wide = max(rect.x + _padded(rect.width) for rect in (*clips, *heats))
    return clips, heats, wide, heats[-1].y + _padded(down)


def _rows(count: int, width: int, height: int, columns: int, top: int) -> Iterator[Rect]:
    for number in range(count):
        row, column = divmod(number, columns)
        yield Rect(column * _padded(width), top + row * _padded(height), width, height)


def _padded(side: int) -> int:
    return math.ceil((side + _MARGIN) / _BLOCK) * _BLOCK
