"""Threads around a loop: one that reads ahead of it, one that writes behind it, and what is on the way between two."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """Items on their way from one thread to another; `put` comes back when no more than `depth` of them wait.

    So with a depth of 0 whoever puts an item waits until it is taken.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self.closed = False

    def put(self, item: T) -> None:
        """Hand an item over; after `close` it is dropped."""
        with self._changed:
            if not self.closed:
                self._items.append(item)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._items) <= self._depth or self.closed)

    def take(self, timeout: float | None = None) -> T | None:
        """The oldest item; None if none came within `timeout` seconds, or none is left after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self.closed, timeout)
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self, drop: bool = False) -> None:
        """Let nobody wait any longer; `drop` what is on its way."""
        with self._changed:
            self.closed = True
            if drop:
                self._items.clear()
            self._changed.notify_all()


class Newest(Waiting[T]):
    """Hands the newest item alone over; `dropped` counts those that a newer one replaced before."""

    def __init__(self) -> None:
        super().__init__(1)
        self.dropped = 0

    def put(self, item: T) -> None:
        """Replace what waits."""
        with self._changed:
            self.dropped += len(self._items)
            self._items.clear()
            super().put(item)


class Prefetcher(Iterator[T]):
    """An iterator that another thread reads up to `depth` items ahead; its error is raised where the next item was due.

    On leaving the `with` block the thread is stopped and `items`, if it is a generator, is closed in it. An exception
    waits `patience` seconds for that, and leaves a thread behind that waits for its next item, as for a pipe which is
    silent; None waits until it came: a thread that computes when the process ends aborts it.
    """

    def __init__(self, items: Iterator[T], depth: int, patience: float | None = None) -> None:
        self._items, self._patience = items, patience
        self._waiting: Waiting[T] = Waiting(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._waiting.close(drop=True)
        self._thread.join(None if kind is None else self._patience)

    def __next__(self) -> T:
        item = self._waiting.take()
        if item is not None:
            return item
        error, self._error = self._error, None
        raise StopIteration if error is None else error

    def _read(self) -> None:
        try:
            try:
                for item in self._items:
                    if self._waiting.closed:
                        break
                    self._waiting.put(item)
            finally:
                close = getattr(self._items, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            self._error = error
        self._waiting.close()  # whatever happened, or the reader would wait for ever


class BackgroundWriter(Generic[T]):
    """Calls `write` in another thread, as items come; its error is raised at the next `put` or at the end.

    Leaving the `with` block by an exception drops what is still waiting.
    """

    def __init__(self, write: Callable[[T], None], waiting: Waiting[T], name: str = "write behind") -> None:
        self._write, self._waiting = write, waiting
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._waiting.close(drop=kind is not None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Hand an item over; raises what `write` raised."""
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def _write_all(self) -> None:
        while (item := self._waiting.take()) is not None:
            self._write(item)
            del item  # which may be large, before the next one comes

    def _run(self) -> None:
        try:
            self._write_all()
        except BaseException as error:
            self._error = error
            self._waiting.close(drop=True)  # or `put` would wait for ever
