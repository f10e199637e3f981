"""Encodes frames with a codec into a container, beside the source's audio (it needs av)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from nststab.storage.parts import Parts
from nststab.video.audio import AudioTrack
from nststab.video.reader import SCALING, VideoReader, open_input, video_stream
from nststab.video.timing import Source

_LARGE, _TINY = 1920 * 1088, 64 * 64  # pixels


class Format(NamedTuple):
    """How a kind of file is written: its container and FFmpeg's codecs, each with its options.

    Pixels are 4:2:0; a size that is odd is `odd_pixels`. `pixel_shape` says whether pixels that are not square can be
    told: FFmpeg, as PyAV lets us use it, leaves that to the codec in Matroska, and VP9 cannot. `copied_audio` are the
    codecs which may be copied, None for all that the container can name; other audio is encoded with `audio_codec`.
    Frames of more than 1080p have `large_options` beside the codec's, and before them, tiny ones `tiny_options`.
    """

    container: str
    container_options: dict[str, str]
    codec: str
    codec_options: dict[str, str]
    odd_pixels: str
    pixel_shape: bool
    copied_audio: frozenset[str] | None
    audio_codec: str
    large_options: Mapping[str, str] = MappingProxyType({})
    tiny_options: Mapping[str, str] = MappingProxyType({})


class VideoEncoder:
    """Writes frames of `width` by `height` pixels to `path`, tagged as BT.709; `output` stands in the messages.

    Frame rate, unit of the times, pixel shape and audio are those of `source`. Each part of the frames is coded by
    itself, and kept in `parts`; those that an earlier run had finished are written first, without coding them anew.

    Raises:
        av.FFmpegError: the file cannot be written, or the codec cannot hold the size.
    """

    def __init__(
        self,
        path: Path,
        output: Path,
        form: Format,
        source: Source,
        audio: bool,
        width: int,
        height: int,
        parts: Parts | None = None,
    ) -> None:
        self._notes: list[str] = []
        self._form, self._source, self._size = form, source, (width, height)
        self._audio: AudioTrack | None = None
        self._reformatter = VideoReformatter()
        self._parts = parts
        self._pts: int | None = None
        self._count = 0  # of the frames of this part
        self._packets: list[Any] = []  # of them, those that are coded
        self._container = av.open(f"file:{path}", "w", format=form.container, options=form.container_options)
        self._stream = self._add_stream()
        self._coder: Any = self._stream.codec_context  # of this part; that of the first gives the file its header
        if self._stream.pix_fmt == "yuv444p":
            self._notes.append(
                f"{width}x{height} is an odd size, which 4:2:0 cannot hold: {output.name} is 4:4:4, "
                "which some players do not show"
            )
        if source.aspect != 1 and not form.pixel_shape:
            self._notes.append(
                f"{output.suffix} is written without the shape of the pixels, {source.aspect} in the source: "
                "players will show them square"
            )
        if audio and source.has_audio:
            suffix = output.suffix.lower()
            self._audio = AudioTrack(source, self._container, suffix, form.copied_audio, form.audio_codec)
        if isinstance(source, VideoReader):
            self._notes += carry_tags(source, self._container, audio)
        for part in parts.finished() if parts is not None else ():
            self._write_packets(_as_packets(part, source.time_base))

    @property
    def notes(self) -> list[str]:
        """What the user should know about the result."""
        return self._notes if self._audio is None else self._notes + self._audio.notes

    def _add_stream(self) -> Any:
        stream: Any = self._container.add_stream(self._form.codec, rate=self._source.rate)
        self._set_up(stream.codec_context)
        stream.time_base = self._source.time_base
        return stream

    def _set_up(self, context: Any) -> None:
        width, height = self._size
        even = width % 2 == 0 and height % 2 == 0
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p" if even else self._form.odd_pixels
        context.time_base, context.framerate = self._source.time_base, self._source.rate
        context.options = dict(self._form.codec_options)
        if width * height > _LARGE:
            context.options |= self._form.large_options
        elif width * height < _TINY:
            context.options |= self._form.tiny_options
        context.flags |= Flags.frame_duration  # hands each frame's duration through, so that the last one keeps its own
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if self._source.aspect != 1:
            context.sample_aspect_ratio = self._source.aspect

    def write(self, pixels: Any, time: Fraction, duration: Fraction) -> None:
        """Encode a frame of bytes (H, W, 3), shown `duration` seconds from `time` on, and the audio up to it."""
        if self._coder is None:
            self._coder = av.CodecContext.create(self._form.codec, "w")
            self._set_up(self._coder)
            self._coder.flags |= self._stream.codec_context.flags
        self._packets += self._coder.encode(self._to_yuv(pixels, time, duration))
        self._count += 1
        if self._count == Parts.length:
            self._finish_part()

    def _finish_part(self) -> None:
        packets = [*self._packets, *self._coder.encode(None)]
        if self._parts is not None and self._count == Parts.length:
            self._parts.keep({"size": np.array(self._size), **_as_arrays(packets)})
        self._write_packets(packets)
        self._coder, self._packets, self._count = None, [], 0

    def _write_packets(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._pts, time = packet.pts, packet.pts * packet.time_base
            packet.stream = self._stream
            self._container.mux(packet)
            if self._audio is not None:
                self._audio.write_until(time)

    def _to_yuv(self, pixels: Any, time: Fraction, duration: Fraction) -> VideoFrame:
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(pixels, format="rgb24"),
            format=self._stream.pix_fmt,
            interpolation=SCALING,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.color_primaries, frame.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        unit = self._source.time_base
        pts = round(time / unit)
        # an encoder takes rising times only: a source which repeats one is a tick late there
        self._pts = pts if self._pts is None else max(pts, self._pts + 1)
        frame.time_base, frame.pts, frame.duration = unit, self._pts, max(1, round(duration / unit))
        return frame

    def finish(self) -> None:
        """Write what is left, and close."""
        if self._coder is not None:
            self._finish_part()
        if self._audio is not None:
            self._audio.write_until(None)
        self.close()

    def close(self) -> None:
        if self._audio is not None:
            self._audio.close()
        self._container.close()


def _as_arrays(packets: Sequence[Any]) -> dict[str, Any]:
    """Coded frames as arrays: their bytes, one after the other, and of each its length and times."""
    rows = [(packet.size, packet.pts, packet.dts, packet.duration, packet.is_keyframe) for packet in packets]
    return {"data": np.frombuffer(b"".join(map(bytes, packets)), np.uint8), "packets": np.array(rows, np.int64)}


def _as_packets(part: Mapping[str, Any], unit: Fraction) -> Iterator[Any]:
    """What `_as_arrays` was given, with times in `unit`."""
    end = 0
    for size, pts, dts, duration, is_keyframe in part["packets"].tolist():
        begin, end = end, end + size
        packet = av.Packet(part["data"][begin:end].tobytes())
        packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, unit
        packet.is_keyframe = bool(is_keyframe)
        yield packet


_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # tags that its writer sets


def carry_tags(source: VideoReader, output: Any, audio: bool) -> list[str]:
    """Gives an output container the title, the chapters and other tags of the source; says what is left out.

    Chapters are cut with an excerpt. Without `audio` all sound is left out on purpose.
    """
    with open_input(source.path) as container:
        told = {name: text for name, text in container.metadata.items() if name.lower() not in _OF_THE_FILE}
        output.metadata.update(told)
        output.set_chapters([part for chapter in container.chapters() if (part := _shown(chapter, source)) is not None])
        taken = [video_stream(container, source.path)]
        taken += [container.streams.best("audio")] if audio and source.has_audio else container.streams.audio
        left = Counter(_name(stream) for stream in container.streams if stream not in taken)
        if container.chapters():  # MP4 shows them in a track of their own
            left["data track", ""] -= 1
    said = ", ".join(f"{count} {kind}{'s' * (count > 1)}{of}" for (kind, of), count in left.items() if count > 0)
    return [f"{source.path.name} has more than is carried along: {said}"] if said else []


def _shown(chapter: dict[str, Any], source: VideoReader) -> dict[str, Any] | None:
    """What an excerpt shows of a chapter, by the output's clock in the chapter's unit; None if nothing."""
    unit = chapter["time_base"]
    begin = round((source.origin + source.start) / unit)
    end = chapter["end"] if source.end is None else min(chapter["end"], round((source.origin + source.end) / unit))
    start = max(chapter["start"], begin)
    return {**chapter, "start": start - begin, "end": end - begin} if start < end else None


def _name(stream: Any) -> tuple[str, str]:
    """What to call a kind of track, and its language, where it has one."""
    if stream.disposition & Disposition.attached_pic:
        return "cover picture", ""
    language = stream.metadata.get("language", "und")
    return f"{stream.type} track", "" if language == "und" or stream.type == "data" else f" in {language}"
