"""Uncompressed video through pipes, without av: y4m (YUV4MPEG2) and raw rgb24, frame by frame, in and out."""

import io
import os
import re
import stat
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
from torch import Tensor

from nststab.errors import MissingFile, NststabError
from nststab.storage.parts import Parts
from nststab.video.images import from_uint8, replacing, require_finite, to_uint8
from nststab.video.timing import (
    INTERLACED,
    PICTURE_RATE,
    Excerpt,
    Reader,
    Source,
    Timed,
    converted,
    cut,
    plain_rate,
    retimed,
)
from nststab.video.yuv import Pixels, planes_to_rgb, rgb_to_444

STANDARD = Path("-")  # standard input, or standard output
STDIN, STDOUT = "standard input", "standard output"
_MAGIC = b"YUV4MPEG2"
_LONGEST_LINE = 1024  # bytes: longer headers than any program writes
_LARGEST_SIDE = 32768  # a damaged header could ask for all the memory there is
_PIXELS = re.compile(r"(420|422|411|444|mono)(jpeg|mpeg2|paldv)?(?:p?(9|1[0-6]))?")


class RawFormat(NamedTuple):
    """What frames without a header cannot tell: their size, and frames per second."""

    width: int
    height: int
    fps: Fraction = PICTURE_RATE

    @classmethod
    def of(cls, size: tuple[int, int] | None, fps: Fraction | None = None) -> "RawFormat | None":
        """Of a size, and a rate where one is known; None where there is no size."""
        return None if size is None else cls(*size, fps or PICTURE_RATE)


class PipeReader:
    """Frames from a binary stream, each read once; made by `read_pipe`.

    `rate` is in frames per second and `aspect` the shape of a pixel; `pixels` is None for raw rgb24. `is_interlaced`
    says whether frames have two fields. `damaged` counts, after a pass of `frames`, the frame in whose middle the
    stream ended: it is left out.

    Raises:
        ValueError: a size or a rate that cannot be.
    """

    is_interlaced = False

    def __init__(
        self, file: BinaryIO, name: str, raw: RawFormat, aspect: Fraction, pixels: Pixels | None, begun: bytes = b""
    ) -> None:
        self.width, self.height, rate = raw
        if not (1 <= self.width <= _LARGEST_SIDE and 1 <= self.height <= _LARGEST_SIDE):
            raise NststabError(
                f"{name}: expected frames of 1 to {_LARGEST_SIDE} pixels, got {self.width}x{self.height}"
            )
        if rate <= 0:
            raise NststabError(f"{name}: expected a positive frame rate, got {rate}")
        self.rate = plain_rate(rate)
        self.aspect, self.time_base = aspect, 1 / self.rate
        self.damaged = 0
        self._file, self._name, self._pixels, self._begun = file, name, pixels, begun

    def frames(self) -> Generator[tuple[Tensor, Fraction, Fraction], None, None]:
        """Every frame as (rgb (1, 3, H, W), time, duration) in seconds; raises ValueError if there is none."""
        number = 0
        while (data := self._next_frame()) is not None:
            yield self._to_rgb(data), number / self.rate, 1 / self.rate
            number += 1
        if not number:
            raise NststabError(f"{self._name}: the video ends before its first frame")

    def _next_frame(self) -> bytes | None:
        """The bytes of a frame, or None at the end."""
        if self._pixels is not None and not self._begins():
            return None
        pixels, shape = self._pixels, (self.height, self.width)
        size = self.height * self.width * 3 if pixels is None else pixels.byte_count(*shape)
        data, self._begun = self._begun[:size], self._begun[size:]
        data += _read(self._file, size - len(data))
        if len(data) == size:
            return data
        self.damaged += bool(data) or pixels is not None
        return None

    def _begins(self) -> bool:
        """Whether a y4m frame follows, whose first line is taken."""
        line = self._file.readline(_LONGEST_LINE)
        whole = line.endswith(b"\n")
        if line and not (whole and line.split()[:1] == [b"FRAME"]):
            if whole or not b"FRAME".startswith(line[:5]):
                raise NststabError(f"{self._name}: expected a y4m frame to begin with FRAME, got {line[:16]!r}")
            self.damaged += 1  # the stream ends within the line
        return whole

    def _to_rgb(self, data: bytes) -> Tensor:
        if self._pixels is not None:
            return planes_to_rgb(data, self.height, self.width, self._pixels)
        return from_uint8(np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3).copy())


