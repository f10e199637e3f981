"""One stream of frames, read by several."""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


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
