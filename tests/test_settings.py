"""Settings that stand once: how they are parsed, checked, changed and told apart."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pytest

from nststab.errors import SettingError
from nststab.settings import Settings, group, setting, settings_of


@dataclass(frozen=True)
class Loop(Settings):
    iterations: tuple[int, ...] = setting((500, 150), "Iterations.", least=1)
    pooling: Literal["max", "average"] = setting("max", "Pooling.")


@dataclass(frozen=True)
class Task(Settings):
    size: int | None = setting(None, "Longest side.", least=1, told="as they are")
    rate: float = setting(0.5, "Rate.", above=0, most=2)
    start: Fraction = setting(Fraction(0), "Start.", least=0)
    cuts: bool = setting(True, "Cuts.")
    cache: str = setting("here", "A folder.", decides=False)
    loop: Loop = group(Loop)


def test_all_settings_are_found_with_those_of_groups() -> None:
    names = ["size", "rate", "start", "cuts", "cache", "loop.iterations", "loop.pooling"]
    assert [one.name for one in settings_of(Task)] == names
    told = {one.name: one.told_default for one in settings_of(Task)}
    assert (told["size"], told["rate"], told["loop.iterations"]) == ("as they are", "0.5", "500,150")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "12", 12),
        ("size", "none", None),
        ("rate", "2", 2.0),
        ("start", "1/3", Fraction(1, 3)),
        ("cuts", "no", False),
        ("loop.iterations", "3, 4", (3, 4)),
        ("loop.pooling", "average", "average"),
    ],
)
def test_a_text_becomes_a_value(name: str, text: str, value: object) -> None:
    found: Any = Task().with_text(name, text)
    for part in name.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("size", "0", "size: expected at least 1, got 0"),
        ("size", "1.5", "size: expected a whole number, got '1.5'"),
        ("rate", "0", "rate: expected above 0 and at most 2, got 0"),
        ("rate", "nan", "rate: expected above 0 and at most 2, got nan"),
        ("cuts", "maybe", "cuts: expected true or false, got 'maybe'"),
        ("loop.pooling", "avrage", "'avrage' is not one of its values; did you mean average"),
        ("loop.poling", "max", "there is no setting 'loop.poling'; did you mean loop.pooling"),
    ],
)
def test_a_text_that_is_no_value_is_named(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Task().with_text(name, text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": "96"}, "size: expected a whole number, got '96'"),
        ({"size": True}, "size: expected a whole number, got True"),
        ({"rate": None, "cuts": 1}, "cuts: expected true or false, got 1"),
        ({"start": 0.04}, "start: expected a number, got 0.04"),  # which is not 1/25
        ({"loop": None, "rate": 3.0}, "rate: expected above 0 and at most 2, got 3"),
    ],
)
def test_a_value_of_another_type_or_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Task(**values)


def test_one_value_for_several_is_named() -> None:
    with pytest.raises(SettingError, match="iterations: expected several values, got 3"):
        Loop(3)  # type: ignore[arg-type]


def test_the_identity_is_what_decides() -> None:
    settings = Task().changed(size=9, rate=None)
    assert settings.identity() == {
        "size": 9,
        "rate": 0.5,
        "start": "0",
        "cuts": True,
        "loop.iterations": [500, 150],
        "loop.pooling": "max",
    }
    assert settings.changed(cache="there").identity() == settings.identity()
