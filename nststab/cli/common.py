"""What the commands share: groups of them, clips and other values, options, progress bars and messages."""

import difflib
import importlib
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from nststab.errors import NststabError
from nststab.listener import Listener, Progress, silent
from nststab.listener import named as named
from nststab.methods.settings import FEED_FORWARD, METHODS
from nststab.settings import did_you_mean
from nststab.storage.folders import nearest_file, refuse_overwriting, require_parent

if TYPE_CHECKING:
    from rich.progress import TaskID

    from nststab.tasks.plan import Plan

Command = TypeVar("Command", bound=Callable[..., Any])
_KEY = "nststab.run"


@dataclass
class RunOptions:
    """What -q, -v and --debug say."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


def run_options(ctx: click.Context | None = None) -> RunOptions:
    """The options of this run; all commands of a call share them."""
    context = (ctx or click.get_current_context()).find_root()
    options: RunOptions = context.meta.setdefault(_KEY, RunOptions())
    return options


class _Console(logging.Handler):
    """Shows what the library logs: notes and what it does, unless -q; details with -v."""

    def __init__(self, options: RunOptions) -> None:
        super().__init__()
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        if self._options.quiet or (record.levelno < logging.INFO and not self._options.verbose):
            return
        note = "note: " if record.levelno == logging.WARNING else ""
        click.echo(note + record.getMessage(), err=True)


@contextmanager
def logged(options: RunOptions) -> Iterator[None]:
    """Shows the library's log on stderr while a command runs."""
    library, console = logging.getLogger("nststab"), _Console(options)
    before = library.level
    library.addHandler(console)
    library.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        library.removeHandler(console)
        library.setLevel(before)


def say(text: str) -> None:
    """A line for the user on stderr, unless -q."""
    if not run_options().quiet:
        click.echo(text, err=True)


def _remember(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        setattr(run_options(ctx), parameter.name or "", True)


VERBOSITY = [
    click.Option(names, is_flag=True, expose_value=False, callback=_remember, help=text)
    for names, text in (
        (("-q", "--quiet"), "No progress, no notes."),
        (("-v", "--verbose"), "Say more about what is done."),
        (("--debug",), "Show the traceback of an error."),
    )
]
"""What every command has."""


# Subscripts of click's types wait for a click 8.4 at least, which nobody else needs.
class NearestChoice(click.Choice):  # type: ignore[type-arg]
    """A choice that answers a misspelt value with the nearest; `plugins` takes one's own `module:callable` too."""

    def __init__(self, choices: Sequence[str], plugins: bool = False) -> None:
        super().__init__(choices)
        self._plugins = plugins

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices and not (self._plugins and ":" in str(value)):
            self.fail(f"{value!r} is not one of its values; {did_you_mean(value, self.choices)}", param, ctx)
        return str(value)


class Parsed(click.ParamType):  # type: ignore[type-arg]
    """What a function makes of a text; its ValueError says what was expected."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except NststabError:  # which says itself what is wrong
            raise
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Commas(click.ParamType):  # type: ignore[type-arg]
    """Values of another type separated by commas, each once; between two commas, and at the end, nothing may stand."""

    def __init__(self, each: "click.ParamType[Any]" = click.STRING) -> None:
        self.name, self._each = each.name, each

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",") if part.strip()]
        if not parts:
            self.fail("none was given", param, ctx)
        return tuple(dict.fromkeys(self._each.convert(part, param, ctx) for part in parts))


def together(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def methods_option(default: str, plugins: bool = False) -> Callable[[Command], Command]:
    """--methods, of those that run where it is not given; `plugins` takes one's own as well."""
    own = ", or your own as module:callable" if plugins else ""
    return click.option(
        "--methods",
        type=Commas(NearestChoice(METHODS, plugins)),
        metavar="METHOD,...",
        default=default,
        show_default=True,
        help=f"Methods, separated by commas: {', '.join(METHODS)}{own}.",
    )


EXISTING = click.Path(exists=True, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class FiniteRange(click.FloatRange):
    """A range without infinity and NaN, which passes every comparison."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return float(number)


POSITIVE = FiniteRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)


workers_options = together(
    click.option("--jobs", type=COUNT, metavar="N", help="Work in so many processes at a time."),
    click.option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster, by its scheduler's tcp://host:port."),
)
network_option = click.option(
    "--method", type=NearestChoice(FEED_FORWARD), default="recurrent", show_default=True, help="Which networks."
)
output_option = click.option("-o", "--output", required=True, metavar="OUT", help="Where the result goes.")
plan_option = click.option("--plan", is_flag=True, help="Only say what it will take: frames, memory, time.")
overwrite_option = click.option("-y", "--yes", is_flag=True, help="Overwrite the output if it exists.")
flow_option = click.option(
    "--flow",
    type=EXISTING_FOLDER,
    metavar="FLODIR",
    help="Read the optical flow from .flo files, forward_1_2.flo and backward_2_1.flo and so on.",
)
device_option = click.option(
    "--device",
    type=NearestChoice(("auto", "cpu", "cuda", "mps")),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
device_options = together(
    device_option,
    click.option(
        "--precision",
        type=NearestChoice(("auto", "float32", "bfloat16", "float16")),
        default="auto",
        show_default=True,
        help="Arithmetic of the networks; auto takes what is fast on the device.",
    ),
)


def given(**values: object) -> dict[str, Any]:
    """The settings that were given on the command line."""
    return {name: value for name, value in values.items() if value is not None}


def refuse_early(output: str | Path, yes: bool, begun: Path | None = None) -> None:
    """Raises what speaks against an output before torch is imported, which takes seconds.

    Where `begun`, by default OUTPUT.unfinished, is there, the job judges: it may be its own work. Who names it makes
    the folder.
    """
    path = Path(output)
    if begun is None:
        require_parent(path)
    if str(output) != STANDARD and path.name and not (begun or path.with_name(f"{path.name}.unfinished")).exists():
        refuse_overwriting(path, yes)


def refuse_clip_early(output: str | Path, yes: bool) -> None:
    """`refuse_early` of a clip or a picture, for which its name must stand as well."""
    from nststab.video.formats import output_kind

    refuse_early(output, yes)
    if str(output) != STANDARD:
        output_kind(output)


def console_listener() -> Listener:
    """Tells of the progress of tasks on stderr, unless -q: as bars on a terminal, else as lines (`_Lines`)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),  # the only one that gives way on a narrow terminal
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}"),
    )
    if run_options().quiet:
        return silent
    if not console.is_terminal:
        return _Lines()
    shown: dict[str, TaskID] = {}
    bars = Bars(*columns, console=console, transient=True)

    def draw(at: Progress) -> None:
        if at.task not in shown:
            shown[at.task] = bars.add_task(at.task, total=at.total, note="")
            bars.start()
        bars.update(shown[at.task], completed=at.done, total=at.total, note=at.note)
        if at.finished:
            bars.remove_task(shown.pop(at.task))
            if not shown:
                bars.stop()

    return draw


