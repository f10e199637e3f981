"""Kept work: what a long job has done is kept in a folder, from which the same job resumes after a kill.

`resumable(output, identity)` is all that most jobs need: the folder stands beside the output, `Job.keep` keeps one
tensor after the other, `Job.subfolder` other files, and an error leaves what is done. `identity_of` makes an identity
of settings, of the contents of the files that they name, and of the version.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from torch import Tensor

import nststab
from nststab.errors import NststabError, SettingError
from nststab.settings import Settings
from nststab.storage.durable import read_tensor, write_durably, write_tensor
from nststab.video.images import remove_parts

log = logging.getLogger(__name__)

_IDENTITY, _FINISHED, _FRAMES, _OVERWRITES = "job.json", "finished", "frames", "overwrites"
_SUFFIX, _LONGEST = ".unfinished", 255  # of a job's folder; bytes of a name that file systems take


class OtherSettings(SettingError):
    """The unfinished work belongs to other settings, which the message names."""


class Job:
    """Unfinished work, in `folder`; made by `open_job`, and left as a context when the process is done with it.

    Attributes:
        resumed: an earlier run began it.
    """

    def __init__(self, folder: Path, resumed: bool, lock: int | None) -> None:
        self.folder = folder
        self.resumed = resumed
        self._lock = lock
        self._unit = self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _unlock(self._lock)

    @property
    def frames(self) -> int:
        """How many frames were finished, as `progress` was told last."""
        with suppress(OSError, ValueError):
            return int((self.folder / _FRAMES).read_text())
        return 0

    def progress(self, frames: int) -> None:
        """Note that so many frames are finished."""
        part = self.folder / f"{_FRAMES}.part"
        part.write_text(str(frames))
        os.replace(part, self.folder / _FRAMES)  # may be lost with the machine: it only tells, results decide

    @property
    def has_results(self) -> bool:
        """Whether anything is kept here that would have to be computed again."""
        inside = self.folder.iterdir()
        return self.frames > 0 or any(
            any(path.iterdir()) if path.is_dir() else path.suffix == ".npy" for path in inside
        )

    def allow_overwriting(self) -> None:
        """From now on what stands in the place of the output may be replaced."""
        (self.folder / _OVERWRITES).touch()

    def begin(self, unit: int) -> None:
        """What is kept from now on belongs to a unit of the work that needs no other, such as a shot, by its number."""
        self._unit, self._calls = unit, 0

    def has_unit(self, unit: int) -> bool:
        """Whether anything of this unit is kept."""
        return self._result(unit, 0).exists()

    def _result(self, unit: int, call: int) -> Path:
        return self.folder / f"result_{unit:06d}_{call:06d}.npy"

    def keep(self, compute: Callable[[], Tensor]) -> Tensor:
        """What the k-th call of the unit gives, on the CPU: kept by an earlier run, or computed now and kept.

        A kept result that is damaged is computed again. Raises OSError where it cannot be written.
        """
        path = self._result(self._unit, self._calls)
        self._calls += 1
        with suppress(OSError, ValueError):
            return read_tensor(path)
        result = compute().detach().cpu().contiguous()  # laid out as one that is read, or the next would differ
        write_tensor(path, result)
        return result

    def subfolder(self, name: str) -> Path:
        """A folder for files of the job's own kind, made if it is missing."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def finish(self) -> None:
        """Remove the folder: the output is complete, or there is nothing to go on from."""
        os.replace(self.folder / _IDENTITY, self.folder / _FINISHED)  # a kill from here on leaves rubbish, no job
        _clear(self.folder, but=_FINISHED)
        (self.folder / _FINISHED).unlink()
        self.folder.rmdir()


def unfinished(output: Path) -> Path:
    """The folder of the job that makes `output`, beside it."""
    path = output if output.name not in ("", "..") else output.resolve()
    return path.with_name(f"{path.name}{_SUFFIX}")


def begun(folder: Path) -> bool:
    """Whether `folder` holds unfinished work of `open_job`."""
    return (folder / _IDENTITY).exists()


def overwrites(output: Path) -> bool:
    """Whether an unfinished job may replace what stands in place of `output`: the user said so, or it is its own.

    Raises SettingError and PermissionError where no job can be kept beside `output`.
    """
    folder = unfinished(output)
    if (length := len(os.fsencode(folder.name))) > _LONGEST:
        most, got = (number - len(_SUFFIX) for number in (_LONGEST, length))
        raise SettingError(f"{output}: expected a name of at most {most} bytes, got {got}")
    if folder.parent.is_dir() and not folder.exists() and not os.access(folder.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder.parent}: no permission to write to this folder, where unfinished work is kept")
    return (folder / _OVERWRITES).exists() and (folder / _IDENTITY).exists()


def open_job(
    folder: Path, identity: Mapping[str, Any], restart: bool = False, defaults: Mapping[str, Any] | None = None
) -> Job:
    """Begin a job in `folder`, or go on with the one that has this `identity`: JSON values, all that the result is of.

    With `restart` an unfinished job of another identity is removed, and one of the same goes on. `defaults` counts for
    what the unfinished job lacks, as settings that an older version did not have.

    Raises:
        OtherSettings: the unfinished job has another identity. ValueError: another process is at work on it, or the
            folder is none of ours. OSError: it cannot be made.
    """
    wanted, usual = json.loads(json.dumps([identity, defaults or {}]))
    folder.mkdir(exist_ok=True)
    lock = _lock(folder)
    try:
        stored = _identity(folder)
        what = differences(stored, wanted, usual) if isinstance(stored, dict) else f"{_IDENTITY} is damaged"
        if stored is not None and what and not restart:
            raise OtherSettings(f"{folder} holds unfinished work of other settings: {what}")
        resumed = not what
        if not resumed:
            _clear(folder)
            write_durably(folder / _IDENTITY, json.dumps(wanted, indent=1).encode())
        remove_parts(folder)
    except BaseException:
        _unlock(lock)
        raise
    return Job(folder, resumed, lock)


