"""How a long task tells whoever called it what it has done."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Protocol


class Progress(NamedTuple):
    """What a task has done: `done` of `total` (None where it is not known) and, in words, what it is at.

    The last one of a task is `finished`, however the task ended.
    """

    task: str
    done: int
    total: int | None
    note: str = ""
    finished: bool = False


Listener = Callable[[Progress], None]


class Advance(Protocol):
    """Tells the listener what has changed; what is not given stays as it was."""

    def __call__(self, done: int | None = None, total: int | None = None, note: str | None = None) -> None: ...


def silent(_progress: Progress) -> None:
    """The listener that does not listen."""


@contextmanager
def reported(listener: Listener, task: str, total: int | None) -> Iterator[Advance]:
    """Tells `listener` that a task begins, what it does, and that it has ended."""
    latest = Progress(task, 0, total)
    listener(latest)

    def advance(done: int | None = None, total: int | None = None, note: str | None = None) -> None:
        nonlocal latest
        latest = Progress(
            task,
            latest.done if done is None else done,
            latest.total if total is None else total,
            latest.note if note is None else note,
        )
        listener(latest)

    try:
        yield advance
    finally:
        listener(latest._replace(finished=True))


def named(terms: Mapping[str, float]) -> str:
    """Loss terms in words, for a note."""
    return "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
