"""nststab styles."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nststab.cli.common import CLIP_PATH, COUNT, console_listener, device_options, overwrite_option, refuse_early
from nststab.cli.options import SettingsCommand

if TYPE_CHECKING:
    from nststab.styles.card import StyleCard

_OF_SHEETS = ("size", "yes", "device", "precision")


@click.command("styles", cls=SettingsCommand, short_help="Show the shipped styles.")
@click.argument("subjects", metavar="[NAME|IMAGE|INPUT]...", nargs=-1)
@click.option("--sheet", metavar="OUT", default=None, help="Draw INPUT in every shipped style, on one picture.")
@click.option(
    "--size",
    type=COUNT,
    default=512,
    show_default=True,
    metavar="PIXELS",
    help="Longest side on the sheet; smaller frames are not enlarged.",
)
@overwrite_option
@device_options
def command(subjects: tuple[str, ...], sheet: str | None, **options: Any) -> None:
    """Show the styles that are shipped: artist, the trace of the Gram matrix, and how stable each network is.

    \b
    nststab styles                             all of them as a table
    nststab styles the_great_wave              its card; a folder of `nststab train style` has one, too
    nststab styles painting.jpg                how unstable this style is likely to be
    nststab styles --sheet sheet.png INPUT     a picture or clip in every style

    The larger the trace at relu1_1, the less steady a style tends to be (Gupta et al. 2017, Figure 3). Of an IMAGE it
    is told with how unstable such a style is likely to be, before any training: by the line through the styles that
    were measured, which says how sure it is.

    On a sheet a picture is drawn by the independent networks. Of a clip it is the last of its first 12 frames, or of
    the first shot where that is shorter, drawn by the recurrent ones: the first that they draw is not yet typical.
    """
    if sheet is not None:
        _sheet(subjects, sheet, options)
        return
    _refuse_of_sheets()
    found = [_subject(text) for text in subjects]
    if not found:
        _show_shipped()
    for style in found:
        if not isinstance(style, Path):
            _show_card(style)
    if pictures := [picture for picture in found if isinstance(picture, Path)]:
        _show_predictions(pictures)


def _sheet(subjects: Sequence[str], sheet: str, options: Mapping[str, Any]) -> None:
    if len(subjects) != 1:
        raise click.UsageError(f"--sheet takes one INPUT, got {len(subjects)}")
    source = CLIP_PATH.convert(subjects[0], None, None)
    if Path(sheet).is_file():
        refuse_early(sheet, options["yes"])
    from nststab.tasks.preview import draw_sheet

    draw_sheet(
        source,
        sheet,
        size=options["size"],
        device=options["device"],
        precision=options["precision"],
        restart=options["yes"],
        progress=console_listener(),
    )


def _refuse_of_sheets() -> None:
    """Raises a usage error for an option that only a sheet takes: silence would pass for an effect."""
    context = click.get_current_context()
    for name in _OF_SHEETS:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} has no effect without --sheet")


def _subject(text: str) -> "StyleCard | Path":
    """The picture, or the card of the style, that `text` names; SettingError where there is none."""
    from nststab.styles.card import light_card_of, style_card_of
    from nststab.styles.shipped import LIGHT, named_style

    if Path(text).is_file():
        return Path(text)
    style = named_style(text)
    return light_card_of(text.removeprefix(f"{LIGHT}/")) if style is None else style_card_of(style)


def _show_card(card: "StyleCard") -> None:
    """What the card of a style says, whatever of it there is, and where its files are."""
    click.echo(card.title)
    _print_pairs(card.facts)
    _print_commands("made by", card.made_by)
    if card.figures:
        click.echo(card.figures.text())
    _print_pairs(card.notes)
    _print_commands("measured by", card.measured_by)
    _print_pairs(card.files)


def _show_predictions(pictures: Sequence[Path]) -> None:
    from nststab.styles.trace_line import predict

    found = predict(pictures)
    click.echo(found.table.text())
    for sentence in found.sentences:
        click.echo(sentence)


def _print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels with their texts, which only a terminal's width may break: a pipe has none."""
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    label_width = max((len(label) for label, _ in pairs), default=0)
    for label, text in pairs:
        begin, margin = f"{label:<{label_width}}  ", " " * (label_width + 2)
        wrapped = textwrap.fill(
            text, wide, initial_indent=begin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
        )
        click.echo(wrapped or begin.rstrip())


def _print_commands(label: str, commands: Sequence[str]) -> None:
    """Commands, each on a line of its own that nothing breaks, to be copied."""
    if commands:
        click.echo(f"{label}:")
    for text in commands:
        click.echo(f"    {text}")


def _show_shipped() -> None:
    from nststab.storage.tables import Table
    from nststab.styles.shipped import light_styles, styles

    rows: list[list[str]] = []
    for style in styles():
        card = style.card
        made = ", ".join(style.known("artist", "year"))
        about = [[style.name, _figure(card, "gram_trace", "relu1_1", ".1f")], *([[f"  {made}", ""]] if made else [])]
        networks = [
            [name, _figure(card, "figures", name, "psnr", ".1f"), _figure(card, "figures", name, "ssim", ".2f")]
            for name in style.methods or ("-",)
        ]
        rows += [[*left[:2], *right] for left, right in zip_longest(about, networks, fillvalue=[""] * 3)]
    click.echo(Table("", ("style", "Gram trace", "network", "PSNR dB", "SSIM"), rows).text())
    click.echo("PSNR and SSIM: the higher, the steadier from frame to frame.")
    if light := light_styles():
        _print_pairs([("light", ", ".join(light))])
        click.echo("One network paints and mixes these, as light/NAME.")
    click.echo("`nststab styles NAME` shows a card.")
    click.echo("ruder and gatys take every style of the table.")


def _figure(card: Any, *path: str) -> str:
    """The number at `path` of a card, in the format that stands last there; - where it has none."""
    *names, form = path
    for name in names:
        card = card.get(name) if isinstance(card, dict) else None
    return format(card, form) if isinstance(card, int | float) else "-"
