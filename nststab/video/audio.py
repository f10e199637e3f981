"""Carries a source's audio along to the file that is written: copied, or encoded anew (it needs av)."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import av
from av.filter import Graph
from av.rational import AVRational

from nststab.errors import NststabError
from nststab.video.packets import packets
from nststab.video.reader import av_errors, has_any_clock, open_input
from nststab.video.timing import Source

_NAMES = {"aac": "AAC", "libopus": "Opus"}
_RATE = 48000  # where the encoder cannot take the source's
# Layouts that FFmpeg's decoder gives back with each channel in its place. Others go into the first of those with at
# least as many channels that has most of theirs.
_LAYOUTS = {
    "aac": ("mono", "stereo", "3.0", "2.1", "3.0(back)", "4.0", "quad", "5.0", "5.1", "7.1"),
    "libopus": ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"),
}
# FFmpeg's own order of channels for Opus exchanges some of 5.0 and of 6.1; libopus's surround coder has the standard's
_OPTIONS = {"libopus": {"mapping_family": "1"}}
_BACKS = {"SL": "BL", "SR": "BR"}
_GAP = "0.02"  # seconds without samples that are filled with silence; rounded times make shorter ones
_COARSE, _FINE = Fraction(1, 1000), Fraction(1, 90_000)  # units of time: AVI's is a packet of sound
_SETTLED = Fraction(1, 10)  # seconds of hidden sound before the picture that are copied, for the decoder to settle
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

    Raises:
        ValueError: the encoder cannot hold so many channels.
    """

    def __init__(self, source: Source, output: Any, suffix: str, copied: frozenset[str] | None, encoder: str) -> None:
        self._notes: list[str] = []
        self._damaged = self._overlapping = 0
        self._latest: int | None = None  # when the last packet that was copied is decoded, in its unit
        self._output, self._path, self._jumps = output, source.path, source.jumps
        self._begin = source.origin + source.start  # what is 0 in the output, by the source's clock
        self._first = self._begin if source.start else None  # a whole clip keeps what is heard before its picture
        self._last = None if source.end is None else source.origin + source.end
        self._codec = self._open().codec.canonical_name
        known = self._codec in (output.supported_codecs if copied is None else copied)
        is_pcm = self._codec.startswith("pcm_")
        whole = self._first is None and self._last is None
        self._samples: _Samples | None = None
        anew = not known or (is_pcm and not whole) or self._changes()
        stream: Any = self._input.streams.best("audio")
        if anew:
            self._stream = self._add_stream(stream.codec_context, self._codec if known and is_pcm else encoder)
            self._samples = _Samples(self._stream.codec_context, self._first, self._last)
        else:
            self._stream = output.add_stream_from_template(stream)
        told = stream.metadata
        kept = {"language": told.get("language"), "title": told.get("title", told.get("name"))}  # MP4 says name
        self._stream.metadata.update({name: text for name, text in kept.items() if text})
        if not known:
            self._notes.append(f"the audio was encoded anew as {_NAMES[encoder]}: {suffix} does not take {self._codec}")

    @property
    def notes(self) -> list[str]:
        """What the user should know about it."""
        notes = [*self._notes]
        if self._samples is not None and self._samples.changed:
            notes.append(f"the audio changes its channels or its rate on the way: all of it is {self._samples}")
        if self._damaged:
            notes.append(f"{self._damaged} damaged packets of the audio could not be decoded: left out")
        if self._overlapping:
            notes.append(f"packets of the audio that overlap others in time were left out: {self._overlapping}")
        return notes

    def _open(self, from_start: bool = False) -> Any:
        """Open the source, just before the excerpt if it can be brought there, and give its audio stream."""
        self._input = open_input(self._path)
        stream = self._input.streams.best("audio")
        if self._first is not None and not from_start and not self._jumps:
            with suppress(av.FFmpegError):
                self._input.seek(int((self._first - _LEAD) / stream.time_base), stream=stream)
        self._packets = self._shown(packets(self._input, stream, self._jumps))
        self._next = next(self._packets, None)
        begin = None if self._next is None or self._next.pts is None else self._next.pts * stream.time_base
        if self._first is None or from_start or (begin is not None and begin <= self._first):
            return stream
        self._input.close()  # it went too far, if the audio does not begin that late
        return self._open(from_start=True)

    def _shown(self, found: Iterator[Any]) -> Iterator[Any]:
        """The packets before the end of the excerpt, or before an error that nothing can be read after."""
        for packet in found:
            if packet is None:
                self._damaged += 1
                return
            if self._last is not None and packet.pts is not None and packet.pts * packet.time_base >= self._last:
                return
            yield packet

    def _changes(self) -> bool:
        """Whether the audio changes on the way, as that of MPEG streams may: a copy has one description for all."""
        if not has_any_clock(self._input):
            return False
        kinds = {
            (frame.sample_rate, frame.layout.name)
            for packet in chain([self._next], self._packets)
            for frame in self._decode(packet)
        }
        self._damaged = 0
        self._input.close()
        self._open()
        return len(kinds) > 1

    def _add_stream(self, context: Any, encoder: str) -> Any:
        rates = av.Codec(encoder, "w").audio_rates
        rate = context.sample_rate if not rates or context.sample_rate in rates else _RATE
        layout = _fitting_layout(self._path, context, encoder)
        if layout.nb_channels != context.layout.nb_channels:
            self._notes.append(f"the audio's channels, {context.layout.name}, are written as {layout.name}")
        return self._output.add_stream(encoder, rate=rate, layout=layout.name, options=_OPTIONS.get(encoder, {}))

    def write_until(self, time: Fraction | None) -> None:
        """Write what is heard up to `time` in seconds, or all that is left."""
        while self._next is not None:
            packet = self._next
            if time is not None and packet.pts is not None and packet.pts * packet.time_base - self._begin > time:
                return
            self._write(packet)
            self._next = next(self._packets, None)
        if time is None and self._samples is not None:
            self._encode(self._samples, None)
            self._output.mux(self._stream.encode(None))

    def _write(self, packet: Any) -> None:
        if self._samples is not None:
            for frame in self._decode(packet):
                self._encode(self._samples, frame)
        elif packet.dts is not None:  # the last packet of a demuxer is empty: it only tells the end
            if packet.time_base > _COARSE:
                packet.rescale_ts(AVRational(_FINE))
            start = packet.dts if packet.pts is None else packet.pts
            first = self._begin - _SETTLED if self._first is None and packet.is_discard else self._first
            if first is None or start * packet.time_base >= first:
                self._copy(packet, start)

    def _copy(self, packet: Any, start: int) -> None:
        """Write a packet as it is, unless it overlaps the one before, as where recordings were joined."""
        if self._latest is not None and packet.dts <= self._latest:
            self._overlapping += 1
            return
        self._latest, shift = packet.dts, round(self._begin / packet.time_base)
        packet.pts, packet.dts = start - shift, packet.dts - shift
        packet.stream = self._stream
        try:
            self._output.mux(packet)
        except (av.InvalidDataError, av.PatchWelcomeError):  # .mp4 takes AAC packets to pieces: none that is damaged
            self._damaged += 1

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames = list(packet.decode())
        except av.FFmpegError:  # damage makes decoders fail in many ways
            frames = []
            self._damaged += 1
        placed = [frame for frame in frames if _is_placed(frame.layout)]
        self._damaged += len(placed) < len(frames)
        return placed

    def _encode(self, samples: "_Samples", frame: Any) -> None:
        coded = []
        with av_errors(self._path, f"the audio ({self._codec}) cannot be encoded anew; audio=False leaves it out"):
            for part in samples.of(frame):
                if part.pts is not None:
                    part.pts -= round(self._begin / part.time_base)
                coded += self._stream.encode(part)
        self._output.mux(coded)

    def close(self) -> None:
        self._input.close()


