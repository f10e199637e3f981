"""--html of the commands that compare clips: its options, and the command that made a report."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from nststab.cli.common import together
from nststab.cli.options import gathered, settings_options
from nststab.report.settings import ReportSettings, check_report
from nststab.settings import Settings, group
from nststab.storage.folders import refuse_overwriting


@dataclass(frozen=True)
class _Html(Settings):
    html: ReportSettings = group(ReportSettings)


html_options = together(
    click.option("--html", metavar="FILE", help="Write a report to look at: one file with clips, curves and pictures."),
    settings_options(_Html, "html.size", "html.seconds", html_size="--html-size", html_seconds="--html-seconds"),
)
"""Of which `report_settings` makes the settings."""


def check_html(options: Mapping[str, Any], read: Iterable[Path] = (), made: Path | None = None) -> None:
    """Raises a usage error where the report cannot be written, or one of its options says nothing.

    read: what the command reads. made: a folder that it will make.
    """
    if options["html"] is None:
        for name in ("html_size", "html_seconds"):
            if options[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} has no effect without --html")
        return
    check_report(options["html"], read, made)
    refuse_overwriting(Path(options["html"]), options["yes"])


def report_settings(options: Mapping[str, Any]) -> ReportSettings:
    """What the options of --html say, and the command itself."""
    context = click.get_current_context()
    asked = gathered(_Html, options).html
    return replace(asked, maker=context.command_path, command=_command_line(context))


def _command_line(context: click.Context) -> str:
    """The command as it was given, files by their names alone: where they lie is nobody's business."""
    words = [context.command_path]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        if context.get_parameter_source(name) != click.core.ParameterSource.COMMANDLINE or value is None:
            continue
        values = value if parameter.multiple or parameter.nargs != 1 else [value]
        for one in values:
            if isinstance(parameter, click.Option):
                words.append(max(parameter.opts, key=len))
            if not (isinstance(parameter, click.Option) and parameter.is_flag):
                separator = "x" if parameter.name == "raw_size" else ","
                words.append(shlex.quote(_plain(one, separator)))
    return " ".join(words)


def _plain(value: Any, separator: str = ",") -> str:
    if isinstance(value, Mapping):
        return separator.join(f"{name}={_plain(part)}" for name, part in value.items())
    if isinstance(value, tuple | list):
        return separator.join(map(_plain, value))
    if isinstance(value, Fraction | float):
        return f"{float(value):.10g}"
    if isinstance(value, Path):
        return value.name or "."
    text = str(value)
    if "/" not in text:
        return text
    from nststab.styles.shipped import parted, style_names

    return ",".join(part if part in style_names() else Path(part).name for part in parted(text))