@contextmanager
def resumable(
    output: Path, identity: Mapping[str, Any], *, restart: bool = False, fills: bool = False
) -> Iterator[Job]:
    """The job that makes `output`, begun or resumed; removed when the block ends well, or nothing was kept.

    Args:
        restart: remove unfinished work of another identity.
        fills: the output is a folder to which the block adds file by file.

    Raises:
        As `open_job`. An error of the block has a note that says what is kept.
    """
    folder = unfinished(output)
    try:
        job = open_job(folder, identity, restart or (begun(folder) and not Job(folder, False, None).has_results))
    except OtherSettings as error:
        raise OtherSettings(f"{error}; say overwrite=True to begin afresh") from error
    if output.is_dir():
        remove_parts(output)
    with job:
        if job.resumed and job.has_results:
            count = "1 frame was finished" if job.frames == 1 else f"{job.frames} frames were finished"
            log.info(f"going on: {count if job.frames else 'the first frame was begun'}")
        try:
            if fills or output.exists():
                job.allow_overwriting()
            yield job
        except BaseException as error:
            _leave(job, error, fills)
            raise
        job.finish()


@contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Keeps an output that is made without a job to this process; ValueError where another one is at work on it."""
    folder, lock = unfinished(output), None
    with suppress(OSError):  # beside a folder that may be written to, or a long name: then nothing can be claimed
        folder.mkdir(exist_ok=True)
        lock = _lock(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # it holds the work of a job that was killed: that stays
            folder.rmdir()
        _unlock(lock)


def _leave(job: Job, error: BaseException, fills: bool) -> None:
    """Say how to resume, with the error where it is shown; leave nothing behind where nothing was done.

    Of a job that `fills` a folder and was killed before, files stand there that only its mark allows to replace.
    """
    if not job.has_results:
        if not (fills and job.resumed):
            job.finish()
        return
    text = f"what is finished is kept in {job.folder}, and the same command goes on"
    if isinstance(error, NststabError):
        text += " once that is mended"
    if isinstance(error, Exception):
        error.add_note(text)
    else:
        log.info(text)


def identity_of(settings: Settings, **others: Any) -> dict[str, Any]:
    """All that the result of a job depends on, as JSON values: settings, contents of files, version.

    A setting that names a file or a folder counts by its name and content; one that has its default as None, so that
    messages can say that it was not given. `others` are JSON values of the job's own, such as its input's content.
    """
    given = {one.name for one in settings.given()}
    said = settings.identity()
    for name in said:
        said[name] = by_content(settings.value(name), said[name]) if name in given else None
    return {**others, **said, "nststab": nststab.__version__}


def by_content(value: Any, said: Any) -> Any:
    """`said`, or the name and content of the file that it names: by itself or, of a style, after `style:`."""
    prefix, text = ("style:", str(value)[6:]) if str(value).startswith("style:") else ("", str(value))
    path = Path(text)
    if isinstance(value, str | Path) and path.exists():
        return f"{prefix}{path.name} ({content_hash(path)})"
    return said


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder; the system lets go of it with the process, however that ends."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NststabError(f"{folder}: another process is at work on this output") from None
    except OSError:
        pass  # a network folder that knows no locks
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _identity(folder: Path) -> Any:
    """What is in the folder: None where nothing was begun or all was finished."""
    try:
        return json.loads((folder / _IDENTITY).read_bytes())
    except ValueError:
        return "damaged"
    except FileNotFoundError:
        parts = (_IDENTITY, f"{_IDENTITY}.part")
        if not (folder / _FINISHED).exists() and any(path.name not in parts for path in folder.iterdir()):
            raise NststabError(f"{folder} stands where unfinished work is kept, and is none: move it away") from None
        return None


def _clear(folder: Path, but: str | None = None) -> None:
    """Empties a folder, its identity last: while that stands, the rest is not taken for a user's."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name in (_IDENTITY, _FINISHED)):
        if path.name == but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def differences(before: Mapping[str, Any], now: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> str:
    """The settings that differ between two identities, with both values, in one line; `usual` counts where one lacks.

    Empty where they are the same.
    """
    default, old, new = (dict(_flat(one)) for one in (usual or {}, before, now))
    pairs = {name: [one.get(name, default.get(name)) for one in (old, new)] for name in (*old, *new)}
    differ = {name: map(_said, pair) for name, pair in pairs.items() if pair[0] != pair[1]}
    return ", ".join("{} was {}, is {}".format(name, *pair) for name, pair in differ.items())


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_said, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "not given" if value is None else str(value)


def content_hash(files: Path | Sequence[Path]) -> str:
    """Tells contents apart: of one file its bytes, of a folder and of several files their names as well.

    Raises OSError where one cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(files, Path) and files.is_dir():
        files = sorted(path for path in files.rglob("*") if path.is_file())
    paths = [files] if isinstance(files, Path) else files
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode(errors="surrogateescape") + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest())
    return digest.hexdigest()
