"""When the frames that a report shows are shown."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import count, islice, takewhile

from nststab.video.clip import Clip
from nststab.video.streams import is_pipe
from nststab.video.timing import PICTURE_RATE

Times = list[tuple[Fraction, Fraction]]
"""Of each frame its time, from 0 on, and its duration, in seconds."""


def shown_times(clip: Clip, seconds: Fraction, limit: int | None = None) -> Times:
    """The times of the frames of a clip's first `seconds`, at least one; of the first `limit` frames at most.

    A file is read up to there. What comes through a pipe can be read once only: there, as for pictures without times,
    they are those of its rate, and the clip may end before.
    """
    own = _at_rate(clip) if clip.reader is None or is_pipe(clip.path) else _read(clip)
    begin, duration = next(own)  # files may begin at any time
    later = ((time - begin, duration) for time, duration in own)
    within = takewhile(lambda shown: shown[0] < seconds, later)
    return [(Fraction(0), duration), *islice(within, None if limit is None else limit - 1)]


def _at_rate(clip: Clip) -> Iterator[tuple[Fraction, Fraction]]:
    rate = PICTURE_RATE if clip.source is None else clip.source.rate
    numbers = count() if clip.frame_count is None else iter(range(clip.frame_count))
    return ((number / rate, 1 / rate) for number in numbers)


def _read(clip: Clip) -> Iterator[tuple[Fraction, Fraction]]:
    for frame in replace(clip, size=None).frames():
        assert frame.time is not None
        assert frame.duration is not None
        yield frame.time, frame.duration