def read_pipe(file: BinaryIO, raw: RawFormat | None = None, name: str = STDIN) -> PipeReader:
    """Frames from a stream: y4m if its first bytes say so, else raw rgb24, for which `raw` is needed.

    y4m is 4:2:0, 4:2:2, 4:1:1, 4:4:4 or grey, 8 to 16 bits, of any size. Its colours are converted by the range which
    XCOLORRANGE names (limited without it, but full for grey, as FFmpeg does), and, as y4m names no matrix, by BT.709
    above 576 lines or from 1280 columns on and BT.601 else, as players do. Chroma samples lie on the left for 4:2:2,
    4:1:1 and 420mpeg2, on the left and above for 420paldv, and amid their pixels otherwise.

    Raises:
        ValueError: it is neither, has a size or rate that cannot be, or a y4m header that is broken or names a kind of
            pixel that is not known; `name` is what the message calls it.
    """
    begun = _read(file, len(_MAGIC))
    if begun == _MAGIC:
        return _read_header(file, name)
    if raw is None:
        got = repr(begun) if begun else "nothing"
        raise NststabError(f"{name}: expected y4m video, got {got} (raw frames need their size to be told)")
    return PipeReader(file, name, raw, Fraction(1), None, begun)


def _read(file: BinaryIO, size: int) -> bytes:
    """`size` bytes, or fewer at the end: a pipe may hand out what there is instead of what was asked for."""
    data = file.read(size)
    while len(data) < size and (part := file.read(size - len(data))):
        data += part
    return data


def _read_header(file: BinaryIO, name: str) -> PipeReader:
    """The rest of the header line, after its first word."""
    line = file.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise NststabError(f"{name}: expected a y4m header of one line, got {line[:40]!r}")
    fields = line.decode("ascii", "replace").split()
    values = {field[0]: field[1:] for field in fields if field[0] != "X"}
    try:
        width, height = int(values["W"]), int(values["H"])
    except (KeyError, ValueError):
        raise NststabError(f"{name}: expected a y4m header with a size (W640 H480), got {' '.join(fields)!r}") from None
    rate = _ratio(values.get("F", "0:0"), name) or PICTURE_RATE
    aspect = _ratio(values.get("A", "0:0"), name) or Fraction(1)
    pixels = _read_pixels(values.get("C", "420jpeg"), fields, name)
    reader = PipeReader(file, name, RawFormat(width, height, rate), aspect, pixels)
    reader.is_interlaced = values.get("I") in ("t", "b", "m")  # the top field first, the bottom one, or mixed
    return reader


def _ratio(text: str, name: str) -> Fraction:
    """`30000:1001`; 0 for 0:0, which says that it is not known."""
    match = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text, re.ASCII)
    if match is None:
        raise NststabError(f"{name}: expected a ratio (25:1) in the y4m header, got {text!r}")
    above, below = map(int, match.groups())
    return Fraction(above, below) if below else Fraction(0)


def _read_pixels(text: str, fields: list[str], name: str) -> Pixels:
    match = _PIXELS.fullmatch(text)
    if match is None:
        raise NststabError(f"{name}: expected y4m pixels of 420, 422, 411, 444 or mono in 8 to 16 bits, got {text!r}")
    chroma, siting, depth = match.groups()
    left = chroma != "420" or siting in ("mpeg2", "paldv")
    full = "XCOLORRANGE=FULL" in fields or (chroma == "mono" and "XCOLORRANGE=LIMITED" not in fields)
    return Pixels(chroma, (left, siting == "paldv"), int(depth or 8), full)


