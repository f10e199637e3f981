"""Carries a source's audio along to the file that is written: copied, or encoded anew (it needs av)."""

from contextlib import suppress
from fractions import Fraction
from math import ceil
from typing import Any

import av
import numpy as np

from nststab.video.reader import av_errors, open_input
from nststab.video.timing import Source

_NAMES = {"aac": "AAC", "libopus": "Opus"}
_RATE = 48000  # where the encoder cannot take the source's
_OPUS_LAYOUTS = {3: "3.0", 4: "quad"}  # where those that FFmpeg prefers, 2.1 and 4.0, cannot be had
_GAP = Fraction(1, 50)  # seconds without samples that are filled with silence; rounded times make shorter ones
_LEAD = 1  # seconds before an excerpt at which to begin, so that the decoder has settled at its start


class AudioTrack:
    """The source's best audio stream, copied packet by packet, or encoded anew by `encoder` if that cannot be.

    Of an excerpt it takes what is heard from the source's `start` to its `end`: to the packet where it is copied, and
    to the sample where it is encoded anew, as PCM always is, in its own codec. Audio longer than a whole clip is kept.
    It reads the source on its own, just ahead of the video, so the memory it needs does not grow with the clip.

    Args:
        output: the container that is written.
        suffix: what its files are called.
        copied: codecs that may be copied into it; None for all it can name.
    """

    def __init__(self, source: Source, output: Any, suffix: str, copied: frozenset[str] | None, encoder: str) -> None:
        self._notes: list[str] = []
        self._damaged = 0
        self._due: Fraction | None = None  # where the next sample to be encoded belongs
        self._output, self._path = output, source.path
        self._begin = source.origin + source.start  # what is 0 in the output, by the source's clock
        self._first = self._begin if source.start else None  # a whole clip keeps what is heard before its picture
        self._last = None if source.end is None else source.origin + source.end
        stream = self._open()
        self._codec = stream.codec.canonical_name
        known = self._codec in (output.supported_codecs if copied is None else copied)
        whole = self._first is None and self._last is None
        self._copied = known and (whole or not self._codec.startswith("pcm_"))
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            self._stream = self._add_stream(stream.codec_context, self._codec if known else encoder)
        if not known:
            self._notes.append(f"the audio was encoded anew as {_NAMES[encoder]}: {suffix} does not take {self._codec}")

    @property
    def notes(self) -> list[str]:
        """What the user should know about it."""
        if not self._damaged:
            return self._notes
        return [*self._notes, f"{self._damaged} damaged packets of the audio could not be decoded: left out"]

    def _open(self, from_start: bool = False) -> Any:
        """Open the source, just before the excerpt if it can be brought there, and give its audio stream."""
        self._input = open_input(self._path)
        stream = self._input.streams.best("audio")
        if self._first is not None and not from_start:
            with suppress(av.FFmpegError):
                self._input.seek(int((self._first - _LEAD) / stream.time_base), stream=stream)
        self._packets = self._input.demux(stream)
        self._next = next(self._packets, None)
        begin = None if self._next is None or self._next.pts is None else self._next.pts * stream.time_base
        if self._first is None or from_start or (begin is not None and begin <= self._first):
            return stream
        self._input.close()  # it went too far, if the audio does not begin that late
        return self._open(from_start=True)

    def _add_stream(self, context: Any, encoder: str) -> Any:
        rates = av.Codec(encoder, "w").audio_rates
        rate = context.sample_rate if not rates or context.sample_rate in rates else _RATE
        # not the layout's own name: raw audio often counts its channels without placing them
        channels = context.layout.nb_channels
        layout = _OPUS_LAYOUTS.get(channels) if encoder == "libopus" else None
        return self._output.add_stream(encoder, rate=rate, layout=layout or f"{channels}c")

    def write_until(self, time: Fraction | None) -> None:
        """Write what is heard up to `time` in seconds, or all that is left."""
        while self._next is not None:
            packet = self._next
            start = None if packet.pts is None else packet.pts * packet.time_base
            if start is not None and self._last is not None and start >= self._last:
                self._next = None
                break
            if time is not None and start is not None and start - self._begin > time:
                return
            self._write(packet)
            self._next = next(self._packets, None)
        if time is None and not self._copied:
            self._encode(None)

    def _write(self, packet: Any) -> None:
        if not self._copied:
            for frame in self._decode(packet):
                part = frame if frame.pts is None else self._trim(frame)
                if part is not None:
                    self._fill_up_to(part)
                    self._encode(part)
        elif packet.dts is not None:  # the last packet of a demuxer is empty: it only tells the end
            start = packet.dts if packet.pts is None else packet.pts
            if self._first is None or start * packet.time_base >= self._first:
                shift = round(self._begin / packet.time_base)
                packet.pts, packet.dts = start - shift, packet.dts - shift
                packet.stream = self._stream
                self._output.mux(packet)

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except av.InvalidDataError:
            self._damaged += 1
            return []

    def _encode(self, frame: Any) -> None:
        with av_errors(self._path, f"the audio ({self._codec}) cannot be encoded anew"):
            if frame is not None and frame.pts is not None:
                frame.pts -= round(self._begin / frame.time_base)
            self._output.mux(self._stream.encode(frame))

    def _trim(self, frame: Any) -> Any:
        """The part of a decoded frame that is heard, or None."""
        time, rate = frame.pts * frame.time_base, frame.sample_rate
        begin = 0 if self._first is None else max(0, ceil((self._first - time) * rate))
        end = frame.samples if self._last is None else min(frame.samples, ceil((self._last - time) * rate))
        if begin >= end or end - begin == frame.samples:
            return frame if begin < end else None
        step = 1 if frame.format.is_planar else frame.layout.nb_channels
        samples = frame.to_ndarray()[:, begin * step : end * step]
        return _like(frame, samples, frame.pts + round(Fraction(begin, rate) / frame.time_base))

    def _fill_up_to(self, frame: Any) -> None:
        """Encode silence where samples are missing: an encoder takes all there are as following one another."""
        if frame.pts is None:
            return
        time, rate = frame.pts * frame.time_base, frame.sample_rate
        due = time if self._due is None else self._due
        self._due = (due if time - due < _GAP else time) + Fraction(frame.samples, rate)
        if time - due < _GAP:
            return
        missing = round((time - due) * rate)
        rows, columns = frame.to_ndarray().shape
        for begin in range(0, missing, rate):
            count = min(rate, missing - begin) * columns // frame.samples
            silence = np.full((rows, count), 128 if frame.format.name.startswith("u8") else 0, frame.to_ndarray().dtype)
            self._encode(_like(frame, silence, round((due + Fraction(begin, rate)) / frame.time_base)))

    def close(self) -> None:
        """Close the source."""
        self._input.close()


def _like(frame: Any, samples: Any, pts: int) -> Any:
    """An audio frame with other samples, as `to_ndarray` gives them, and another time."""
    layout = frame.layout.name
    other: Any = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=frame.format.name, layout=layout)
    other.sample_rate, other.time_base, other.pts = frame.sample_rate, frame.time_base, pts
    return other
