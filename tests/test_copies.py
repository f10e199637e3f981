"""One stream, several readers: all see all of it, and nothing is held that nobody waits for."""

import weakref
from collections.abc import Iterator
from typing import ClassVar

from nststab.frames import copies


class Item:
    """Something of which can be told whether it is still alive."""

    alive: ClassVar["weakref.WeakSet[Item]"] = weakref.WeakSet()

    def __init__(self, number: int) -> None:
        self.number = number
        self.alive.add(self)


def items(count: int = 100) -> Iterator[Item]:
    for number in range(count):
        yield Item(number)


def test_every_reader_sees_all() -> None:
    first, second, third = copies(range(5), 3)
    assert [next(first), next(first), next(second)] == [0, 1, 0]
    assert (list(third), list(second), list(first)) == ([0, 1, 2, 3, 4], [1, 2, 3, 4], [2, 3, 4])
    assert next(first, None) is None


def test_what_all_have_read_is_let_go() -> None:
    for one, other in zip(*copies(items(), 2), strict=True):
        assert one is other
        assert len(Item.alive) <= 2


def test_nothing_is_held_between_two_items() -> None:
    first, second = copies(items(), 2)
    next(first)
    assert len(Item.alive) == 1
    next(second)
    assert len(Item.alive) == 0


def test_a_reader_behind_holds_what_it_has_not_read() -> None:
    ahead, behind = copies(items(), 2)
    for _ in range(7):
        next(ahead)
    assert len(Item.alive) == 7
    for _ in range(4):
        next(behind)
    assert len(Item.alive) == 3


def test_a_reader_that_is_gone_holds_nothing() -> None:
    first, second, third = copies(items(), 3)
    next(second)
    del second, third
    for item in first:
        assert item in Item.alive
        assert len(Item.alive) <= 2
