"""Groups of commands that load a command when it is asked for, and answer a misspelt name with the nearest."""

import difflib
import importlib
from collections.abc import Mapping
from typing import ClassVar

import click


class NearestGroup(click.Group):
    """A group that answers a misspelt command with the nearest (only newer versions of click do so themselves)."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            nearest = difflib.get_close_matches(args[0], names, n=2)
            hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


class LazyGroup(NearestGroup):
    """Loads `PACKAGE.NAME.command` when NAME is asked for, so that its help answers without importing torch.

    Attributes:
        package: whose modules hold the commands; a - in a name is a _ in its module's.
        summaries: the short help of each command, in order; reading it from the commands would import them all.
        title: what the commands are called in the help.
    """

    package: ClassVar[str]
    summaries: ClassVar[Mapping[str, str]]
    title: ClassVar[str] = "Commands"

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.summaries:
            return None
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section(self.title):
            formatter.write_dl(list(self.summaries.items()))
