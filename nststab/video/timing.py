"""Which part of a clip is shown, and at which rate: cuts a stream of timed frames and drops or repeats by time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor, isfinite
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from nststab.errors import NststabError

T = TypeVar("T")
PICTURE_RATE = Fraction(25)  # of pictures, which have no timing of their own
_USUAL, _FINEST = 1001, 10**6  # denominators of a rate: that of 30000/1001, and of any other
_SAME = Fraction(1, 10**6)  # of a rate, by which another one may stand for it
INTERLACED = "is interlaced: the two fields of a frame are taken for one picture"  # what a note says of a clip
Seconds = float | Fraction
Timed = tuple[T, Fraction, Fraction]  # something with the time at which it is shown, and for how long, in seconds


@dataclass(frozen=True)
class Excerpt:
    """The part of a clip from `start` on for `duration` seconds (None: to its end), at `fps` (None: at its own times).

    A frame belongs to it whose time is at least `start` and less than `start` + `duration`: excerpts that follow one
    another share no frame and lose none.
    """

    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    fps: Fraction | None = None

    @property
    def end(self) -> Fraction | None:
        """The time in the clip at which it ends, in seconds; None for the clip's end."""
        return None if self.duration is None else self.start + self.duration

    def is_over(self, time: Fraction) -> bool:
        """Whether `time` lies behind its end."""
        return self.end is not None and time >= self.end


WHOLE = Excerpt()


class Jump(NamedTuple):
    """From byte `position` of a file on its clock is `shift` seconds behind the clip's, which is at `time` there."""

    position: int
    shift: Fraction
    time: Fraction


class Source:
    """What the writer of a clip must know about where the frames come from: here one with its own times, from 0 on.

    `rate` is in frames per second, `time_base` the unit of the frame times, `aspect` the shape of a pixel. The audio in
    `path` is told by times from `origin` on; of these the clip shows `start` to `end` (None: to its end), and `start`
    is 0 in the clip. Where the clock in the file jumps, `jumps` mend it. All times are in seconds.
    """

    path: Path
    rate: Fraction
    time_base: Fraction
    aspect: Fraction = Fraction(1)
    has_audio: bool = False
    origin: Fraction = Fraction(0)
    start: Fraction = Fraction(0)
    end: Fraction | None = None
    jumps: tuple[Jump, ...] = ()


class PictureTimes(Source):
    """The source that pictures are, `rate` per second; or frames that come when they come, told in `unit` seconds."""

    def __init__(self, path: Path, rate: Fraction, unit: Fraction | None = None) -> None:
        self.path, self.rate, self.time_base = path, rate, unit or 1 / rate


class Reader(Source, ABC):
    """A source of frames, all `width` by `height`; `frame_count` is None where it is not known beforehand.

    A frame is (1, 3, H, W), or (1, 4, H, W) with alpha.
    """

    width: int
    height: int
    frame_count: int | None

    @property
    def notes(self) -> list[str]:
        """What the user should know of it, after a pass of `frames` also what could not be read."""
        return []

    @abstractmethod
    def frames(self) -> Iterator[Timed[Tensor]]:
        """Each with its time and duration; raises ValueError where one cannot be read."""


def excerpt(start: Seconds | None, duration: Seconds | None, fps: Seconds | None) -> Excerpt:
    """The `Excerpt` that was asked for; floats are taken as the decimals they are written as: 0.1 is a tenth.

    A rate is made plain. Raises ValueError for a negative start, a duration or rate that is not positive, infinity and
    NaN, and for a rate that files cannot hold.
    """
    return Excerpt(
        Fraction(0) if start is None else _exact(start, "a start in seconds, 0 or more", positive=False),
        None if duration is None else _exact(duration, "a duration in seconds, more than 0"),
        None if fps is None else plain_rate(_exact(fps, "a rate in frames per second, more than 0")),
    )


def _exact(value: Seconds, expected: str, positive: bool = True) -> Fraction:
    if not isfinite(value) or value < 0 or (positive and value == 0):
        raise NststabError(f"expected {expected}, got {value}")
    return value if isinstance(value, Fraction) else Fraction(str(value))


