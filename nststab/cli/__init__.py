"""The command line: a lazy group, so that `nststab --help` answers without importing torch."""

import difflib
import importlib
import sys

import click

import nststab
from nststab.cli.common import run_options

# Short help stands here because reading it from the commands would import them all.
_COMMANDS = {
    "stylize": "Stylize a clip or a picture with one of four methods.",
    "optimize": "Stylize by optimisation: a picture by Gatys, a clip by Ruder.",
    "compare": "Stylize with several methods, side by side, with a table of figures.",
    "train": "Train the feed-forward networks of a style.",
    "flow": "Optical flow and its reliability masks.",
    "styles": "Show the styles that are shipped.",
    "demo": "Stylize the bundled clip with the recurrent network.",
}


class LazyGroup(click.Group):
    """Loads `nststab.cli.NAME.command` when NAME is asked for, and turns the library's errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"nststab.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            nearest = difflib.get_close_matches(args[0], _COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, MemoryError) as error:
            if run_options(ctx).debug:
                raise
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(nststab.__version__, prog_name="nststab")
def group() -> None:
    """Video stylization that does not flicker, and the measures that prove it.

    \b
    nststab demo                                                   see it work
    nststab stylize clip.mp4 -o out.mp4 --style the_great_wave     stylize a clip
    nststab compare clip.mp4 -o compared.mp4 --style the_great_wave
    """


def main() -> None:
    """Entry point of the `nststab` script."""
    group.main(args=sys.argv[1:], prog_name="nststab")
