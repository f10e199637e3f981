"""The one runner of all experiments: it finds their parts, measures those that are missing, keeps and resumes them."""

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from nststab.baselines.gatys import Keep
from nststab.errors import SettingError
from nststab.experiments import paper
from nststab.experiments.figures import drawing
from nststab.experiments.settings import ExperimentSettings
from nststab.listener import Advance, Listener, named, reported, silent
from nststab.storage.durable import write_durably
from nststab.storage.folders import refuse_overwriting
from nststab.storage.jobs import Job, OtherSettings, begun, open_job
from nststab.storage.tables import Json, Row, Table, versions, without_nan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
log = logging.getLogger(__name__)
_FILES = ("results.json", "table.md", "figure.png", "figure.svg")
_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Part:
    """A piece of an experiment that is finished or not at all.

    Attributes:
        name: unlike those of all other parts.
        data: what `Experiment.measure` understands; it pickles, as the experiment does.
        style, method: what stylizes, for the estimate; empty where nothing does.
        frames: how many it stylizes, in so many `shots`, whose first frames take an optimiser longer.
        losses: how many pictures have their losses measured.
        size: width and height of the frames.
    """

    name: str
    data: Any = None
    style: str = ""
    method: str = ""
    frames: int = 1
    shots: int = 1
    losses: int = 0
    size: tuple[int, int] = (0, 0)


class Work:
    """What the measurement of a part can use: it counts frames for the listener, and keeps what takes long.

    Attributes:
        shown: a folder for pictures of a report, None where this process has none.
    """

    def __init__(self, folder: Path, part: str = "", advance: Advance | None = None, done: int = 0) -> None:
        self._folder = folder if folder.is_dir() else None
        self._part = part
        self._advance = advance
        self._done = done
        self.shown = None if self._folder is None else self._folder / "shown"

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        """Lets a stream through, and counts what has passed in all streams."""
        for item in items:
            self._done += 1
            if self._advance is not None:
                self._advance(self._done)
            yield item

    def iteration(self, number: int, terms: Mapping[str, float]) -> None:
        """Tells the listener the terms of an optimisation's iteration."""
        if self._advance is not None:
            self._advance(note=f"{number}: {named(terms)}")

    def of(self, part: str) -> "Work":
        """The work of another part."""
        return Work(self._folder or Path(), part)

    def finished(self, part: str) -> Json:
        """What a finished part gave."""
        assert self._folder is not None
        return Parts(self._folder / "parts").get(part)

    @contextmanager
    def keeping(self) -> Iterator[Keep | None]:
        """What keeps each frame's result of an optimisation until the block ends well: a killed part resumes."""
        if self._folder is None:
            yield None
            return
        folder = self._folder / "frames"
        folder.mkdir(exist_ok=True)
        with open_job(folder / _file_name(self._part), {"part": self._part}, restart=True) as job:
            try:
                yield job.keep
            except BaseException:
                if not job.has_results:
                    job.finish()
                raise
            job.finish()


class Experiment(ABC):
    """A table or figure: settings, parts, how a part is measured, and what is made of the measurements.

    Its objects pickle. A new experiment is a class of this kind and a function that gives it to `run`; the command line
    makes its command from the settings.
    """

    name: str
    settings: ExperimentSettings
    shape = (7.0, 4.0)
    """Width and height of the figure in inches."""

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made of the rest where it is asked for."""
        made = {name for kind in type(self).__mro__ for name, one in vars(kind).items() if type(one) is cached_property}
        return {name: value for name, value in vars(self).items() if name not in made}

    @abstractmethod
    def identity(self) -> Mapping[str, Json]:
        """What decides the figures, the settings among it: contents of files, not their places."""

    @abstractmethod
    def parts(self, found: Mapping[str, Json]) -> Sequence[Part]:
        """The parts that can be measured now; asked again when they are, until there are no others."""

    @abstractmethod
    def measure(self, part: Part, work: Work) -> Json:
        """What a part gives, in any process: JSON values, NaN among them."""

    @abstractmethod
    def rows(self, found: Mapping[str, Json]) -> Sequence[Row]:
        """The rows of the results, from what was measured by the parts' names."""

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> Mapping[str, Json]:  # noqa: ARG002
        """What stands beside the rows in results.json, such as a fitted line."""
        return {}

    @abstractmethod
    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:
        """The table for people."""

    @abstractmethod
    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:
        """Draws into an empty figure."""

    def inches(self, rows: Sequence[Row]) -> tuple[float, float]:  # noqa: ARG002
        """`shape`, unless that depends on the rows."""
        return self.shape

    def announce(self, parts: Sequence[Part]) -> None:  # noqa: ARG002
        """Logs what is about to be measured, and how long it will take."""
        return


