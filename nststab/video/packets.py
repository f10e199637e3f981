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
    shift, due, position = Fraction(0), None, 0
    for packet in _demuxed(container, stream):
        if jumps and packet is not None and packet.dts is not None:
            position = packet.pos or position
            if _is_jump(packet, due):
                shift = min(starts, key=lambda jump: abs(jump.position - position)).shift
            due = _end(packet)
            ticks = round(shift / packet.time_base)
            packet.dts += ticks
            packet.pts = None if packet.pts is None else packet.pts + ticks
        yield packet


def find_jumps(container: Any, stream: Any, origin: Fraction) -> tuple[Jump, ...]:
    """Where the clock of a video stream jumps: recordings that were joined have one each.

    What follows a jump is shown when all before is over; `origin` is the time in seconds which counts as 0.
    """
    jumps: list[Jump] = []
    shift, end, due = Fraction(0), origin, None
    for packet in _demuxed(container, stream):
        if packet is None or packet.dts is None or packet.pts is None:
            continue
        begin = packet.pts * packet.time_base
        if _is_jump(packet, due):
            shift = end - begin
            jumps.append(Jump(packet.pos or 0, shift, end - origin))
        due = _end(packet)
        end = max(end, begin + shift + packet.duration * packet.time_base)
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


def _is_jump(packet: Any, due: Fraction | None) -> bool:
    """Whether a packet is decoded much later or earlier than `due` in seconds, where the one before ends."""
    step = 0 if due is None else packet.dts * packet.time_base - due
    return not -_BACK <= step <= _AHEAD


def _end(packet: Any) -> Fraction:
    end: Fraction = (packet.dts + packet.duration) * packet.time_base
    return end