def check_audio(source: Source, copied: frozenset[str] | None, encoder: str) -> None:
    """Raises ValueError where `AudioTrack` would, before there is anything to write."""
    with open_input(source.path) as container:
        stream: Any = container.streams.best("audio")
        if copied is not None and stream.codec.canonical_name not in copied:
            _fitting_layout(source.path, stream.codec_context, encoder)


def _is_unplaced(layout: Any) -> bool:
    """Whether its channels have no places, as those of raw audio often have not."""
    return all(channel.name == "NONE" for channel in layout.channels)


def _is_placed(layout: Any) -> bool:
    """Whether its channels have places, or it is known where so many belong: of 53 that damage tells of it is not."""
    try:
        return not _is_unplaced(layout) or bool(av.AudioLayout(f"{layout.nb_channels}c"))
    except ValueError:
        return False


def _fitting_layout(path: Path, context: Any, encoder: str) -> Any:
    """The layout in which an encoder is to hold decoded audio: its own, or one with a place for each channel."""
    if encoder not in _LAYOUTS:
        return context.layout
    count = context.layout.nb_channels
    enough = [one for one in map(av.AudioLayout, _LAYOUTS[encoder]) if one.nb_channels >= count]
    if not enough:
        raise NststabError(
            f"{path}: its audio ({context.codec.canonical_name}) has {count} channels, "
            f"more than {_NAMES[encoder]} holds; audio=False leaves it out"
        )
    return max(enough, key=lambda one: _places(context.layout, one))