class RawWriter:
    """Writes frames to a binary stream as bare rgb24 pixels; the stream stays open. A context manager.

    Raises:
        OSError: the stream takes no more.
        ValueError: a frame of another size than the first, or no frame at all.
    """

    def __init__(self, file: BinaryIO, name: str = STDOUT) -> None:
        self.notes: list[str] = []
        self._file, self._name = file, name
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._size is None:
                raise NststabError(f"{self._name}: no frames to write")
            self._file.flush()

    def write(self, rgb: Tensor, time: Fraction | None, duration: Fraction | None) -> None:  # noqa: ARG002
        """Write a frame (1, 3, H, W); its time and duration cannot be held."""
        pixels = to_uint8(rgb)
        self._check_size(rgb)
        self._put(pixels.tobytes())

    def _check_size(self, rgb: Tensor) -> None:
        size = (rgb.shape[3], rgb.shape[2])
        self._size = size if self._size is None else self._size
        if size != self._size:
            expected = f"{self._size[0]}x{self._size[1]}"
            raise NststabError(
                f"{self._name}: expected frames of {expected} pixels as the first, got {size[0]}x{size[1]}"
            )

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:  # an unbuffered pipe takes what fits
            view = view[self._file.write(view) :]


class Y4MWriter(RawWriter):
    """Writes frames to a binary stream as y4m: 4:4:4, 8 bits, limited range; the stream stays open. A context manager.

    The matrix is BT.709 above 576 lines or from 1280 columns on, else BT.601: y4m cannot name it, and this is what
    players assume. Every frame is written once and shown for 1/`rate` seconds; `notes` tells if that moves one by more
    than half of this. Finished `parts` of a file are kept.
    """

    def __init__(
        self,
        file: BinaryIO,
        rate: Fraction,
        aspect: Fraction = Fraction(1),
        name: str = STDOUT,
        parts: Parts | None = None,
    ) -> None:
        super().__init__(file, name)
        self._rate, self._aspect, self._parts = plain_rate(Fraction(rate)), Fraction(aspect), parts
        self._start: Fraction | None = None
        self._count = 0

    def write(self, rgb: Tensor, time: Fraction | None, duration: Fraction | None) -> None:  # noqa: ARG002
        """Write a frame (1, 3, H, W); `time` is compared with the one it gets."""
        if rgb.ndim != 4 or rgb.shape[:2] != (1, 3):
            raise NststabError(f"expected one frame (1, 3, H, W), got a tensor of shape {tuple(rgb.shape)}")
        self._check_size(rgb)
        require_finite(rgb)
        if self._count == 0:
            rate, aspect = [f"{ratio.numerator}:{ratio.denominator}" for ratio in (self._rate, self._aspect)]
            header = f"YUV4MPEG2 W{rgb.shape[3]} H{rgb.shape[2]} F{rate} Ip A{aspect} C444 XCOLORRANGE=LIMITED\n"
            self._put(header.encode("ascii"))
        self._put(b"FRAME\n" + rgb_to_444(rgb))
        if time is not None:
            self._compare(time)
        self._count += 1
        if self._parts is not None and self._count % Parts.length == 0:
            size = (rgb.shape[3], rgb.shape[2])
            start = None if self._start is None else str(self._start)
            self._parts.keep_grown(self._file, size, {"size": [*size], "start": start, "notes": self.notes})

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on behind the parts of an earlier run, with what it kept."""
        assert self._parts is not None
        width, height = state["size"]
        self._size, self._count, self.notes = (width, height), self._parts.frames, state["notes"]
        self._start = None if state["start"] is None else Fraction(state["start"])

    def _compare(self, time: Fraction) -> None:
        self._start = time if self._start is None else self._start
        moved = abs(time - self._start - self._count / self._rate) * self._rate
        if moved > Fraction(1, 2) and not self.notes:
            self.notes.append(
                f"y4m holds one frame rate, here {float(self._rate):g}, and the source's frames are spaced unevenly: "
                "each is written once, some more than half a frame off their time"
            )


def is_pipe(path: Path) -> bool:
    """Whether `path` can be read only once: standard input, a named pipe or a device; raises MissingFile, OSError."""
    if path == STANDARD:
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: {error.strerror}") from None
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


class PipedVideo(Reader):
    """An excerpt of y4m or raw video that comes through a pipe, whose header is read at once; it has no sound.

    Raises:
        OSError: the pipe cannot be read.
        ValueError: it holds no y4m video, and `raw` does not say what else; or it is a terminal.
    """

    frame_count = None

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
        """Whether frames have fields, and whether the last one was cut off."""
        notes = [f"{self._name} {INTERLACED}"] if self._reader.is_interlaced else []
        if self._reader.damaged:
            notes.append(f"the last frame of {self._name} was cut off: left out")
        return notes

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