class _Lines:
    """Tells of the progress of tasks in a line each now and then: so a log shows that a long job is at work."""

    first, every = 10.0, 60.0  # seconds until the first line of a task, and between later ones

    def __init__(self) -> None:
        self._due: dict[str, float] = {}  # by task
        self._begun: dict[
            str, tuple[float, int]
        ] = {}  # when the first was done, or a run that goes on had done so many

    def __call__(self, at: Progress) -> None:
        now = time.monotonic()
        due = self._due.setdefault(at.task, now + self.first)
        started, before = self._begun.setdefault(at.task, (now, at.done)) if at.done else (now, 0)
        if at.finished:
            del self._due[at.task]
            self._begun.pop(at.task, None)
        elif now >= due:
            self._due[at.task] = now + self.every
            told = f"{at.done}" if at.total is None else f"{at.done} of {at.total}"
            if at.total is not None and at.done > before > 0:
                left = (now - started) / (at.done - before) * (at.total - at.done)
                told += f", about {timedelta(seconds=round(left))} left"
            click.echo(f"{at.task}: {told}{f', {at.note}' if at.note else ''}", err=True)


def say_notes(notes: Sequence[str]) -> None:
    """What the user should know about a result, unless -q."""
    for note in notes:
        say(f"note: {note}")


def show_plan(made: "Plan") -> None:
    """A plan on stdout; exit 1 where the job cannot fit."""
    context = click.get_current_context()
    command: Any = context.command
    click.echo(command.in_flags(made.table()))
    if not made.fits:
        context.exit(1)


def frames_of(count: int) -> str:
    """A number of frames in words: 1 frame, 2 frames."""
    return f"{count} frame{'s' if count != 1 else ''}"


STANDARD = "-"  # standard input, or standard output
_PATTERN = re.compile(r"%\d*d|[*?\[]")


def clip_path(text: str) -> Path:
    """A file or folder that exists, a pattern (frames/%05d.png) or glob of pictures, or - for standard input."""
    path = Path(text)
    if text == STANDARD:
        return path
    if str(path) == STANDARD:  # ./- is a file of this name
        path = path.absolute()
    if not path.exists() and not _PATTERN.search(str(path)):
        raise ValueError(f"Path {text!r} does not exist{nearest_file(path)}")
    if path.exists() and not os.access(path, os.R_OK):
        raise ValueError(f"Path {text!r} is not readable.")
    return path


CLIP_PATH = Parsed("path", clip_path)


def existing_styles(text: str) -> str:
    """A style, or several with commas between, each of which must be there: torch need not be waited for to say so."""
    from nststab.styles.shipped import require_styles

    require_styles(text)
    return text


STYLE = Parsed("style", existing_styles)


def name_of(output: str) -> str:
    """What messages call the output."""
    return "standard output" if output == STANDARD else output


class NearestGroup(click.Group):
    """A group that answers a misspelt command with the nearest (only newer versions of click do so themselves)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += VERBOSITY

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
        package: whose modules hold the commands.
        summaries: the short help of each command, in order; reading it from the commands would import them all.
        title: what the commands are called in the help.
    """

    package: ClassVar[str]
    summaries: ClassVar[Mapping[str, str]]
    title: ClassVar[str] = "Commands"

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return self.load(cmd_name) if cmd_name in self.summaries else None

    def load(self, name: str) -> click.Command:
        """The command of a name that `summaries` has."""
        command: click.Command = importlib.import_module(f"{self.package}.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section(self.title):
            formatter.write_dl(list(self.summaries.items()))
