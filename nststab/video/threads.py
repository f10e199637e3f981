"""Threads around a loop: one that reads ahead of it, one that writes behind it, and the newest item between two."""

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

T = TypeVar("T")


class _End(NamedTuple):
    """The last thing in a queue, with what ended it if that was an error."""

    error: BaseException | None = None


class Prefetcher(Iterator[T]):
    """An iterator that another thread reads up to `depth` items ahead; its error is raised where the next item was due.

    On leaving the `with` block the thread is stopped and `items`, if it is a generator, is closed in it.
    """

    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # it may be waiting for room
            self._drain()
            self._thread.join(0.02)
        self._drain()
        self._queue.put(_End())  # somebody in another thread may still be waiting for an item

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        item = self._queue.get()
        if not isinstance(item, _End):
            return item
        self._ended = True
        if item.error is not None:
            raise item.error
        raise StopIteration

    def _read(self) -> None:
        end = _End()
        try:
            try:
                for item in self._items:
                    if self._stopped.is_set():
                        break
                    self._queue.put(item)
            finally:
                close = getattr(self._items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            end = _End(error)
        self._queue.put(end)  # whatever happened, or the reader would wait for ever

    def _drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            pass


class BackgroundWriter(Generic[T]):
    """Calls `write` in another thread, up to `depth` items behind; its error is raised at the next `put` or at the end.

    Leaving the `with` block by an exception drops what is still waiting.
    """

    def __init__(self, write: Callable[[T], None], depth: int) -> None:
        self._write = write
        self._queue: queue.Queue[T | _End] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="write behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropping = self._dropping or kind is not None
        self._queue.put(_End())
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Hand an item over; waits while `depth` items are waiting, and raises what `write` raised."""
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def _run(self) -> None:
        while not isinstance(item := self._queue.get(), _End):
            if self._dropping:
                continue  # the queue must keep moving, or `put` would wait for ever
            try:
                self._write(item)
            except BaseException as error:
                self._error, self._dropping = error, True


class Newest(Generic[T]):
    """Hands the newest item to another thread; `dropped` counts those that a newer one replaced before."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: list[T] = []
        self.dropped = 0
        self.closed = False

    def put(self, item: T) -> None:
        """Replace what waits."""
        with self._condition:
            self.dropped += len(self._items)
            self._items = [item]
            self._condition.notify()

    def close(self) -> None:
        """Let `take` wait no longer."""
        with self._condition:
            self.closed = True
            self._condition.notify()

    def take(self, timeout: float | None = None) -> T | None:
        """The newest item; None if none came within `timeout` seconds, or none is left after `close`."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self.closed, timeout)
            return self._items.pop() if self._items else None
