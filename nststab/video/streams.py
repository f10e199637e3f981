"""Clips through pipes: y4m or raw frames from standard input or a named pipe, and to standard output."""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from nststab.errors import MissingFile, NststabError
from nststab.storage.parts import Parts
from nststab.video.images import replacing
from nststab.video.pipes import PipeReader, RawFormat, RawWriter, Y4MWriter, read_pipe
from nststab.video.timing import PICTURE_RATE, Excerpt, Source, Timed, converted, cut, retimed

STANDARD = Path("-")  # standard input, or standard output
STDIN, STDOUT = "standard input", "standard output"


def is_pipe(path: Path) -> bool:
    """Whether `path` can be read only once: standard input, a named pipe or a device; raises MissingFile, OSError."""
    if path == STANDARD:
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: {error.strerror}") from None
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class PipedVideo:
    """An excerpt of y4m or raw video that comes through a pipe, whose header is read at once; it has no sound.

    Raises:
        OSError: the pipe cannot be read.
        ValueError: it holds no y4m video, and `raw` does not say what else; or it is a terminal.
    """

    origin = Fraction(0)
    has_audio = False
    frame_count = None
    jumps = ()

    def __init__(self, path: Path, part: Excerpt, raw: RawFormat | None) -> None:
        self.path = path
        self._name = STDIN if path == STANDARD else str(path)
        if path == STANDARD and sys.stdin.isatty():
            raise NststabError(f"{STDIN} is a terminal: expected a pipe or a file to read video from")
        self._file: BinaryIO = _standard_input() if path == STANDARD else path.open("rb")
        self._reader: PipeReader = read_pipe(self._file, raw, self._name)
        self._part = part
        self._taken = False
        self.width, self.height, self.aspect = self._reader.width, self._reader.height, self._reader.aspect
        self.rate = part.fps or self._reader.rate
        self.time_base = 1 / self.rate
        self.start, self.end = part.start, part.end

    @property
    def notes(self) -> list[str]:
        """Whether the last frame was cut off."""
        return [f"the last frame of {self._name} was cut off: left out"] if self._reader.damaged else []

    def frames(self) -> Iterator[Timed[Tensor]]:
        """Every frame as (rgb (1, 3, H, W), time, duration), once; raises ValueError if there is none."""
        if self._taken:
            raise NststabError(f"{self._name}: expected to be read once, it can give its frames only once")
        self._taken = True
        shown = cut(self._reader.frames(), self._part, self._name)
        return converted(retimed(shown, self._part), lambda rgb: rgb)


def _standard_input() -> BinaryIO:
    """Standard input with a buffer of its own: Python cannot end while a thread waits in that of `sys.stdin`."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # something else stands in its place
        return sys.stdin.buffer


@contextmanager
def standard_output(raw: bool, source: Source | None) -> Iterator[RawWriter]:
    """A writer to standard output: of bare rgb24 pixels if `raw`, else of y4m at the rate of `source` (None: 25).

    Raises BrokenPipeError where the reader went away.
    """
    file = sys.stdout.buffer
    try:
        with RawWriter(file, STDOUT) if raw else _y4m(file, source, STDOUT) as writer:
            yield writer
    except BrokenPipeError as error:
        with suppress(OSError):  # what is still in the buffer has nowhere to go, and Python would say so at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise BrokenPipeError(error.errno, "the reader went away", STDOUT) from None


@contextmanager
def y4m_file(path: Path, source: Source | None, parts: Parts | None) -> Iterator[RawWriter]:
    """A writer to a y4m file at the rate of `source` (None: 25), which appears whole or not at all, or by parts."""
    if parts is None:
        with replacing(path) as temporary, temporary.open("wb") as file, _y4m(file, source, str(path)) as writer:
            yield writer
        return
    with parts.grown(path) as (grown, state), _y4m(grown, source, str(path), parts) as writer:
        if state is not None:
            writer.resume(state)
        yield writer


def _y4m(file: BinaryIO, source: Source | None, name: str, parts: Parts | None = None) -> Y4MWriter:
    rate, aspect = (PICTURE_RATE, Fraction(1)) if source is None else (source.rate, source.aspect)
    return Y4MWriter(file, rate, aspect, name, parts)
