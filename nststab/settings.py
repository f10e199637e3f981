"""Settings that stand once: fields of frozen dataclasses with type, default, range and a line of help.

The command line's options and their help, the defaults in documents, the identity of kept work and the records in
checkpoints are all made from these fields. No torch: `--help` must not wait for it.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin

from nststab.errors import SettingError

S = TypeVar("S", bound="Settings")
_KEY = "setting"
Precision = Literal["float32", "bfloat16", "float16"]
Pooling = Literal["max", "average"]
LAYERS = tuple(f"relu{block}_{layer}" for block in range(1, 6) for layer in range(1, 3 if block < 3 else 5))
"""The layers of VGG-16 and VGG-19 by name; VGG-16 has no fourth ones."""


@dataclass(frozen=True)
class Spec:
    """What a field says of itself beside type and default.

    Attributes:
        help: one line.
        least, most: bounds that are allowed; `above` is a bound that is not.
        told: the default in words, where the value itself says little.
        metavar: what stands for the value in the help.
        bare: the value of an option that is given without one.
        decides: False for what changes nothing in the result, such as a folder for a cache.
        parse: what makes a value of a text, where its type alone does not say; raises ValueError that says what was
            expected.
        choices: the values, where the type is not a Literal of them.
    """

    help: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    told: str | None = None
    metavar: str | None = None
    bare: Any = None
    decides: bool = True
    parse: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The bounds in words, empty where there are none."""
        parts = [
            f"{word} {bound:g}"
            for word, bound in (("above", self.above), ("at least", self.least), ("at most", self.most))
            if bound is not None
        ]
        return " and ".join(parts)


def setting(default: Any, help: str, **spec: Any) -> Any:
    """A field of a settings dataclass; `spec` are the attributes of `Spec`. Another group of settings is no setting."""
    return field(default=default, metadata={_KEY: Spec(help, **spec)})


def group(cls: type[S], **changes: Any) -> S:
    """A field that holds another dataclass of settings, with its defaults, or with others where `changes` says so."""
    return field(default_factory=partial(cls, **changes))  # as dataclasses.field does, it says the field's type


def same(cls: "type[Settings]", name: str) -> Any:
    """A field like another dataclass': its default, range and help stand there."""
    other = next(one for one in fields(cls) if one.name == name)
    return field(default=other.default, metadata=other.metadata)


Curve = tuple[tuple[float, float], ...]
"""A number over time: seconds with its value there, in order; between them it is linear, beyond them it stays."""


def curve(given: str | float | Sequence[tuple[float, float]]) -> Curve:
    """A number, pairs of time and value, or text of either, as in 0:0,2:1, as a curve; ValueError where it is none."""
    try:
        if isinstance(given, int | float):
            return ((0.0, float(given)),)
        if not isinstance(given, str):
            pairs = [(float(time), float(value)) for time, value in given]
        elif ":" not in given:
            return ((0.0, float(given)),)
        else:
            pairs = [(float(time), float(value)) for time, value in (part.split(":") for part in given.split(","))]
        times = [time for time, _ in pairs]
        if times != sorted(set(times)) or not pairs or not all(map(math.isfinite, chain(*pairs))):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"expected a number, or TIME:VALUE,... with rising times, got {given!r}") from None
    return tuple(pairs)


def at(curve: Curve, time: float) -> float:
    """The value of a curve at a time in seconds."""
    for (before, low), (after, high) in pairwise(curve):
        if before <= time < after:
            return low + (high - low) * (time - before) / (after - before)
    return curve[0][1] if time < curve[0][0] else curve[-1][1]


