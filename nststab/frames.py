"""A frame, and what stylizes a stream of them."""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol, Self, TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with what belongs to it, on its way from a source through stylizers to a sink.

    Attributes:
        rgb: (1, 3, H, W), float32 in [0, 1].
        number: its place in the clip, from 0, counted before the clip is cut into shots.
        time, duration: in seconds; None where the source has none.
        alpha: (1, 1, H, W) in [0, 1], the picture's opacity.
        mask: (1, R, H, W) in [0, 1], the share of each of R styles in each pixel; the rest of 1 is the picture's own.
        content: (1, 3, H, W), what `rgb` was before it was stylized, where a later step asks for it.
    """

    rgb: Tensor
    number: int = 0
    time: Fraction | None = None
    duration: Fraction | None = None
    alpha: Tensor | None = None
    mask: Tensor | None = None
    content: Tensor | None = None

    def with_rgb(self, rgb: Tensor) -> Self:
        """Another picture in the place of this one."""
        return replace(self, rgb=rgb)


class Stylizer(Protocol):
    """Frames of one shot in, as many frames out, in order; state lives in the call, so a new shot is a new call.

    What it gives is `frame.with_rgb(...)` of what it took, so that number, time and alpha stay with the picture.
    """

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]: ...


def copies(items: Iterable[T], count: int) -> list[Iterator[T]]:
    """As many iterators over the same items; only those are held that one of them has still to take.

    An iterator that nobody has any more waits for nothing. As `itertools.tee`, which lets go of its items in blocks of
    57 only: that many frames are gigabytes.
    """
    source = iter(items)
    queues: list[deque[T]] = [deque() for _ in range(count)]
    waiting = [weakref.ref(queue) for queue in queues]
    return [_reader(source, queue, waiting) for queue in queues]


def _reader(source: Iterator[T], own: deque[T], waiting: "list[weakref.ref[deque[T]]]") -> Iterator[T]:
    while True:
        if not own:
            try:
                item = next(source)
            except StopIteration:
                return
            for reference in waiting:
                if (queue := reference()) is not None:
                    queue.append(item)
            del item, queue
        yield own.popleft()


def as_frames(pictures: Iterable[Tensor]) -> Iterator[Frame]:
    """Pictures (1, 3, H, W) as frames, numbered from 0."""
    return (Frame(picture, number) for number, picture in enumerate(pictures))


def pictures_of(frames: Iterable[Frame]) -> Iterator[Tensor]:
    """The bare pictures (1, 3, H, W) of frames."""
    return (frame.rgb for frame in frames)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; several times as fast as asking each of them."""
    low, high = values.aminmax()
    return bool((high - low).isfinite())