@dataclass(frozen=True)
class Results:
    """What an experiment found. `rows` and `more` hold JSON values; in results.json a NaN is null.

    Attributes:
        settings: what decides the figures, without places on this machine.
        more: what this experiment alone has beside its rows.
        folder: where the files are.
    """

    experiment: str
    settings: Mapping[str, Json]
    seed: int
    rows: Sequence[Row]
    more: Mapping[str, Json]
    folder: Path
    shown: Table = field(repr=False)

    def table(self) -> str:
        """The table as text in columns."""
        return self.shown.text()

    def markdown(self) -> str:
        """The table in GitHub's Markdown, and below it what the paper has and why ours differ."""
        return "\n".join(part for part in (self.shown.markdown(), paper.beside(self.experiment)) if part)

    def json(self) -> dict[str, Json]:
        """What results.json holds, with the versions of the packages that computed it."""
        content = {"experiment": self.experiment, "settings": self.settings, "seed": self.seed}
        found: dict[str, Json] = without_nan({**content, "versions": versions(), "rows": self.rows, **self.more})
        return found

    def write(self, experiment: Experiment) -> None:
        """Writes figure, table and results.json, the last of which says that all is there."""
        with drawing(self.folder, "figure", *experiment.inches(self.rows)) as figure:
            experiment.draw(figure, self.rows, self.more)
        write_durably(self.folder / "table.md", self.markdown().encode(errors="backslashreplace"))
        text = json.dumps(self.json(), indent=1, allow_nan=False)
        write_durably(self.folder / "results.json", text.encode() + b"\n")


