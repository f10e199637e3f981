"""The card of a style, for people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from nststab.cli.common import print_table
from nststab.styles.shipped import Style

_ELSEWHERE = ("name", "title", "artist", "year", "command", "figures")
_NOTHING: tuple[object, ...] = (None, {}, [])
_TITLES = {"n": "patches", "psnr": "PSNR dB", "ssim": "SSIM"}


def show_card(style: Style) -> None:
    """Prints what the card of a style says, whatever of it there is, and where its files are."""
    card = style.card
    click.echo(", ".join(str(card[name]) for name in ("title", "artist", "year") if card.get(name)) or style.name)
    _print_pairs(_facts(card))
    _print_commands("made by", card.get("command"))
    figures = card.get("figures")
    if isinstance(figures, Mapping) and figures:
        _print_figures(figures)
        if figures.get("command") not in (card.get("command") or ()):
            _print_commands("measured by", figures.get("command"))
    _print_pairs(_files(style))


def _facts(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in card.items():
        if name not in _ELSEWHERE:
            yield from _said(name, value)


def _said(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
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


def _print_figures(figures: Mapping[str, Any]) -> None:
    """Rows of figures as a table, and below it what they are and how they were measured."""
    rows = {name: row for name, row in figures.items() if isinstance(row, Mapping)}
    columns = dict.fromkeys(
        key for row in rows.values() for key, value in row.items() if isinstance(value, int | float | None)
    )
    table = Table()
    table.add_column("")
    for column in columns:
        table.add_column(_TITLES.get(column, _spaced(column)), justify="right")
    for name, row in rows.items():
        cells = [row.get(column) for column in columns]
        table.add_row(escape(name), *(f"{cell:.4g}" if isinstance(cell, int | float) else "-" for cell in cells))
    if rows:
        print_table(table)
    notes = {key: value for key, value in figures.items() if key not in rows and key != "command"}
    _print_pairs(pair for key, value in notes.items() for pair in _said("figures" if key == "what" else key, value))


def _print_commands(label: str, commands: Any) -> None:
    """Commands, each on a line of its own that nothing breaks, to be copied."""
    if commands:
        click.echo(f"{label}:")
    for command in [commands] if isinstance(commands, str) else commands or ():
        click.echo(f"    {command}")


def _files(style: Style) -> Iterator[tuple[str, str]]:
    yield "files", str(style.folder.resolve())
    for path in sorted(style.folder.iterdir()):
        if path.is_file():
            yield f"  {path.name}", _size(path.stat().st_size)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _print_pairs(pairs: Iterator[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, text in pairs:
        table.add_row(escape(label), escape(text))
    if table.rows:
        print_table(table)
