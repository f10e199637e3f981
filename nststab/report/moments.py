"""What the finders of telling moments share: boxes in frames, means over windows, and a short list of the best."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def cut(frame: Tensor, box: Box) -> Tensor:
    """The box out of a frame (1, C, H, W), as a copy: a view would keep the frame alive."""
    left, top, width, height = box
    return frame[..., top : top + height, left : left + width].clone()


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return all(
        first[axis] < second[axis] + second[axis + 2] and second[axis] < first[axis] + first[axis + 2]
        for axis in (0, 1)
    )


def window_means(plane: Tensor, side: int) -> Tensor:
    """Mean over each window that lies in a plane (1, 1, H, W), by its top left corner."""
    return F.avg_pool2d(F.avg_pool2d(plane, (side, 1), 1), (1, side), 1)  # (1, 1, H - side + 1, W - side + 1)


HALF_A_SECOND = 12
"""Frames, at the usual rates: what is closer shows the same event."""


class Moment(NamedTuple):
    """When and where: the index of a frame, and a box in it."""

    frame: int
    box: Box


class Entry(NamedTuple, Generic[T]):
    """A moment on a short list."""

    score: tuple[float, ...]
    moment: Moment
    item: T


class ShortList(Generic[T]):
    """The best moments of a stream, no two of them near each other, with what was kept of each.

    `near` says which moments show the same thing. At most `limit` are held. One that a better one drove out does not
    come back when that is driven out in its turn, so let the limit be some more than are wanted in the end.
    """

    def __init__(self, limit: int, near: Callable[[Moment, Moment], bool]) -> None:
        self._limit = limit
        self._near = near
        self._held: list[Entry[T]] = []  # the best first

    def offer(self, score: tuple[float, ...], moment: Moment, make: Callable[[], T]) -> None:
        """Take a moment, its item made only then, where it is better than all that are near; of equals the first stays.

        A better score is a greater one.
        """
        rivals = [entry for entry in self._held if entry.score >= score]
        if len(rivals) >= self._limit or any(self._near(entry.moment, moment) for entry in rivals):
            return
        worse = [entry for entry in self._held[len(rivals) :] if not self._near(entry.moment, moment)]
        self._held = [*rivals, Entry(score, moment, make()), *worse][: self._limit]

    def best(self) -> list[Entry[T]]:
        """What is held, the very best first."""
        return list(self._held)
