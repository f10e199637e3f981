"""The packets of a media file, on a clock that goes on where its own jumps, and how many frames they are (needs av)."""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import av

from nststab.video.timing import Excerpt, Jump, count_at_rate

_BACK, _AHEAD = Fraction(1, 10), Fraction(10)  # seconds from which on a step is a jump: those of FFmpeg's own program


def packets(container: Any, stream: Any, jumps: tuple[Jump, ...] = ()) -> Iterator[Any]:
    """The packets of a stream, the last one empty, or None at an error that nothing can be read after.

    `jumps` are those of the video. Another stream makes them too, a little earlier or later in the file: where its
    clock jumps, it follows the nearest.
    """
    starts = (Jump(0, Fraction(0), Fraction(0)), *jumps)
    steps, shift, due, position = _steps(stream), 0, None, 0
    for packet in _demuxed(container, stream):
        if jumps and packet is not None and packet.dts is not None:
            position = packet.pos or position
            if due is not None and packet.dts - due not in steps:
                nearest = min(starts, key=lambda jump: abs(jump.position - position))
                shift = round(nearest.shift / stream.time_base)
            due = packet.dts + packet.duration
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet


def find_jumps(container: Any, stream: Any, origin: Fraction) -> tuple[Jump, ...]:
    """Where the clock of a video stream jumps: recordings that were joined have one each.

    What follows a jump is shown when all before is over; `origin` is the time in seconds which counts as 0.
    """
    jumps: list[Jump] = []
    unit = stream.time_base
    steps, shift, due, end = _steps(stream), 0, None, round(origin / unit)
    for packet in _demuxed(container, stream):
        if packet is None or packet.dts is None or packet.pts is None:
            continue
        if due is not None and packet.dts - due not in steps:
            shift = end - packet.pts
            jumps.append(Jump(packet.pos or 0, shift * unit, end * unit - origin))
        due = packet.dts + packet.duration
        end = max(end, packet.pts + shift + packet.duration)
    return tuple(jumps)


def _demuxed(container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.demux(stream)
    except IndexError:  # PyAV's, at the very end of a file in whose middle a stream came up
        return
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        yield None


def _steps(stream: Any) -> range:
    """By how many ticks a packet may follow later, or overlap, the one before on a clock that does not jump."""
    return range(-int(_BACK / stream.time_base), int(_AHEAD / stream.time_base) + 1)


_QUICK = 2 << 30  # bytes that are read in a few seconds
_TIME = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)", re.ASCII)
_UNSHOWN = {"vp8"}  # codecs with packets of their own for frames that are never shown


class Announced(NamedTuple):
    """What the header promises of a stream: how many frames, and when in seconds the last one is over, about."""

    frames: int | None = None
    end: Fraction | None = None


def announced(container: Any, stream: Any) -> Announced:
    """What the header promises, where it does: in MP4 and MOV, Matroska and WebM."""
    if (ticks := _index(container, stream)) and stream.duration is not None:
        return Announced(len(ticks), ((stream.start_time or 0) + stream.duration) * stream.time_base)
    if "matroska" in container.format.name and (time := _TIME.fullmatch(stream.metadata.get("DURATION", ""))):
        hours, minutes, seconds = time.groups()
        return Announced(end=int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds))
    return Announced()


def count(
    container: Any, stream: Any, part: Excerpt, origin: Fraction, rate: Fraction, jumps: tuple[Jump, ...]
) -> int | None:
    """How many frames an excerpt has, None if that takes decoding or long reading.

    `container` stands at a key frame before it, `origin` is the time which counts as 0, `rate` the stream's, and
    `jumps` are those of its clock.
    """
    times = _index_times(container, stream)
    if times is None and container.size <= _QUICK and stream.codec_context.name not in _UNSHOWN:
        times = _packet_times(container, stream, part, origin, jumps)
    if times is None:
        return None
    shown = [time for time in times if time >= part.start and not part.is_over(time)]
    if part.fps is None or not shown:
        return len(shown) or None
    end = max(shown) + 1 / rate
    begin = min(shown) if part.start else Fraction(0)
    end = end if part.end is None else min(end, part.end)
    return count_at_rate(min(shown) - begin, end - begin, part.fps)


def _index(container: Any, stream: Any) -> list[int]:
    """The ticks at which the frames of an MP4 or MOV are decoded; none of one in fragments, without a whole index."""
    if "mp4" not in container.format.name or not stream.frames:
        return []
    return [entry.timestamp for entry in stream.index_entries if not entry.is_discard]


def _index_times(container: Any, stream: Any) -> list[Fraction] | None:
    """The times at which the frames of an MP4 or MOV begin, if its index tells them.

    It has the times of decoding. At an even rate, and without B-frames, those of showing are later by a constant.
    """
    ticks = _index(container, stream)
    even = len({after - before for before, after in pairwise(ticks)}) <= 1
    if not ticks or stream.start_time is None or (stream.codec_context.has_b_frames and not even):
        return None
    return [(tick - ticks[0] + stream.start_time) * stream.time_base for tick in ticks]


def _packet_times(
    container: Any, stream: Any, part: Excerpt, origin: Fraction, jumps: tuple[Jump, ...]
) -> list[Fraction] | None:
    """The times of the packets from where the container stands to the excerpt's end, if all have one."""
    times: list[Fraction] = []
    for packet in packets(container, stream, jumps):
        if packet is None or not packet.size or packet.is_discard:
            continue
        time = packet.dts if container.format.name == "avi" else packet.pts
        if time is None:
            return None
        if packet.dts is not None and part.is_over(packet.dts * packet.time_base - origin):
            break  # what follows is shown later still
        times.append(time * packet.time_base - origin)
    return times