@dataclass(frozen=True)
class Setting:
    """A field of a settings dataclass as `settings_of` finds it: its dotted name, type, default and spec."""

    name: str
    type: Any
    default: Any
    spec: Spec

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a Literal, or those that the spec names; none where any will do."""
        return get_args(self.item) if get_origin(self.item) is Literal else self.spec.choices

    @property
    def words(self) -> tuple[str, ...]:
        """What stands beside values of another type: of `int | Literal["full"]` it is full."""
        alternatives = _alternatives(self.type)
        words = [part for part in alternatives if get_origin(part) is Literal]
        return () if len(alternatives) == len(words) else tuple(word for part in words for word in get_args(part))

    @property
    def item(self) -> Any:
        """The type of one value: of an optional without None, of a tuple that of its items."""
        kind = next(part for part in _alternatives(self.type) if part is not types.NoneType)
        return get_args(kind)[0] if get_origin(kind) is tuple else kind

    @property
    def is_sequence(self) -> bool:
        """Whether the value is a tuple."""
        return any(get_origin(part) is tuple for part in _alternatives(self.type))

    @property
    def told_default(self) -> str:
        """The default as help and documents tell it."""
        return self.spec.told if self.spec.told is not None else _text(self.default)

    def parse(self, text: str) -> Any:
        """The value that a text stands for; raises SettingError where it is none, or out of range."""
        if text == "none" and types.NoneType in _alternatives(self.type):
            return None
        if self.spec.parse is not None:
            try:
                return self.checked(self.spec.parse(text))
            except SettingError:
                raise
            except ValueError as error:
                raise SettingError(f"{self.name}: {error}") from None
        if self.is_sequence:
            return self.checked(tuple(self._parse_one(part.strip()) for part in text.split(",")))
        return self.checked(self._parse_one(text.strip()))

    def _parse_one(self, text: str) -> Any:
        kind = self.item
        try:
            if kind is bool:
                return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            return text if get_origin(kind) is Literal else kind(text)
        except (KeyError, ValueError, ZeroDivisionError):
            raise SettingError(f"{self.name}: expected {_type_name(kind)}, got {text!r}") from None

    def checked(self, value: Any) -> Any:
        """`value`, or a SettingError where it is out of range or none of the choices."""
        if value is None:
            return value
        if self.is_sequence and not isinstance(value, tuple | list):
            raise SettingError(f"{self.name}: expected several values, got {value!r}")
        if self.type == Curve:
            return self._checked_curve(value)
        for one in value if self.is_sequence else (value,):
            if isinstance(one, str) and one in self.words:
                continue
            if not isinstance(one, _ACCEPTED.get(self.item, object)) or (
                isinstance(one, bool) and self.item is not bool
            ):
                raise SettingError(f"{self.name}: expected {_type_name(self.item)}, got {one!r}")
            if self.choices and one not in self.choices:
                raise SettingError(f"{self.name}: {one!r} is not one of its values; {did_you_mean(one, self.choices)}")
            if isinstance(one, int | float | Fraction) and not isinstance(one, bool):
                low, high, above = self.spec.least, self.spec.most, self.spec.above
                inside = math.isfinite(one) and (low is None or one >= low) and (high is None or one <= high)
                if not inside or (above is not None and one <= above):
                    raise SettingError(
                        f"{self.name}: expected {self.spec.range or 'a finite number'}, got {_text(one)}"
                    )
        return value

    def _checked_curve(self, value: Any) -> Any:
        try:
            curve(value)
        except ValueError as error:
            raise SettingError(f"{self.name}: {error}") from None
        one = Setting(self.name, float, 0.0, replace(self.spec, parse=None))
        for _, number in value:
            one.checked(number)
        return value


_ACCEPTED: dict[Any, Any] = {
    int: int,
    float: int | float | Fraction,
    Fraction: int | Fraction,
    bool: bool,
    str: str,
    Path: str | Path,
}


@dataclass(frozen=True)
class Settings:
    """The base of all settings: checks every field when one is made."""

    def __post_init__(self) -> None:
        for one in own_settings(type(self)):
            one.checked(getattr(self, one.name))

    @classmethod
    def of(cls, given: object) -> Self:
        """`given`, or the defaults where it is None; raises SettingError for anything but these settings."""
        if given is not None and not isinstance(given, cls):
            raise SettingError(f"settings: expected {cls.__name__}, got {given!r:.60}")
        return cls() if given is None else given

    def changed(self, **changes: Any) -> Self:
        """With other values; None leaves a setting as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def with_text(self, name: str, text: str) -> Self:
        """With the setting `name`, dotted where it lies in a group (`gatys.pooling`), as `text` says.

        Raises SettingError for an unknown name, with the nearest, and for a value that is none.
        """
        known = {one.name: one for one in settings_of(type(self))}
        if name not in known:
            raise SettingError(f"there is no setting {name!r}; {did_you_mean(name, list(known))}")
        return self.with_value(name, known[name].parse(text))

    def with_value(self, name: str, value: Any) -> Self:
        """With `value` for the setting `name`, dotted where it lies in a group."""
        first, _, rest = name.partition(".")
        return replace(self, **{first: getattr(self, first).with_value(rest, value) if rest else value})

    def value(self, name: str) -> Any:
        """Of the setting `name`, dotted where it lies in a group."""
        return attrgetter(name)(self)

    def given(self) -> Iterator[Setting]:
        """The settings that have another value than their default."""
        plain = type(self)()
        for one in settings_of(type(self)):
            if self.value(one.name) != plain.value(one.name):
                yield one

    def identity(self) -> dict[str, Any]:
        """All that decides a result, as JSON values by dotted name: what kept work is recognised by."""
        return {one.name: _json(self.value(one.name)) for one in settings_of(type(self)) if one.spec.decides}


