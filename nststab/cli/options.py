"""Command-line options that are made from the fields of settings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from nststab.errors import SettingError
from nststab.settings import Setting, Settings, settings_of

S = TypeVar("S", bound=Settings)
Command = TypeVar("Command", bound=Callable[..., Any])


class _Value(click.ParamType):  # type: ignore[type-arg]
    """The value of a setting, parsed and checked as the settings do."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.name = setting.item.__name__ if isinstance(setting.item, type) else "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._setting.parse(value)
        except SettingError as error:
            self.fail(str(error).removeprefix(f"{self._setting.name}: "), param, ctx)


def settings_options(settings: type[Settings], *names: str) -> Callable[[Command], Command]:
    """Options for the settings `names`, dotted where they lie in a group; all where none are named.

    The option of `gatys.iterations` is --iterations. None means that it was not given: the default stands in the help.
    """
    known = {one.name: one for one in settings_of(settings)}

    def add(command: Command) -> Command:
        for name in reversed(names or tuple(known)):
            command = _option(known[name])(command)
        return command

    return add


def _option(setting: Setting) -> Callable[[Command], Command]:
    last = setting.name.rpartition(".")[2]
    flag, shown = "--" + last.replace("_", "-"), setting.told_default
    if setting.item is bool:
        # a flag says what is not so already: cuts=True has --no-cuts
        name = f"--no-{flag[2:]}" if setting.default else flag
        return click.option(
            name, last, flag_value=not setting.default, is_flag=True, default=None, help=setting.spec.help
        )
    has_default = setting.default is not None or setting.spec.told is not None
    return click.option(
        flag,
        last,
        type=_Value(setting),
        default=None,
        metavar=setting.spec.metavar or ("|".join(setting.choices) if setting.choices else _metavar(setting)),
        help=setting.spec.help + (f"  [default: {shown}]" if has_default else ""),
    )


def _metavar(setting: Setting) -> str:
    one = {int: "N", float: "X", Path: "PATH"}.get(setting.item, "TEXT")
    return f"{one},..." if setting.is_sequence else one


def gathered(settings: type[S], options: Mapping[str, Any], texts: Mapping[str, str] = {}) -> S:
    """The settings that options of `settings_options` and the `texts` of --set gave; the rest has its defaults."""
    made = settings()
    for one in settings_of(settings):
        value = options.get(one.name.rpartition(".")[2])
        if value is not None:
            made = made._with(one.name.split("."), value)
    for name, text in texts.items():
        made = made.with_text(name, text)
    return made


class _Assignment(click.ParamType):  # type: ignore[type-arg]
    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, found, text = str(value).partition("=")
        if not found:
            self.fail(f"{value!r}: expected NAME=VALUE, as in gatys.pooling=average", param, ctx)
        return name.strip(), text.strip()


def set_options(settings: type[Settings]) -> Callable[[Command], Command]:
    """--set NAME=VALUE for what has no option of its own, and --help-all, which lists all that can be set."""

    def show(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            formatter = ctx.make_formatter()
            formatter.write(ctx.get_help() + "\n\n")
            with formatter.section("Settings, by --set NAME=VALUE"):
                formatter.write_dl([(f"{one.name}={one.told_default}", one.spec.help) for one in settings_of(settings)])
            click.echo(formatter.getvalue().rstrip())
            ctx.exit()

    def add(command: Command) -> Command:
        command = click.option(
            "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=show, help="All settings, and exit."
        )(command)
        return click.option(
            "--set",
            "assignments",
            type=_Assignment(),
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other setting; --help-all lists them.",
        )(command)

    return add
