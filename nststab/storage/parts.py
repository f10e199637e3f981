"""Finished parts of a long stream of frames, kept in a job: a killed run resumes after the last of them."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count, takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from nststab.storage.durable import read_checked, write_checked
from nststab.storage.jobs import Job

log = logging.getLogger(__name__)

_GROWN = "written"


class Parts:
    """The parts of a job's output: what was coded of each, where its shots begin, and a stylizer's state after it.

    An undisturbed run works in the same parts, so one that was killed gives the same frames to the bit.

    Attributes:
        frames: of the output that an earlier run had finished.
        length: frames of a part, which a kill costs at most. Video begins each with a key frame, as streaming does.
        shot: the number of the frame at which the shot begins that the next frame belongs to, or may begin anew.
    """

    length = 48

    def __init__(self, job: Job) -> None:
        self._job, self._folder = job, job.subfolder("parts")
        self._count = sum(1 for _ in takewhile(Path.exists, map(self._part, count())))
        self.frames = self._count * self.length
        begun = (int(path.stem.removeprefix("shot_")) for path in job.folder.glob("shot_*"))
        self.shot = max((number for number in begun if number <= self.frames), default=0)
        try:
            for path in (*map(self._part, range(self._count)), *self._states(self.frames)):
                read_checked(path)
        except (OSError, ValueError) as error:
            self.begin_anew(str(error))

    def begin_anew(self, why: str) -> None:
        """Forget what is kept, as nothing can go on from it."""
        log.warning(f"{why}: all frames are made anew")
        for path in (*sorted(self._folder.iterdir()), *self._job.folder.glob("*.state")):  # without the first there is
            path.unlink()  # no part, wherever a kill comes
        self._count = self.frames = self.shot = 0
        self._job.progress(0)

    def keep(self, coded: Mapping[str, Any]) -> None:
        """Keep the next part, finished as arrays that hold no objects; all before it is on the disk for good."""
        file = BytesIO()
        np.savez(file, **coded)
        write_checked(self._part(self._count), file.getvalue())
        self._count += 1
        for old in self._states((self._count - 1) * self.length):
            old.unlink()
        self._job.progress(self._count * self.length)

    def keep_grown(self, file: BinaryIO, size: tuple[int, int], state: Mapping[str, Any]) -> None:
        """Keep the next part of a file that only grows: the file itself, and what its writer needs to go on with it."""
        file.flush()
        os.fsync(file.fileno())
        self.state(_GROWN).keep((self._count + 1) * self.length, {**state, "place": file.tell()})
        self.keep({"size": np.array(size)})

    @contextmanager
    def grown(self, path: Path) -> Iterator[tuple[BinaryIO, dict[str, Any] | None]]:
        """A file that only grows, without what came behind the last finished part, and the state that was kept then."""
        with path.open("r+b" if self.frames else "wb") as file:
            kept = self.state(_GROWN).restored() if self.frames else None
            file.seek(file.truncate(kept["place"] if kept else 0))
            yield file, kept

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finished frames, where the parts tell."""
        width, height = next(self.finished())["size"].tolist()
        return width, height

    def finished(self) -> Iterator[Mapping[str, Any]]:
        """What `keep` was given of each part, in order."""
        for number in range(self.frames // self.length):
            with np.load(BytesIO(read_checked(self._part(number))), allow_pickle=False) as coded:
                yield dict(coded)

    def begin_shot(self, number: int) -> None:
        """Note that a shot begins with this frame."""
        (self._job.folder / f"shot_{number:09d}").touch()

    def state(self, name: str) -> "State":
        """The state of that name after each part, such as a recurrent network's."""
        return State(self._job.folder, name, self.frames)

    def _states(self, frames: int) -> Iterator[Path]:
        return self._job.folder.glob(f"*_{frames:09d}.state")

    def _part(self, number: int) -> Path:
        return self._folder / f"part_{number:06d}.npz"


@dataclass(frozen=True)
class State:
    """What stood at the end of a part, kept in a folder before that part is, until the next one is.

    Attributes:
        frames: of the output that an earlier run had finished.
    """

    folder: Path
    name: str
    frames: int

    def is_due(self, frames: int) -> bool:
        """Whether a part ends after so many frames."""
        return frames % Parts.length == 0

    def keep(self, frames: int, value: Any) -> None:
        """Keep tensors, numbers, text, and lists, tuples and dictionaries of them, as they are after so many frames."""
        file = BytesIO()
        torch.save(value, file)
        write_checked(self._path(frames), file.getvalue())

    def restored(self, classes: Sequence[type] = ()) -> Any:
        """What was kept after the finished frames, on the CPU; of other `classes` than tensors and the like too."""
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(BytesIO(read_checked(self._path(self.frames))), map_location="cpu", weights_only=True)

    def _path(self, frames: int) -> Path:
        return self.folder / f"{self.name}_{frames:09d}.state"
