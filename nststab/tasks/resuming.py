"""Going on from what a killed run has left, for the commands that take hours."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

import nststab
from nststab.cli.common import Setting, frames_of
from nststab.errors import SettingError
from nststab.storage.durable import sync
from nststab.storage.jobs import Job, OtherSettings, content_hash, open_job, unfinished
from nststab.video.clip import Clip, check_output
from nststab.video.images import remove_parts

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from nststab.baselines.gatys import Keep

# options that change nothing in what is kept; what device and precision become counts, under a name of its own
_NO_SETTINGS = {"output", "yes", "no_audio", "flow_cache", "device", "precision", "plan"}


@dataclass(frozen=True)
class Work:
    """A clip in work: where to write it, and the job that remembers it, if it can be gone on with."""

    output: str
    job: Job | None = None
    frames: int = 0
    """How many were finished before."""

    @property
    def keep(self) -> "Keep | None":
        """For the optimisations of a baseline."""
        return self.job.keep if self.job else None

    def progress(self, frames: int) -> None:
        """So many frames are finished."""
        if self.job is not None and frames > self.frames:
            self.job.progress(frames)


def settings_of(
    clip: Clip, options: Mapping[str, Any], styles: tuple[str, ...] = (), **others: object
) -> dict[str, Any]:
    """All that the result of a command depends on, as JSON values: options, contents of files, version.

    An option with its default as its value counts as not given.
    """
    context = click.get_current_context(silent=True)
    settings = {param.name: param for param in context.command.params} if context else {}
    said: dict[str, object] = {}
    for name, value in options.items():
        option = settings.get(name)
        if name in _NO_SETTINGS or value is None or (isinstance(option, Setting) and option.is_default(value)):
            continue
        said[name] = _identified(value)
    source = f"{clip.path.name} ({content_hash(clip.pictures or clip.path)})"
    style = {"style": _identified(styles)} if styles else {}
    return {**others, **style, "input": source, **said, "nststab": nststab.__version__}


def _identified(value: Any) -> Any:
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_file()):
        return f"{Path(value).name} ({content_hash(Path(value))})"
    if isinstance(value, str) and value.startswith("style:"):
        return f"style:{_identified(value.removeprefix('style:'))}"
    if isinstance(value, tuple):
        return [_identified(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def comes_again(clip: Clip) -> bool:
    """Whether the clip can be read a second time, unlike what comes through a pipe."""
    return bool(clip.pictures) or clip.path.is_file()


@contextmanager
def resumable(clip: Clip, output: str, settings: Mapping[str, Any], yes: bool) -> Iterator[Work]:
    """The work of `stylize` on a clip: a file is made in the job's folder, and moved to `output` when all went well."""
    path, whole = Path(output), check_output(clip, output) != "folder"
    with going_on(path, settings, yes, fills=not whole) as job:
        work = Work(str(job.folder / path.name) if whole else output, job, job.frames)
        yield work
        sync(Path(work.output))  # before what it could be made from again is removed
        if whole:
            job.allow_overwriting()
            os.replace(work.output, path)


@contextmanager
def going_on(output: Path, settings: Mapping[str, Any], yes: bool, fills: bool) -> Iterator[Job]:
    """The job that makes `output`, begun or gone on with; removed when the block ends well, or nothing was kept.

    `fills` says that the output is a folder to which the block adds file by file. Call `refuse_overwriting` before.

    Raises a usage error that names what differs where the unfinished work is of other settings, unless `yes`.
    """
    try:
        job = open_job(unfinished(output), settings, restart=yes)
    except OtherSettings as error:
        raise SettingError(f"{error}; say -y to begin afresh") from error
    if output.is_dir():
        remove_parts(output)
    with job:
        if job.resumed and job.has_results:
            finished = f"{frames_of(job.frames)} {'was' if job.frames == 1 else 'were'} finished"
            log.info(f"going on: {finished if job.frames else 'the first frame was begun'}")
        try:
            if fills or output.exists():
                job.allow_overwriting()
            yield job
        except BaseException as error:
            _leave(job, error)
            raise
        job.finish()


def _leave(job: Job, error: BaseException) -> None:
    """Say how to go on, with the error where it is shown; leave nothing behind where nothing was done."""
    if not job.has_results:
        job.finish()
        return
    text = f"what is finished is kept in {job.folder}, and the same command goes on"
    if isinstance(error, Exception):
        error.add_note(text)
    else:
        log.info(text)


@contextmanager
def passes_folder(job: Job | None, passes: int) -> Iterator[Path | None]:
    """Where several passes keep a clip: in its job, or, where there is none, in a folder that goes with the process."""
    if passes == 1:
        yield None
    elif job is not None:
        yield job.subfolder("passes")
    else:
        with TemporaryDirectory(prefix="nststab_") as folder:
            yield Path(folder)


@contextmanager
def training_state(state: Path) -> Iterator[Callable[[], bool]]:
    """What to ask whether Ctrl-C or SIGTERM came, for the state to be saved first; a second one ends at once.

    The state of other settings becomes a usage error, and an error that leaves a state says so.
    """
    try:
        with _stop_asked() as stop:
            yield stop
    except OtherSettings as error:
        raise SettingError(f"{error}; say -y to begin afresh") from error
    except (OSError, RuntimeError, MemoryError) as error:
        if state.exists():
            error.add_note(f"what is done is kept in {state}, and the same command goes on")
        raise


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where no signal can be caught
        yield asked.is_set
        return

    def remember(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in signals}
    for number in signals:
        signal.signal(number, remember)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
