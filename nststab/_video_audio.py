"""Carries a source's audio along to the file that is written: copied, or encoded anew (it needs av)."""

from fractions import Fraction
from math import ceil
from typing import Any

import av
import numpy as np

from nststab._timing import Source
from nststab._video_in import open_input

_NAMES = {"aac": "AAC", "libopus": "Opus"}
_RATE = 48000  # where the encoder cannot take the source's


class AudioTrack:
    """The source's best audio stream, copied packet by packet, or encoded anew by `encoder` if that cannot be.

    Of an excerpt it takes what is heard from the source's `start` to its `end`, to the sample where it is encoded anew
    and to the packet where it is copied; audio longer than the clip is kept. It reads the source on its own, just ahead
    of the video, so the memory it needs does not grow with the clip.

    Args:
        output: the container that is written.
        suffix: what its files are called.
        copied: codecs that may be copied into it; None for all it can name.
    """

    def __init__(self, source: Source, output: Any, suffix: str, copied: frozenset[str] | None, encoder: str) -> None:
        self.notes: list[str] = []
        self._output = output
        self._begin = source.origin + source.start  # what is 0 in the output, by the source's clock
        self._first = self._begin if source.start else None  # a whole clip keeps what is heard before its picture
        self._last = None if source.end is None else source.origin + source.end
        self._input = open_input(source.path)
        stream = self._input.streams.best("audio")
        codec = stream.codec.canonical_name
        self._copied = codec in (output.supported_codecs if copied is None else copied)
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            context = stream.codec_context
            rates = av.Codec(encoder, "w").audio_rates or ()
            rate = context.sample_rate if context.sample_rate in rates else _RATE
            # not the layout's own name: raw audio often counts its channels without placing them
            self._stream = output.add_stream(encoder, rate=rate, layout=f"{context.layout.nb_channels}c")
            self.notes.append(f"the audio was encoded anew as {_NAMES[encoder]}: {suffix} does not take {codec}")
        self._packets = self._input.demux(stream)
        self._next = next(self._packets, None)

    def write_until(self, time: Fraction | None) -> None:
        """Write what is heard up to `time` in seconds, or all that is left."""
        while self._next is not None:
            packet = self._next
            if time is not None and packet.pts is not None and packet.pts * packet.time_base - self._begin > time:
                return
            self._write(packet)
            self._next = next(self._packets, None)
        if time is None and not self._copied:
            self._output.mux(self._stream.encode(None))

    def _write(self, packet: Any) -> None:
        if not self._copied:
            for frame in packet.decode():
                self._encode(frame)
        elif packet.dts is not None:  # the last packet of a demuxer is empty: it only tells the end
            start = packet.dts if packet.pts is None else packet.pts
            if not self._is_heard(start * packet.time_base):
                return
            shift = round(self._begin / packet.time_base)
            packet.pts, packet.dts = start - shift, packet.dts - shift
            packet.stream = self._stream
            self._output.mux(packet)

    def _is_heard(self, time: Fraction) -> bool:
        return (self._first is None or time >= self._first) and (self._last is None or time < self._last)

    def _encode(self, frame: Any) -> None:
        if frame.pts is not None:
            frame = self._trim(frame)
            if frame is None:
                return
            frame.pts -= round(self._begin / frame.time_base)
        self._output.mux(self._stream.encode(frame))

    def _trim(self, frame: Any) -> Any:
        """The part of a decoded frame that is heard, or None."""
        time, rate = frame.pts * frame.time_base, frame.sample_rate
        begin = 0 if self._first is None else max(0, ceil((self._first - time) * rate))
        end = frame.samples if self._last is None else min(frame.samples, ceil((self._last - time) * rate))
        if begin >= end:
            return None
        if end - begin == frame.samples:
            return frame
        step = 1 if frame.format.is_planar else frame.layout.nb_channels
        samples = np.ascontiguousarray(frame.to_ndarray()[:, begin * step : end * step])
        part: Any = av.AudioFrame.from_ndarray(samples, format=frame.format.name, layout=frame.layout.name)
        part.sample_rate, part.time_base = rate, frame.time_base
        part.pts = frame.pts + round(Fraction(begin, rate) / frame.time_base)
        return part

    def close(self) -> None:
        """Close the source."""
        self._input.close()
