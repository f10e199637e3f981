"""Writes the frames of a clip to a video file, as its name asks for, or into the bytes of one for a page (needs av)."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from torch import Tensor

from nststab.errors import NststabError
from nststab.storage.parts import Parts
from nststab.video.audio import check_audio
from nststab.video.encoder import Format, VideoEncoder
from nststab.video.gif import GifEncoder
from nststab.video.images import to_uint8
from nststab.video.reader import av_errors
from nststab.video.timing import PICTURE_RATE, PictureTimes, Source, Timed

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
_SLOWEST, _FINEST = Fraction(1, 1000), 1001  # of a rate: FFmpeg holds no more than 31 bits of it


@dataclass(frozen=True)
class Quality:
    """How exactly frames are coded: x264's rate factor, the less the better, and what bounds the size."""

    crf: int
    megabits: int  # a second at most

    @property
    def format(self) -> Format:
        """Of the file."""
        rate = {"crf": f"{self.crf}", "maxrate": f"{self.megabits}M", "bufsize": f"{self.megabits * 500}k"}
        return Format("mp4", {"movflags": "faststart"}, "libx264", _PAGE_H264 | rate, "yuv444p", True, None, "aac")

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
        times = PictureTimes(path, max(_SLOWEST, rate).limit_denominator(_FINEST), _TICK)
        with VideoWriter(path, Path("clip.mp4"), times, False, form=quality.format) as writer:
            for rgb, time, duration in frames:
                writer.write(rgb, time, duration)
        return path.read_bytes()