def plain_rate(rate: Fraction) -> Fraction:
    """A rate as files hold it, in 31 bits, so that 29.97002997 is 30000/1001; raises ValueError where it does not fit.

    It is exact where the denominator is at most a million and no usual rate is as good as the same.
    """
    plain = rate.limit_denominator(_USUAL)
    if abs(plain - rate) > rate * _SAME:
        plain = rate.limit_denominator(_FINEST)
    if not 0 < plain.numerator < 2**31:
        raise NststabError(f"expected a rate of 0.000001 to 2147483647 frames per second, got {float(rate):g}")
    return plain


def cut(frames: Iterable[Timed[T]], part: Excerpt, name: str) -> Iterator[Timed[T]]:
    """The frames of an excerpt at their times in the clip; the last one is shown to the excerpt's end at most.

    Where none begins in it, it is the one that is shown at its start, so that any frame can be asked for. Raises
    ValueError if there is none either; `name` is what the message calls the clip.
    """
    found, passed = False, Fraction(0)
    shown: Timed[T] | None = None  # before the excerpt's first
    for item, time, duration in frames:
        if part.is_over(time):
            break
        passed = time + duration
        if time >= part.start:
            found = True
            yield item, time, duration if part.end is None else min(duration, part.end - time)
        else:
            shown = item, time, duration
    if not found and shown is not None and passed > part.start:
        yield shown[0], part.start, (passed if part.end is None else min(passed, part.end)) - part.start
    elif not found:
        raise empty_excerpt(name, part, passed)


def empty_excerpt(name: str, part: Excerpt, passed: Fraction) -> NststabError:
    """The error for an excerpt without a frame, of a clip whose last frame that was read is over at `passed`."""
    start = float(part.start)
    if part.end is not None and passed > part.end:
        return NststabError(f"{name}: expected a frame from {start:g} to {float(part.end):g} s, found none")
    return NststabError(f"{name}: expected a start before the end at {float(passed):.3f} s, got {start:g} s")


def retimed(frames: Iterable[Timed[T]], part: Excerpt) -> Iterator[Timed[T]]:
    """The frames that `cut` gives: from 0 on, unless the excerpt begins with the clip, and at the rate asked for."""
    return _from_zero(frames, part) if part.fps is None else at_rate(_from_zero(frames, part), part.fps)


def _from_zero(frames: Iterable[Timed[T]], part: Excerpt) -> Iterator[Timed[T]]:
    begin = None if part.start else Fraction(0)
    for item, time, duration in frames:
        begin = time if begin is None else begin
        yield item, time - begin, duration


def at_rate(frames: Iterable[Timed[T]], rate: Fraction) -> Iterator[Timed[T]]:
    """Frames at a constant rate: dropped or repeated by their times, as FFmpeg's filter `fps` does (round=near).

    Every time is rounded to the nearest multiple of 1 / `rate`, halves up. What is shown at n / `rate` is the last
    frame whose rounded time is at most that; the first begins at its own, and the last one lasts to its rounded end.
    Unlike in FFmpeg, there is one frame at least, even if all of them together are shorter than half of 1 / `rate`.
    """
    held: list[Timed[T]] = []  # the frame which is shown until the next one's time is known
    following = 0  # the multiple of 1 / rate which comes next
    given = False
    for frame in frames:
        place = _nearest(frame[1] * rate)
        if not held:
            following = place
        for number in range(following, place):
            yield held[0][0], number / rate, 1 / rate
            given = True
        following, held = max(following, place), [frame]
    for item, time, duration in held:
        end = _nearest((time + duration) * rate)
        for number in range(following, max(end, following + (not given))):
            yield item, number / rate, 1 / rate


def converted(frames: Iterable[Timed[T]], convert: Callable[[T], Tensor]) -> Iterator[Timed[Tensor]]:
    """What `convert` makes of frames; one that is repeated is converted once."""
    latest: tuple[T, Tensor] | None = None
    for item, time, duration in frames:
        if latest is None or latest[0] is not item:
            latest = item, convert(item)
        yield latest[1], time, duration


def count_at_rate(begin: Fraction, end: Fraction, rate: Fraction) -> int:
    """How many frames `at_rate` makes of those shown from `begin` to `end`, in seconds."""
    return max(1, _nearest(end * rate) - _nearest(begin * rate))


def _nearest(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))
