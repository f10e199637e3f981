"""Long jobs: what they have done is kept in a folder, from which the same command goes on after a kill."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from nststab.errors import NststabError
from nststab.storage.durable import read_tensor, write_durably, write_tensor
from nststab.video.images import remove_parts

_IDENTITY, _FINISHED, _FRAMES, _OVERWRITES = "job.json", "finished", "frames", "overwrites"


class OtherSettings(NststabError):
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
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def keep(self, compute: Callable[[], Tensor]) -> Tensor:
        """What the k-th call of the job gives, on the CPU: kept by an earlier run, or computed now and kept.

        A kept result that is damaged is computed again. Raises OSError where it cannot be written.
        """
        path = self.folder / f"result_{self._calls:06d}.npy"
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
    return path.with_name(f"{path.name}.unfinished")


def begun(folder: Path) -> bool:
    """Whether `folder` holds unfinished work of `open_job`."""
    return (folder / _IDENTITY).exists()


def overwrites(output: Path) -> bool:
    """Whether an unfinished job may replace what stands in place of `output`: the user said so, or it is its own."""
    return (unfinished(output) / _OVERWRITES).exists() and (unfinished(output) / _IDENTITY).exists()


def open_job(folder: Path, identity: Mapping[str, Any], restart: bool = False) -> Job:
    """Begin a job in `folder`, or go on with the one that has this `identity`: JSON values, all that the result is of.

    With `restart` an unfinished job of another identity is removed, and one of the same goes on.

    Raises:
        OtherSettings: the unfinished job has another identity. ValueError: another process is at work on it, or the
            folder is none of ours. OSError: it cannot be made.
    """
    wanted = json.loads(json.dumps(identity))
    folder.mkdir(exist_ok=True)
    lock = _lock(folder)
    try:
        stored = _identity(folder)
        if stored is not None and stored != wanted and not restart:
            what = differences(stored, wanted) if isinstance(stored, dict) else f"{_IDENTITY} is damaged"
            raise OtherSettings(f"{folder} holds unfinished work of other settings: {what}")
        resumed = stored == wanted
        if not resumed:
            _clear(folder)
            write_durably(folder / _IDENTITY, json.dumps(wanted, indent=1).encode())
        remove_parts(folder)
    except BaseException:
        _unlock(lock)
        raise
    return Job(folder, resumed, lock)


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


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The settings that differ between two identities, with both values, in one line."""
    old, new = dict(_flat(before)), dict(_flat(now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name} was {_said(old.get(name))}, is {_said(new.get(name))}" for name in names)


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
