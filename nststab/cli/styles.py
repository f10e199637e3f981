"""nststab styles."""

import click

from nststab.cli.common import print_table, verbosity_options


@click.command("styles", short_help="Show the shipped styles.")
@verbosity_options
def command() -> None:
    """Show the styles that are shipped: artist, the trace of the Gram matrix, and the methods that have a network.

    The larger the trace at relu1_1, the less steady a style tends to be (Gupta et al. 2017, Figure 3).
    """
    from rich.table import Table

    from nststab.assets import styles

    table = Table()
    for title in ("style", "artist", "year", "Gram trace", "methods"):
        table.add_column(title, justify="right" if title in ("year", "Gram trace") else "left")
    for style in styles():
        card = style.card
        trace = f"{card['gram_trace']['relu1_1']:.1f}"
        table.add_row(style.name, card["artist"], str(card["year"]), trace, ", ".join(style.methods) + ", ruder, gatys")
    print_table(table)
