"""Writes the frames of a clip to a video file, as its name asks for, or into the bytes of one for a page (needs av)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from torch import Tensor

from nststab.errors import NststabError
from nststab.storage.parts import Parts
from nststab.video.audio import AudioTrack, check_audio
from nststab.video.gif import GifEncoder
from nststab.video.images import to_uint8
from nststab.video.reader import SCALING, VideoReader, av_errors, open_input, video_stream
from nststab.video.timing import PICTURE_RATE, PictureTimes, Source, Timed, plain_rate

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


# no B-frames: with them an .mp4 can hold neither uneven times nor the last frame's duration exactly
# and a short look-ahead: the usual 40 frames give no better pictures and of 4K take half a gigabyte
_H264 = {"crf": "17", "preset": "fast", "bf": "0", "rc-lookahead": "10"}
# a stylized clip of 4K as good for 4 % more bytes, in half of the time
_LARGE_H264 = {"preset": "faster", "rc-lookahead": "5"}
# its macroblock tree reads past the blocks of a tiny frame by AVX, so one run's bits were not the next one's
_TINY_H264 = {"mbtree": "0"}
_SIZED_H264 = (_LARGE_H264, _TINY_H264)
_VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
# Matroska would else move every time by the encoder delay at which copied audio begins, before 0
_MATROSKA = {"avoid_negative_ts": "disabled"}
# what players expect in an .mp4; Matroska takes every codec FFmpeg can name
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})
_WEBM_AUDIO = frozenset({"opus", "vorbis"})
_FORMATS = {
    ".mp4": Format(
        "mp4", {"movflags": "faststart"}, "libx264", _H264, "yuv444p", True, _MP4_AUDIO, "aac", *_SIZED_H264
    ),
    ".mkv": Format("matroska", _MATROSKA, "libx264", _H264, "yuv444p", True, None, "aac", *_SIZED_H264),
    ".webm": Format("webm", _MATROSKA, "libvpx-vp9", _VP9, "yuv420p", False, _WEBM_AUDIO, "libopus"),
}


class VideoWriter:
    """Writes a clip to `temporary` in `form`, by default what the suffix of `output` names: .mp4, .mkv, .webm or .gif.

    The first frame gives the size. Frame times, pixel shape and audio are those of `source`; without a source the
    frames follow at 25 per second. `notes` tells what the format could not hold. Finished `parts` are kept, and those
    of an earlier run come first: then the first frame that is written is the one after them.

    Raises:
        OSError: the file cannot be written.
        ValueError: audio with more channels than the format's codec holds, a frame of another size than the first, a
            size which the codec cannot hold, or no frame at all.
    """

    def __init__(
        self,
        temporary: Path,
        output: Path,
        source: Source | None,
        audio: bool,
        parts: Parts | None = None,
        form: Format | None = None,
    ) -> None:
        self._temporary, self._output, self._with_audio, self._parts = temporary, output, audio, parts
        self._source = PictureTimes(output, PICTURE_RATE) if source is None else source
        self._encoder: VideoEncoder | GifEncoder | None = None
        self._size: tuple[int, int] | None = None
        self._count = 0 if parts is None else parts.frames
        self._form = form or _FORMATS.get(output.suffix.lower())  # None: GIF, which has an encoder of its own
        if self._form is not None and audio and self._source.has_audio:
            check_audio(self._source, self._form.copied_audio, self._form.audio_codec)

    @property
    def notes(self) -> list[str]:
        """What the user should know about the result."""
        return [] if self._encoder is None else self._encoder.notes

    def __enter__(self) -> Self:
        if self._parts is not None and self._parts.frames:
            with av_errors(self._output, "the video cannot be resumed"):
                self._size = self._parts.size
                self._encoder = self._open(*self._size)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            if self._encoder is None:
                raise NststabError(f"{self._output}: no frames to write")
            with av_errors(self._output, "the video cannot be finished"):
                self._encoder.finish()
        elif self._encoder is not None:
            with suppress(Exception):  # an unfinished file is removed; what went wrong is already on its way
                self._encoder.close()

    def write(self, rgb: Tensor, time: Fraction | None, duration: Fraction | None) -> None:
        """Encode a frame (1, 3, H, W), shown `duration` seconds from `time` on, and the audio up to it."""
        pixels = to_uint8(rgb)
        height, width, _ = pixels.shape
        if self._size is not None and self._size != (width, height):
            raise NststabError(
                f"{self._output}: expected frames of {self._size[0]}x{self._size[1]} pixels "
                f"as the first, got {width}x{height}"
            )
        time = self._count / self._source.rate if time is None else time
        duration = 1 / self._source.rate if duration is None else duration
        with av_errors(self._output, f"the video cannot be encoded at {width}x{height}"):
            if self._encoder is None:
                self._encoder = self._open(width, height)
                self._size = (width, height)
            self._encoder.write(pixels, time, duration)
        self._count += 1

    def _open(self, width: int, height: int) -> VideoEncoder | GifEncoder:
        temporary, output, source, audio = self._temporary, self._output, self._source, self._with_audio
        if self._form is None:
            return GifEncoder(temporary, output, source, audio, width, height, self._parts)
        return VideoEncoder(temporary, output, self._form, source, audio, width, height, self._parts)


# A key frame every half second, so that a page can go to any frame at once.
_PAGE_H264 = {"preset": "slow", "bf": "0", "g": "12"}
_TICK = Fraction(1, 90_000)  # a multiple of the usual frame rates, and fine enough for any other
_SLOWEST = Fraction(1, 1000)  # of a rate


@dataclass(frozen=True)
class Quality:
    """How exactly frames are coded: x264's rate factor, the less the better, and what bounds the size."""

    crf: int
    megabits: int  # a second at most

    @property
    def format(self) -> Format:
        """Of the file."""
        rate = {"crf": f"{self.crf}", "maxrate": f"{self.megabits}M", "bufsize": f"{self.megabits * 500}k"}
        options = ({"movflags": "faststart"}, "libx264", _PAGE_H264 | rate)
        return Format("mp4", *options, "yuv444p", True, None, "aac", tiny_options=_TINY_H264)

    def __str__(self) -> str:
        return f"H.264, crf {self.crf}, at most {self.megabits} Mbit/s"


REPORT = Quality(20, 12)


def encode_clip(frames: Iterable[Timed[Tensor]], rate: Fraction, quality: Quality = REPORT) -> bytes:
    """The .mp4 of frames (1, 3, H, W), each with its time and duration in seconds; H and W even.

    rate: about how many come in a second; their times tell exactly.
    Raises ValueError without frames, or where the codec cannot hold them.
    """
    with TemporaryDirectory(prefix="nststab_") as folder:
        path = Path(folder) / "clip.mp4"
        times = PictureTimes(path, plain_rate(max(_SLOWEST, rate)), _TICK)
        with VideoWriter(path, Path("clip.mp4"), times, False, form=quality.format) as writer:
            for rgb, time, duration in frames:
                writer.write(rgb, time, duration)
        return path.read_bytes()
