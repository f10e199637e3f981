"""The packets of a media file, on a clock that goes on where the file's own jumps (it needs av)."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from nststab.video.timing import Jump

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
