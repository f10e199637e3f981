"""Command-line options that are made from the fields of settings, and the commands that have them."""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from nststab.cli.common import VERBOSITY, Command, Parsed, together
from nststab.errors import NststabError, SettingError
from nststab.methods.settings import MethodSettings
from nststab.settings import Setting, Settings, settings_of

S = TypeVar("S", bound=Settings)
_SAID = {
    "overwrite=True": "-y",
    "restart=True": "-y",
    "audio=False": "--no-audio",
    "train_style": "`nststab train style`",
}
_ALL = "nststab.all_options"
_METHOD_GROUPS = {one.name.partition(".")[0] for one in settings_of(MethodSettings) if "." in one.name}


def _value(setting: Setting) -> Parsed:
    """The value of a setting, parsed and checked as the settings do; the option says its name."""

    def parse(text: str) -> Any:
        try:
            return setting.parse(text)
        except SettingError as error:
            raise ValueError(str(error).removeprefix(f"{setting.name}: ")) from error

    return Parsed(setting.item.__name__ if isinstance(setting.item, type) else "text", parse)


class SettingOption(click.Option):
    """An option for the setting of a dotted name."""

    def __init__(self, *arguments: Any, setting: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.setting = setting


class SettingsCommand(click.Command):
    """A command whose help shows the options of each group of settings apart, and whose errors name its options.

    The library says `gatys.iterations`, `style: ...`, `size=640` and `overwrite=True`; the user who reads it said
    --iterations, --style, --size 640 and -y.

    common: the names of the parameters that --help shows; all where none are named, and with --help-all.
    """

    def __init__(self, *arguments: Any, common: Collection[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += VERBOSITY
        self._common = common

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (NststabError, OSError) as error:
            if len(error.args) == 1:  # else it has an errno, and names a file
                error.args = (self.in_flags(str(error)),)
            raise

    def in_flags(self, text: str) -> str:
        """What the library says, in the words of the command line."""
        for words, said in _SAID.items():
            text = re.sub(rf"(?<![\w/.-]){words}\b", said, text)
        for param in self.params:
            if not isinstance(param, click.Option):
                continue
            name = param.opts[-1].removeprefix("--").replace("-", "_")
            if isinstance(param, SettingOption) and "." in param.setting:
                text = text.replace(param.setting, param.opts[0])
            else:
                text = re.sub(rf"^{name}(?=: | (names|needs|is for|has (no effect|two)) )", param.opts[0], text)
            text = re.sub(rf"\b{name}=", f"{param.opts[-1]} ", text)
            text = re.sub(rf"\b(larger|smaller) {name}\b", rf"\1 {param.opts[-1]}", text)
        return text

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        shown = () if ctx.meta.get(_ALL) else self._common
        for param in self.get_params(ctx):
            if shown and param.name not in (*shown, "help", "help_all"):
                continue
            record = param.get_help_record(ctx)
            if record and isinstance(param, click.Option):
                grouped = isinstance(param, SettingOption) and param.setting.partition(".")[0] in _METHOD_GROUPS
                sections.setdefault("Options of ruder and gatys" if grouped else "Options", []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def settings_options(settings: type[Settings], *names: str, **flags: str) -> Callable[[Command], Command]:
    """Options for the settings `names`, dotted where they lie in a group; all where none are named.

    The option of `gatys.iterations` is --iterations, unless `flags` has another for it (`flow_files="--flow"`). None
    means that it was not given: the default stands in the help.
    """
    known = {one.name: one for one in settings_of(settings)}
    plain = {name: "--" + name.rpartition(".")[2].replace("_", "-") for name in names or known}
    return together(*(_option(known[name], flags.get(_key(name), flag)) for name, flag in plain.items()))


def _key(name: str) -> str:
    return name.replace(".", "_")


def _option(setting: Setting, flag: str) -> Callable[[Command], Command]:
    if setting.item is bool:
        # a flag says what is not so already: cuts=True has --no-cuts
        flag = f"--no-{flag[2:]}" if setting.default else flag
        kind: dict[str, Any] = {"is_flag": True, "flag_value": not setting.default}
        help_text = setting.spec.help
    else:
        choices = "|".join(setting.choices) if setting.choices and not setting.is_sequence else None
        kind = {"type": _value(setting), "metavar": setting.spec.metavar or choices or _metavar(setting)}
        if setting.spec.bare is not None:
            kind |= {"is_flag": False, "flag_value": setting.spec.bare}
        told = setting.default is not None or setting.spec.told is not None
        help_text = setting.spec.help + (f"  [default: {setting.told_default}]" if told else "")

    return click.option(
        flag, _key(setting.name), cls=SettingOption, setting=setting.name, default=None, help=help_text, **kind
    )


def _metavar(setting: Setting) -> str:
    one = {int: "N", float: "X", Path: "PATH"}.get(setting.item, "TEXT")
    return f"{one},..." if setting.is_sequence else one


def gathered(settings: type[S], options: Mapping[str, Any], texts: Mapping[str, str] = {}, base: S | None = None) -> S:
    """The settings that options of `settings_options` and the `texts` of --set gave; the rest is as in `base`, or has
    its defaults."""
    made = base or settings()
    for one in settings_of(settings):
        value = options.get(_key(one.name))
        if value is not None:
            made = made.with_value(one.name, value)
    for name, text in texts.items():
        try:
            made = made.with_text(name, text)
        except SettingError as error:  # it names settings, as the user did
            raise click.BadParameter(str(error), param_hint="'--set'") from None
    return made


def assignment(text: str) -> tuple[str, str]:
    """A setting with its value: NAME=VALUE."""
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"{text!r}: expected NAME=VALUE, as in gatys.pooling=average")
    return name.strip(), value.strip()


def set_options(settings: type[Settings]) -> Callable[[Command], Command]:
    """--set NAME=VALUE for what has no option of its own, and --help-all, which lists all that can be set."""

    def show(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            formatter = ctx.make_formatter()
            ctx.meta[_ALL] = True
            formatter.write(ctx.get_help() + "\n\n")
            with formatter.section("Settings, by --set NAME=VALUE"):
                formatter.write_dl([(f"{one.name}={one.told_default}", one.spec.help) for one in settings_of(settings)])
            click.echo(formatter.getvalue().rstrip())
            ctx.exit()

    return together(
        click.option(
            "--set",
            "assignments",
            type=Parsed("name=value", assignment),
            multiple=True,
            metavar="NAME=VALUE",
            help="Any other setting; --help-all lists them.",
        ),
        click.option(
            "--help-all",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show,
            help="All options and settings, and exit.",
        ),
    )
