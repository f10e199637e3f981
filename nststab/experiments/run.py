"""An experiment at work: its folder with finished parts, what identifies it, and what it leaves."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nststab.cli.common import OPTIMISERS, Setting, print_table
from nststab.errors import SettingError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nststab.baselines.gatys import Keep
    from nststab.datasets.folders import DavisSequence
    from nststab.experiments.figures import Draw
    from nststab.experiments.results import Parts
    from nststab.methods.build import Machine
    from nststab.storage.tables import Row, Table
    from nststab.styles.source import StyleSource

T = TypeVar("T")
_FILES = ("results.json", "table.md", "figure.png", "figure.svg")
_UNFINISHED = "unfinished"
_NO_SETTINGS = ("output", "yes", "flow_cache", "html", "html_size", "html_seconds")  # they change no figure
_BY_CONTENT = ("styles", "davis")  # the experiment says what these hold
_RESOLVED = ("device", "precision")  # by the machine
_PERCEPTUAL = ("network", "vgg_weights")  # one setting together
_OF_OPTIMISERS = ("iterations", "flow_method")


@dataclass(frozen=True)
class Run:
    """An experiment's folder, and its parts that are finished."""

    experiment: str
    folder: Path
    parts: "Parts"
    shown: Path
    """A folder for the frames of a report, which goes with the unfinished parts."""
    settings: Mapping[str, Any]
    seed: int

    def get(self, part: str, method: str, compute: "Callable[[Keep | None], T]") -> T:
        """A finished part, or what `compute` gives.

        For an optimisation, which may take hours, it gets what keeps each frame's result until the part is finished.
        One part at a time: frames that another one left are removed.
        """
        if method not in OPTIMISERS or self.parts.done(part):
            return self.parts.get(part, lambda: compute(None))
        with self.keeping(part) as keep:
            return self.parts.get(part, lambda: compute(keep))

    @contextmanager
    def keeping(self, part: str) -> "Iterator[Keep]":
        """What keeps each frame's result of an optimisation until the block ends well."""
        from nststab.storage.jobs import open_job

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
        from nststab.experiments.figures import drawing
        from nststab.experiments.results import Results

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
        shown.add_column(column, justify="right" if index else "left", overflow="fold")  # cut off, figures mislead
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

    Raises a usage error where results stand already, no unfinished parts beside them, and -y was not said; and where
    the unfinished parts are of other settings.
    """
    from nststab.experiments.results import Parts
    from nststab.storage.jobs import OtherSettings, begun, open_job
    from nststab.storage.tables import versions

    if not options["output"]:  # such as a shell's variable that is not set; Path would take it for the current folder
        raise SettingError("-o: expected a folder, got an empty name")
    folder = Path(options["output"])
    # unfinished parts beside results are those of a run that went wrong after them, with its report
    if (folder / "results.json").exists() and not begun(folder / _UNFINISHED) and not options["yes"]:
        raise SettingError(f"{folder} holds results; say -y to overwrite them")
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"-o {folder}: expected a folder, a file stands there")
    said = decided(options, where) | settings
    folder.mkdir(parents=True, exist_ok=True)
    try:
        job = open_job(folder / _UNFINISHED, {"experiment": name, **said, "versions": versions()}, options["yes"])
    except OtherSettings as error:
        raise SettingError(f"{error}; say -y to begin afresh") from error
    with job:
        (folder / "results.json").unlink(missing_ok=True)  # from now on the folder holds no finished results
        if job.resumed and job.has_results:
            log.info("going on: finished parts were kept")
        try:
            yield Run(name, folder, Parts(job.subfolder("parts")), job.subfolder("shown"), said, options["seed"] or 0)
        except BaseException as error:
            if not job.has_results:
                job.finish()
                if not any(folder.iterdir()):
                    folder.rmdir()
            elif isinstance(error, Exception):
                error.add_note(f"finished parts are kept in {job.folder}, and the same command goes on")
            else:
                log.info(f"finished parts are kept in {job.folder}, and the same command goes on")
            raise
        job.finish()
    for file in _FILES:
        log.info(str(folder / file))


def decided(options: Mapping[str, Any], where: "Machine | None" = None) -> dict[str, Any]:
    """The options that decide the figures, as JSON values, files by name and content.

    What was not given has its default, in the words of the help where that is no value.
    """
    said: dict[str, Any] = {}
    declared = {parameter.name: parameter for parameter in click.get_current_context().command.params}
    elsewhere = {*_NO_SETTINGS, *_BY_CONTENT, *_RESOLVED, *_PERCEPTUAL}
    if not set(options.get("methods", ())) & set(OPTIMISERS):
        elsewhere.update(_OF_OPTIMISERS)
    for name, value in options.items():
        option = declared.get(name)
        chosen = option.told_default if value is None and isinstance(option, Setting) else value
        if name not in elsewhere and chosen is not None:
            said[name] = [_json(part) for part in chosen] if isinstance(chosen, tuple | list) else _json(chosen)
    if set(_PERCEPTUAL) <= set(options):
        from nststab.networks.perceptual import perceptual_name

        said["perceptual_network"] = perceptual_name(options)
    if where is not None:
        import torch

        said |= {"device": where.device.type, "precision": where.precision, "threads": torch.get_num_threads()}
    return said


def _json(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)


def digests(styles: "Mapping[str, StyleSource]", methods: Iterable[str]) -> dict[str, str]:
    """Of each style the content of the files that decide its figures, for `experiment(..., styles=...)`."""
    from nststab.storage.jobs import content_hash

    result = {}
    for name, source in styles.items():
        files = [file for file in (source.picture, source.shipped, source.targets) if file]
        if source.checkpoint:
            paths = {source.checkpoint(method) for method in (*methods, "independent")}
            files += sorted(path for path in paths if path.is_file())
        result[name] = content_hash(files)
    return result


def davis_digest(sequences: "Sequence[DavisSequence]", limit: int | None) -> str:
    """Of the content of all frames and masks that are read, for `experiment(..., davis=...)`."""
    from nststab.storage.jobs import content_hash

    return content_hash([file for sequence in sequences for file in sequence.files(limit)])
