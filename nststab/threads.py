"""Working ahead in a thread: decoding, data and flow beside the network."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """Yields `items` in order while a thread computes up to `depth` of them in advance.

    An error of the producer is raised here. Closing the generator stops the thread after the item in work.
    """
    results: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(more: bool, value: T | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                results.put((more, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:
            put(False, error)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            more, value = results.get()
            if not more:
                if isinstance(value, BaseException):
                    raise value
                return
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