_HINTS: dict[type[Settings], dict[str, Any]] = {}


def _hints(cls: type[Settings]) -> dict[str, Any]:
    """The types of the fields, which are evaluated once: that takes long, and settings are made often."""
    return _HINTS.get(cls) or _HINTS.setdefault(cls, typing.get_type_hints(cls))


def own_settings(cls: type[Settings]) -> Iterator[Setting]:
    """The settings of a dataclass, without those of its groups."""
    hints = _hints(cls)
    for one in fields(cls):
        if _KEY in one.metadata:
            yield Setting(one.name, hints[one.name], one.default, one.metadata[_KEY])


def settings_of(cls: type[Settings]) -> Iterator[Setting]:
    """All settings of a dataclass, those of its groups by dotted names."""
    yield from own_settings(cls)
    hints = _hints(cls)
    for one in fields(cls):
        kind = hints[one.name]
        if is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Settings):
            defaults: Any = one.default_factory() if callable(one.default_factory) else kind()
            for inner in settings_of(kind):
                default = attrgetter(inner.name)(defaults)
                yield dataclasses.replace(inner, name=f"{one.name}.{inner.name}", default=default)


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """A hint at the nearest of `known`, or all of them."""
    nearest = difflib.get_close_matches(str(name), known, n=2)
    return f"did you mean {' or '.join(nearest)}?" if nearest else f"choose from {', '.join(known)}"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (types.UnionType, Union) else (kind,)


def _type_name(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", Fraction: "a number"}.get(kind, str(kind))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    if isinstance(value, Fraction | Path):
        return str(value)
    return value


@dataclass(frozen=True)
class LossSettings(Settings):
    """Weights and layers of eq. (1) and (5) of Gupta et al. 2017; the layers are Johnson et al.'s, for VGG-16."""

    content_weight: float = setting(1.0, "Weight of the content loss.", least=0)
    style_weight: float = setting(1.0, "Weight of the style loss.", least=0)
    tv_weight: float = setting(0.0, "Weight of total variation, for a smoother picture.", least=0)
    content_layers: tuple[str, ...] = setting(("relu3_3",), "Where the content loss looks.", choices=LAYERS)
    style_layers: tuple[str, ...] = setting(
        ("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "Where the style loss looks.", choices=LAYERS
    )
    scaling: Literal["energy", "paper"] = setting(
        "energy", "Divide each layer's error by the target's own energy, or not, as the paper."
    )
