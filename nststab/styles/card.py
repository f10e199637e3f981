"""The card of a style in words and tables, whatever of it there is."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nststab.storage.tables import Table
from nststab.styles.shipped import Style, light_cards, light_network

_ELSEWHERE = ("name", "title", "artist", "year", "command", "figures")
_NOTHING: tuple[object, ...] = (None, {}, [])
_TITLES = {"psnr": "PSNR dB", "ssim": "SSIM"}
Pair = tuple[str, str]


@dataclass(frozen=True)
class StyleCard:
    """What the card of a style says, for people.

    Attributes:
        title: with artist and year, where they are known.
        facts, notes: labels with their texts: of the style, and of how its figures were measured.
        made_by, measured_by: commands.
        figures: a row for each network; None where there are none.
        files: what its folder holds, with sizes.
    """

    title: str
    facts: Sequence[Pair]
    made_by: Sequence[str]
    figures: Table | None
    notes: Sequence[Pair]
    measured_by: Sequence[str]
    files: Sequence[Pair]


def style_card_of(style: Style) -> StyleCard:
    """The card of a shipped style, or of one in a folder; raises NststabError where `card.json` is damaged."""
    return _card_of(style.card, style.name, list(_files(style)))


def light_card_of(name: str) -> StyleCard:
    """The card of a style of the networks of many styles."""
    files = [light_network(method) for method in ("independent", "recurrent")]
    card = json.loads(light_cards().read_text("utf-8"))[name]
    figures = card.pop("figures", None)
    told = {key: value for key, value in card.items() if value != "unknown"}
    told["painted by"] = "the light networks of many styles; strokes, strength, mixes"
    told |= {"command": "nststab train network STYLE...", "figures": figures}
    return _card_of(told, name, [(f"  {path.name}", f"{path.stat().st_size / 1e6:.1f} MB") for path in files])


def _card_of(card: Mapping[str, Any], name: str, files: Sequence[Pair]) -> StyleCard:
    figures = card.get("figures")
    figures = figures if isinstance(figures, Mapping) else {}
    rows = {name: row for name, row in figures.items() if isinstance(row, Mapping)}
    notes = {key: value for key, value in figures.items() if key not in rows and key != "command"}
    made_by = _commands(card.get("command"))
    return StyleCard(
        ", ".join(str(card[key]) for key in ("title", "artist", "year") if card.get(key)) or name,
        [pair for key, value in card.items() if key not in _ELSEWHERE for pair in _said(key, value)],
        made_by,
        _figures(rows) if rows else None,
        [pair for key, value in notes.items() for pair in _said("figures" if key == "what" else key, value)],
        [command for command in _commands(figures.get("command")) if command not in made_by],
        files,
    )


def _said(name: str, value: Any, depth: int = 0) -> Iterator[Pair]:
    """A field and its text, and below it the fields within it that have fields of their own."""
    if value in _NOTHING:
        return
    label = "  " * depth + _spaced(name)
    fields = _fields(value)
    if fields is None:
        yield label, _text(value)
        return
    plain = {key: part for key, part in fields.items() if part not in _NOTHING and _fields(part) is None}
    yield (
        label,
        ", ".join(_text(part) if key == "what" else f"{_spaced(key)} {_text(part)}" for key, part in plain.items()),
    )
    for key, part in fields.items():
        if key not in plain:
            yield from _said(key, part, depth + 1)


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of an object, or of a list of such by their numbers; None of what has none."""
    if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        return {str(number): part for number, part in enumerate(value, 1)}
    return value if isinstance(value, Mapping) else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(map(_text, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _spaced(name: str) -> str:
    """A field's name as words; relu1_1 stays."""
    return re.sub(r"_(?!\d)", " ", name)


def _figures(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = dict.fromkeys(
        key for row in rows.values() for key, value in row.items() if isinstance(value, int | float | None)
    )
    cells = [
        [
            "input" if name == "content ceiling" else name,
            *(f"{row[key]:.4g}" if isinstance(row.get(key), int | float) else "-" for key in columns),
        ]
        for name, row in rows.items()
    ]
    return Table("", ["", *(_TITLES.get(column, _spaced(column)) for column in columns)], cells)


def _commands(commands: Any) -> list[str]:
    return [commands] if isinstance(commands, str) else list(commands or ())


def _files(style: Style) -> Iterator[Pair]:
    yield "files", str(style.folder.resolve())
    for path in sorted(style.folder.iterdir()):
        if path.is_file():
            size = path.stat().st_size
            yield f"  {path.name}", f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
