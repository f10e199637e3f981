"""What the experiments share: their options, the folder of their results, and what is said before they begin."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import nststab
from nststab.cli.common import (
    EXISTING_FOLDER,
    METHODS,
    Names,
    flow_cache_option,
    flow_method_option,
    given,
    network_option,
    output_option,
    overwrite_option,
    print_table,
    say,
    seed_option,
    setting,
    vgg_option,
)
from nststab.cli.optimizing import Iterations

if TYPE_CHECKING:
    from nststab.baselines.gatys import Keep
    from nststab.cli.build import Machine, OptimizerOptions
    from nststab.cli.style_source import StyleSource
    from nststab.datasets import DavisSequence
    from nststab.evaluate.figures import Draw
    from nststab.evaluate.results import Parts, Row, Table
    from nststab.stylizer import Stylizer

Command = TypeVar("Command", bound=Callable[..., Any])
_FILES = ("results.json", "table.md", "figure.png", "figure.svg")
_UNFINISHED = "unfinished"
_NO_SETTINGS = {"output", "yes", "plan", "flow_cache"}  # they change no figure
_PROBE_SECONDS = 3.0


class StyleNames(click.ParamType):  # type: ignore[type-arg]
    """Styles separated by commas: shipped ones by name; pictures, checkpoints and folders of checkpoints by path."""

    name = "styles"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:  # noqa: ARG002
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))


styles_option = setting(
    "--styles",
    "all that are shipped",
    "Styles, separated by commas: names, pictures, checkpoints, folders with a checkpoint of each method.",
    StyleNames(),
    "STYLE,...",
)
methods_option = click.option(
    "--methods",
    type=Names(METHODS),
    metavar="METHOD,...",
    default="independent,recurrent",
    show_default=True,
    help=f"Methods, separated by commas: {', '.join(METHODS)}.",
)
limit_option = setting("--limit", "all", "Frames of each clip.", click.IntRange(min=2), "N")


def davis_options(command: Command) -> Command:
    """--davis and --sequences, of which `davis_sequences` takes the values."""
    command = setting("--sequences", "all", "Sequences of DAVIS, separated by commas.", StyleNames(), "SEQUENCE,...")(
        command
    )
    return click.option(
        "--davis",
        type=EXISTING_FOLDER,
        required=True,
        metavar="DIR",
        help="DAVIS 2016: the folder with JPEGImages and Annotations.",
    )(command)


def davis_sequences(davis: Path, names: Sequence[str] | None, size: int) -> "list[DavisSequence]":
    """The sequences of DAVIS, all by default, scaled to a longest side; a usage error for one that is not there."""
    from nststab.datasets import DavisSequence

    there = sorted(path.name for path in (davis / "JPEGImages" / "480p").glob("*/"))
    if not there:
        raise click.UsageError(f"--davis {davis}: expected DAVIS, with sequences in JPEGImages/480p, found none")
    if names is None:
        names = there
    if not names:
        raise click.UsageError("--sequences names none")
    for name in names:
        if name not in there:
            raise click.UsageError(f"{davis} has no DAVIS sequence {name!r}; there is: {', '.join(there)}")
    return [DavisSequence(davis, name, size) for name in names]


def size_option(default: object) -> Callable[[Command], Command]:
    """--size, the longest side of the frames."""
    return setting("--size", default, "Longest side of the frames in pixels.", click.IntRange(min=16), "PIXELS")


_OPTIMIZING = (
    setting(
        "--iterations",
        "500,150",
        "ruder and gatys: iterations of each first frame, and of ruder's later ones.",
        Iterations(),
    ),
    flow_method_option,
    flow_cache_option,
    network_option,
    vgg_option,
)
_OUTPUT = (seed_option, output_option, overwrite_option)


def optimizing_options(command: Command) -> Command:
    """--iterations, --flow-method, --flow-cache, --network and --vgg-weights, of which `optimizer_of` takes the values.

    The last two also choose the network that style and content losses are measured with.
    """
    for option in reversed(_OPTIMIZING):
        command = option(command)
    return command


def output_options(command: Command) -> Command:
    """--seed, -o and -y."""
    for option in reversed(_OUTPUT):
        command = option(command)
    return command


def optimizer_of(options: Mapping[str, Any]) -> "OptimizerOptions":
    """What `optimizing_options` gave."""
    from nststab.cli.build import OptimizerOptions
    from nststab.cli.flow_source import flow_source

    return OptimizerOptions(
        loop=given(seed=options["seed"]),
        iterations=options["iterations"],
        network=options["network"],
        vgg_weights=options["vgg_weights"],
        flow=flow_source(None, options["flow_method"], options["flow_cache"]),
    )


@dataclass(frozen=True)
class Candidate:
    """A style by a method: what an experiment measures. `style` is its name in the rows."""

    style: str
    method: str
    source: "StyleSource"
    where: "Machine"
    optimizer: "OptimizerOptions"

    @property
    def name(self) -> str:
        return f"{self.style} {self.method}"

    def stylizer(
        self,
        longest_side: int,
        report: "Callable[[int, dict[str, float]], None] | None" = None,
        keep: "Keep | None" = None,
    ) -> "Stylizer":
        """Built for frames of a longest side; `report` gets every iteration of an optimisation, `keep` its result."""
        from nststab.cli.build import stylizer

        return stylizer(self.method, self.source, self.optimizer, longest_side, self.where, report, keep)


def sources(styles: Sequence[str] | None) -> "dict[str, StyleSource]":
    """The styles by their names in the rows; all shipped ones by default. A usage error where two have one name."""
    from nststab.assets import styles as shipped
    from nststab.cli.style_source import style_source

    found: dict[str, StyleSource] = {}
    for text in styles if styles is not None else [style.name for style in shipped()]:
        name = Path(text).stem
        if name in found:
            raise click.UsageError(f"--styles has two that are called {name}")
        found[name] = style_source(text)
    if not found:
        raise click.UsageError("--styles names none")
    return found


def candidates(
    styles: "Mapping[str, StyleSource]", methods: Sequence[str], where: "Machine", optimizer: "OptimizerOptions"
) -> list[Candidate]:
    """Every style by every method, style by style; a usage error at once where one has no network for a method."""
    from nststab.cli.build import FEED_FORWARD

    for source in styles.values():
        for method in set(methods) & set(FEED_FORWARD):
            source.trained(method)
    return [Candidate(name, method, source, where, optimizer) for name, source in styles.items() for method in methods]


@dataclass(frozen=True)
class Run:
    """An experiment at work: its folder, and its parts that are finished."""

    experiment: str
    folder: Path
    parts: "Parts"
    settings: Mapping[str, Any]
    seed: int

    @contextmanager
    def keeping(self, part: str) -> "Iterator[Keep]":
        """For the optimisations of a part, which may take hours: each frame's result is kept until the block ends well.

        One part at a time: what another one left is removed.
        """
        from nststab.jobs import open_job

        with open_job(self.folder / _UNFINISHED / "frames", {"part": part}, restart=True) as job:
            try:
                yield job.keep
            except BaseException:
                if not job.has_results:
                    job.finish()
                raise
            job.finish()

    def finish(
        self,
        rows: "Sequence[Row]",
        table: "Table",
        draw: "Draw",
        figure_inches: tuple[float, float] = (7.0, 4.0),
        **more: Any,
    ) -> None:
        """Writes table, figure and results, the last of which says that all is there; prints the table."""
        from nststab.evaluate.figures import drawing
        from nststab.evaluate.results import Results

        with drawing(self.folder, "figure", *figure_inches) as figure:
            draw(figure)
        (self.folder / "table.md").write_text(table.markdown(), "utf-8")
        Results(self.experiment, self.settings, self.seed, rows, more).write(self.folder)
        show(table)


def show(table: "Table") -> None:
    """The table on stdout."""
    from rich.box import SIMPLE
    from rich.table import Table as RichTable

    shown = RichTable(title=table.title, title_justify="left", box=SIMPLE, pad_edge=False)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in table.rows:
        shown.add_row(*row)
    print_table(shown)
    if table.note:
        click.echo(table.note)


@contextmanager
def experiment(name: str, options: Mapping[str, Any], where: "Machine | None" = None, **settings: Any) -> Iterator[Run]:
    """The folder -o of an experiment, begun or gone on with; its unfinished parts go when the block ends well.

    options: of the command, by click's names. where: the machine, if its arithmetic decides the figures. settings: what
    decides them beside the options, JSON values: `styles` with a digest of each, names of sequences, ...

    Raises a usage error where results stand already and -y was not said, or the unfinished parts are of other settings.
    """
    from nststab.evaluate.results import Parts
    from nststab.jobs import OtherSettings, open_job

    folder = Path(options["output"])
    if (folder / "results.json").exists() and not options["yes"]:
        raise click.UsageError(f"{folder} holds results; say -y to overwrite them")
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"-o {folder}: expected a folder, a file stands there")
    said = decided(options, where) | settings
    folder.mkdir(parents=True, exist_ok=True)
    try:
        job = open_job(
            folder / _UNFINISHED, {"experiment": name, **said, "nststab": nststab.__version__}, options["yes"]
        )
    except OtherSettings as error:
        raise click.UsageError(f"{error}; say -y to begin afresh") from error
    with job:
        (folder / "results.json").unlink(missing_ok=True)  # from now on the folder holds no finished results
        if job.resumed and job.has_results:
            say("going on: finished parts were kept")
        try:
            yield Run(name, folder, Parts(job.subfolder("parts")), said, options["seed"] or 0)
        except BaseException as error:
            if not job.has_results:
                job.finish()
                if not any(folder.iterdir()):
                    folder.rmdir()
            elif isinstance(error, Exception):
                error.add_note(f"finished parts are kept in {job.folder}, and the same command goes on")
            else:
                say(f"finished parts are kept in {job.folder}, and the same command goes on")
            raise
        job.finish()
    for file in _FILES:
        say(str(folder / file))


def decided(options: Mapping[str, Any], where: "Machine | None" = None) -> dict[str, Any]:
    """The options that decide the figures, as JSON values: files by name and content, what was not given left out."""
    said: dict[str, Any] = {}
    for name, value in options.items():
        if name in _NO_SETTINGS or value is None or name in ("device", "precision", "styles", "davis"):
            continue
        said[name] = [_json(part) for part in value] if isinstance(value, tuple | list) else _json(value)
    if where is not None:
        import torch

        said |= {"device": where.device.type, "precision": where.precision, "threads": torch.get_num_threads()}
    return said


def _json(value: Any) -> Any:
    from nststab.jobs import content_hash

    if isinstance(value, Path):
        return f"{value.name} ({content_hash(value)})" if value.is_file() else value.name
    return value if isinstance(value, bool | int | float | str) else str(value)


def digests(styles: "Mapping[str, StyleSource]", methods: Iterable[str]) -> dict[str, str]:
    """Of each style the content of the files that decide its figures, for `experiment(..., styles=...)`."""
    from nststab.jobs import content_hash

    result = {}
    for name, source in styles.items():
        files = [source.picture] if source.picture else []
        if source.checkpoint:
            paths = {source.checkpoint(method) for method in (*methods, "independent")}
            files += sorted(path for path in paths if path.is_file())
        result[name] = content_hash([file for file in files if file])
    return result


def announce(work: "Sequence[tuple[Candidate, int, int]]", width: int, height: int) -> None:
    """Says what is about to be stylized and how long it will take, after a short probe of each method.

    work: of each candidate the frames that are not finished yet, and the clips that they belong to (their first frames
    take an optimiser longer).
    """
    from nststab.cli.planning import duration

    total = sum(frames for _, frames, _ in work)
    if not total:
        return
    seconds = 0.0
    for method in dict.fromkeys(candidate.method for candidate, frames, _ in work if frames):
        own = [(candidate, frames, clips) for candidate, frames, clips in work if candidate.method == method]
        first, later = seconds_of(own[0][0], width, height)
        seconds += sum(clips * first + (frames - clips) * later for _, frames, clips in own)
    say(f"{total} frames of {width}x{height} to stylize, about {duration(seconds)} on this machine")


def seconds_of(candidate: Candidate, width: int, height: int) -> tuple[float, float]:
    """Seconds of a first and of a later frame, from a short probe at that size or below."""
    from nststab.cli.planned_jobs import frame_seconds
    from nststab.plan import probe

    def measure(across: int, down: int) -> Any:
        return frame_seconds(candidate.method, candidate.source, candidate.optimizer, candidate.where, across, down)

    measured = probe(measure, width, height, budget=_PROBE_SECONDS, device=candidate.where.device)
    return measured.seconds.first, measured.seconds.later