def _places(own: Any, other: Any) -> int:
    """How many channels of one layout have their place in another, where the sides may be the back that `own` lacks."""
    ours, theirs = ({channel.name for channel in one.channels} for one in (own, other))
    return sum(name in theirs or _BACKS.get(name) in theirs - ours for name in ours)


class _Samples:
    """Decoded audio as an encoder takes it: of one rate and layout, without gaps, from `begin` to `end` in seconds.

    Whatever changes on the way is resampled. `changed` says whether that was needed.
    """

    def __init__(self, encoder: Any, begin: Fraction | None, end: Fraction | None) -> None:
        self._encoder, self._begin, self._end = encoder, begin, end
        self._graph: Any = None
        self._kind: object = None  # of the frames that the graph takes
        self._due: Fraction | None = None  # where the next sample belongs
        self.changed = False

    def __str__(self) -> str:
        return f"{self._encoder.layout.name} at {self._encoder.sample_rate} Hz"

    def of(self, frame: Any) -> Iterator[Any]:
        """What comes of a frame, or of all that is left for None."""
        kind = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            if self._graph is not None:
                yield from self._pass(None)
                self.changed = self.changed or frame is not None
            self._graph, self._kind = frame and self._filters(frame), kind
        if frame is not None:
            if frame.pts is not None:
                frame.pts = round(frame.pts * frame.time_base * frame.sample_rate)
            frame.time_base = Fraction(1, frame.sample_rate)
            yield from self._pass(frame)

    def _pass(self, frame: Any) -> Iterator[Any]:
        with suppress(av.BlockingIOError, av.EOFError):  # it wants more; it is behind the end
            self._graph.push(frame)
            while True:
                part = self._graph.pull()
                if part.pts is not None:
                    self._due = (part.pts + part.samples) * part.time_base
                yield part

    def _filters(self, frame: Any) -> Any:
        rate, layout = frame.sample_rate, frame.layout
        own = self._encoder.layout
        if _is_unplaced(layout):
            layout = own if own.nb_channels == layout.nb_channels else av.AudioLayout(f"{layout.nb_channels}c")
        cut = {"start_pts": self._begin, "end_pts": self._end}
        first = {} if self._due is None else {"first_pts": f"{round(self._due * rate)}"}
        graph = Graph()
        nodes = [
            graph.add_abuffer(sample_rate=rate, format=frame.format.name, layout=layout.name),
            graph.add("atrim", **{name: f"{ceil(time * rate)}" for name, time in cut.items() if time is not None}),
            graph.add(
                "aresample",
                **{"async": "1", "min_hard_comp": _GAP, "sample_rate": f"{self._encoder.sample_rate}"},
                **first,
            ),
            graph.add("aformat", sample_fmts=self._encoder.format.name, channel_layouts=own.name),
            graph.add("abuffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        return graph