class Parts:
    """The finished parts of an experiment, in files of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> Json | None:
        """A finished part, None where it was not finished; its floats are exact, NaN included."""
        with suppress(FileNotFoundError, ValueError):
            return json.loads(self._path(name).read_text("utf-8"))
        return None

    def put(self, name: str, value: Json) -> None:
        """Keeps a part. Raises OSError where it cannot be written."""
        write_durably(self._path(name), json.dumps(value).encode())

    def _path(self, name: str) -> Path:
        return self._folder / f"{_file_name(name)}.json"


def _file_name(name: str) -> str:
    """Readable, and different for names that differ."""
    readable = re.sub(r"[^\w.-]+", "_", name)[:100]
    return f"{readable}-{blake2b(name.encode(errors='surrogateescape'), digest_size=4).hexdigest()}"


def run(
    experiment: Experiment,
    output: str | Path,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
    finished: Callable[[Results, Work], None] | None = None,
) -> Results:
    """Measures what is missing of an experiment and writes `output`: results.json, table.md, figure.png, figure.svg.

    Finished parts are kept in `output` until all is written: after a kill the same call resumes. executor: where parts
    are measured; in this process by default. finished: what is done with the results before the kept parts go.

    Raises SettingError where `output` holds results and `overwrite` is not set, and where parts are kept that belong to
    other settings; NststabError for what cannot be measured.
    """
    identity = {**experiment.identity(), "seed": experiment.settings.seed}
    with _opened(experiment.name, identity, output, overwrite) as job:
        parts = Parts(job.subfolder("parts"))
        found: dict[str, Json] = {}
        job.subfolder("shown")
        while todo := [part for part in experiment.parts(found) if part.name not in found]:
            kept = {part.name: value for part in todo if (value := parts.get(part.name)) is not None}
            missing = [part for part in todo if part.name not in kept]
            experiment.announce(missing)
            with reported(progress, experiment.name, sum(part.frames for part in missing)) as advance:
                for part, value in _measured(experiment, missing, job.folder, executor, advance):
                    parts.put(part.name, value)
                    kept[part.name] = json.loads(json.dumps(value))  # as one that was kept: lists for tuples
            found |= {part.name: kept[part.name] for part in todo}
        rows = experiment.rows(found)
        more = experiment.more(rows, found)
        said = {name: value for name, value in identity.items() if name != "seed"}
        seed = experiment.settings.seed
        folder = job.folder.parent
        results = Results(experiment.name, said, seed, rows, more, folder, experiment.table(rows, more))
        results.write(experiment)
        if finished is not None:
            finished(results, Work(job.folder))
    for file in _FILES:
        log.info(str(results.folder / file))
    return results


def _measured(
    experiment: Experiment, parts: Sequence[Part], folder: Path, executor: Executor | None, advance: Advance
) -> Iterator[tuple[Part, Json]]:
    """The parts with what they give, in the order in which they are finished."""
    done = 0
    if executor is None:
        for part in parts:
            advance(note=part.name)
            yield part, experiment.measure(part, Work(folder, part.name, advance, done))
            done += part.frames
            advance(done)
        return
    threads = torch.get_num_threads()
    futures = {executor.submit(_measure, experiment, part, folder, threads): part for part in parts}
    error: BaseException | None = None
    try:
        for future in as_completed(tuple(futures)):
            if (error := future.exception()) is not None:
                break
            part = futures.pop(future)
            yield part, future.result()
            done += part.frames
            advance(done, note=part.name)
    finally:
        running = [future for future in futures if not future.cancel()]
    if error is not None:
        for future in as_completed(running):  # what has begun is kept, too
            if future.exception() is None:
                yield futures[future], future.result()
        raise error


def _measure(experiment: Experiment, part: Part, folder: Path, threads: int) -> Json:
    """A part in another process, with as many threads, on which figures depend in their last digits."""
    torch.set_num_threads(threads)
    return experiment.measure(part, Work(folder, part.name))


@contextmanager
def _opened(name: str, identity: Mapping[str, Json], output: str | Path, overwrite: bool) -> Iterator[Job]:
    """The job of an experiment, begun or resumed; it goes when the block ends well, or nothing was finished."""
    if not str(output):  # such as a shell's variable that is not set; Path would take it for the current folder
        raise SettingError("output: expected a folder, got an empty name")
    folder = Path(output)
    # unfinished parts beside results are those of a run that went wrong after them, with its report
    refuse_overwriting(folder / "results.json", overwrite or begun(folder / _UNFINISHED))
    if folder.exists() and not folder.is_dir():
        raise SettingError(f"output: {folder}: expected a folder, a file stands there")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        job = open_job(folder / _UNFINISHED, {"experiment": name, **identity, "versions": versions()}, overwrite)
    except OtherSettings as error:
        raise SettingError(f"{error}; say overwrite=True to begin afresh") from error
    with job:
        (folder / "results.json").unlink(missing_ok=True)  # from now on the folder holds no finished results
        if job.resumed and job.has_results:
            log.info("resuming: finished parts were kept")
        try:
            yield job
        except BaseException as error:
            kept = f"finished parts are kept in {job.folder}, and the same command resumes"
            if not any(path.is_file() for path in job.folder.glob("*/**/*")):
                job.finish()
                if not any(folder.iterdir()):
                    folder.rmdir()
            elif isinstance(error, Exception):
                error.add_note(kept)
            else:
                log.info(kept)
            raise
        job.finish()
