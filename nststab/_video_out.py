"""Encodes frames and carries the source's audio along: the writing half of video.py (it needs av)."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from torch import Tensor

from nststab._video_in import SCALING, VideoReader, av_errors, open_input
from nststab.images import to_uint8

_FORMATS = {".mp4": "mp4", ".mkv": "matroska"}
# what players expect in an .mp4; Matroska takes every codec FFmpeg can name
_MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
# no B-frames: with them an .mp4 can hold neither uneven times nor the last frame's duration exactly
_H264 = {"crf": "17", "preset": "medium", "bf": "0"}
_PICTURE_RATE = Fraction(25)  # pictures have no timing of their own


class VideoWriter:
    """Writes H.264 to `temporary` in the container which the suffix of `output` names, tagged as BT.709.

    The first frame gives the size. Frame times, pixel shape and audio are those of `source`; without a source the
    frames follow at 25 per second. Even sizes become 4:2:0, odd ones 4:4:4, which `notes` tells.

    Raises:
        OSError: the file cannot be written.
        ValueError: a frame of another size than the first, a size which H.264 cannot hold, or no frame at all.
    """

    def __init__(self, temporary: Path, output: Path, source: VideoReader | None, audio: bool) -> None:
        self.notes: list[str] = []
        self._temporary, self._output, self._source, self._with_audio = temporary, output, source, audio
        self._container: Any = None
        self._stream: Any = None
        self._audio: _AudioTrack | None = None
        self._reformatter = VideoReformatter()
        self._pts = -1
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        else:
            with suppress(Exception):  # an unfinished file is removed; what went wrong is already on its way
                self._close()

    def write(self, rgb: Tensor, time: Fraction | None, duration: Fraction | None) -> None:
        """Encode a frame (1, 3, H, W), shown `duration` seconds from `time` on, and the audio up to it."""
        pixels = to_uint8(rgb)
        height, width, _ = pixels.shape
        with av_errors(self._output, f"the video cannot be encoded at {width}x{height}"):
            if self._container is None:
                self._open(width, height)
            if (width, height) != (self._stream.width, self._stream.height):
                raise ValueError(
                    f"{self._output}: expected frames of {self._stream.width}x{self._stream.height} pixels "
                    f"as the first, got {width}x{height}"
                )
            time = self._count / _PICTURE_RATE if time is None else time
            duration = 1 / _PICTURE_RATE if duration is None else duration
            self._container.mux(self._stream.encode(self._to_yuv(pixels, time, duration)))
            if self._audio is not None:
                self._audio.write_until(time)
        self._count += 1

    def _open(self, width: int, height: int) -> None:
        source = self._source
        suffix = self._output.suffix.lower()
        # Matroska would else move every time by the encoder delay at which copied AAC begins, before 0
        options = {"movflags": "faststart"} if suffix == ".mp4" else {"avoid_negative_ts": "disabled"}
        self._container = av.open(f"file:{self._temporary}", "w", format=_FORMATS[suffix], options=options)
        rate = source.rate if source is not None else _PICTURE_RATE
        stream = self._container.add_stream("libx264", rate=rate, options=_H264)
        even = width % 2 == 0 and height % 2 == 0
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p" if even else "yuv444p"
        context = stream.codec_context
        context.time_base = stream.time_base = source.time_base if source is not None else 1 / _PICTURE_RATE
        context.flags |= Flags.frame_duration  # hands each frame's duration through, so that the last one keeps its own
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if source is not None and source.aspect != 1:
            context.sample_aspect_ratio = source.aspect
        self._stream = stream
        if not even:
            self.notes.append(
                f"{width}x{height} is an odd size, which 4:2:0 cannot hold: {self._output.name} is 4:4:4, "
                "which some players do not show"
            )
        if source is not None and self._with_audio and source.has_audio:
            self._audio = _AudioTrack(source, self._container, suffix)
            self.notes += self._audio.notes

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
        unit = self._stream.codec_context.time_base
        # an encoder takes rising times only: a source which repeats one is a tick late there
        self._pts = max(round(time / unit), self._pts + 1) if self._count else round(time / unit)
        frame.time_base, frame.pts, frame.duration = unit, self._pts, max(1, round(duration / unit))
        return frame

    def _finish(self) -> None:
        if self._container is None:
            raise ValueError(f"{self._output}: no frames to write")
        with av_errors(self._output, "the video cannot be finished"):
            self._container.mux(self._stream.encode(None))
            if self._audio is not None:
                self._audio.write_until(None)
            self._close()

    def _close(self) -> None:
        if self._audio is not None:
            self._audio.close()
        if self._container is not None:
            self._container.close()


class _AudioTrack:
    """The source's best audio stream, copied packet by packet, or encoded anew as AAC if that cannot be.

    It reads the source on its own, just ahead of the video, so the memory it needs does not grow with the clip.
    """

    def __init__(self, source: VideoReader, output: Any, suffix: str) -> None:
        self.notes: list[str] = []
        self._output, self._origin = output, source.origin
        self._input = open_input(source.path)
        stream = self._input.streams.best("audio")
        codec = stream.codec_context.name
        self._copied = (
            codec in _MP4_AUDIO if suffix == ".mp4" else stream.codec.canonical_name in output.supported_codecs
        )
        if self._copied:
            self._stream = output.add_stream_from_template(stream)
        else:
            context = stream.codec_context
            rate = context.sample_rate if context.sample_rate in (av.Codec("aac", "w").audio_rates or ()) else 48000
            # not the layout's own name: raw audio often counts its channels without placing them
            self._stream = output.add_stream("aac", rate=rate, layout=f"{context.layout.nb_channels}c")
            self.notes.append(f"the audio was encoded anew as AAC: {suffix} does not take {codec}")
        self._packets = self._input.demux(stream)
        self._next = next(self._packets, None)

    def write_until(self, time: Fraction | None) -> None:
        """Write what is heard up to `time` in seconds, or all that is left."""
        while self._next is not None:
            packet = self._next
            if time is not None and packet.pts is not None and packet.pts * packet.time_base - self._origin > time:
                return
            self._write(packet)
            self._next = next(self._packets, None)
        if time is None and not self._copied:
            self._output.mux(self._stream.encode(None))

    def _write(self, packet: Any) -> None:
        if not self._copied:
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= round(self._origin / frame.time_base)
                self._output.mux(self._stream.encode(frame))
        elif packet.dts is not None:  # the last packet of a demuxer is empty: it only tells the end
            shift = round(self._origin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = self._stream
            self._output.mux(packet)

    def close(self) -> None:
        """Close the source."""
        self._input.close()
