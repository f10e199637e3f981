"""Encodes frames with a codec into a container, beside the source's audio (it needs av)."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.codec.context import Flags
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter

from nststab.video.audio import AudioTrack
from nststab.video.reader import SCALING
from nststab.video.timing import Source


class Format(NamedTuple):
    """How a kind of file is written: its container and FFmpeg's codecs, each with its options.

    Pixels are 4:2:0; a size that is odd is `odd_pixels`. `pixel_shape` says whether pixels that are not square can be
    told: FFmpeg, as PyAV lets us use it, leaves that to the codec in Matroska, and VP9 cannot. `copied_audio` are the
    codecs which may be copied, None for all that the container can name; other audio is encoded with `audio_codec`.
    """

    container: str
    container_options: dict[str, str]
    codec: str
    codec_options: dict[str, str]
    odd_pixels: str
    pixel_shape: bool
    copied_audio: frozenset[str] | None
    audio_codec: str


class VideoEncoder:
    """Writes frames of `width` by `height` pixels to `path`, tagged as BT.709; `output` stands in the messages.

    Frame rate, unit of the times, pixel shape and audio are those of `source`.

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
    ) -> None:
        self._notes: list[str] = []
        self._form = form
        self._audio: AudioTrack | None = None
        self._reformatter = VideoReformatter()
        self._pts: int | None = None
        self._container = av.open(f"file:{path}", "w", format=form.container, options=form.container_options)
        self._stream = self._add_stream(source, width, height)
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

    @property
    def notes(self) -> list[str]:
        """What the user should know about the result."""
        return self._notes if self._audio is None else self._notes + self._audio.notes

    def _add_stream(self, source: Source, width: int, height: int) -> Any:
        stream: Any = self._container.add_stream(
            self._form.codec, rate=source.rate, options=dict(self._form.codec_options)
        )
        even = width % 2 == 0 and height % 2 == 0
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p" if even else self._form.odd_pixels
        context = stream.codec_context
        context.time_base = stream.time_base = source.time_base
        context.flags |= Flags.frame_duration  # hands each frame's duration through, so that the last one keeps its own
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        if source.aspect != 1:
            context.sample_aspect_ratio = source.aspect
        return stream

    def write(self, pixels: Any, time: Fraction, duration: Fraction) -> None:
        """Encode a frame of bytes (H, W, 3), shown `duration` seconds from `time` on, and the audio up to it."""
        self._container.mux(self._stream.encode(self._to_yuv(pixels, time, duration)))
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
        unit = self._stream.codec_context.time_base
        pts = round(time / unit)
        # an encoder takes rising times only: a source which repeats one is a tick late there
        self._pts = pts if self._pts is None else max(pts, self._pts + 1)
        frame.time_base, frame.pts, frame.duration = unit, self._pts, max(1, round(duration / unit))
        return frame

    def finish(self) -> None:
        """Write what is left, and close."""
        self._container.mux(self._stream.encode(None))
        if self._audio is not None:
            self._audio.write_until(None)
        self.close()

    def close(self) -> None:
        """Close the file, and the source of the audio."""
        if self._audio is not None:
            self._audio.close()
        self._container.close()
