"""Encodes a short, silent clip into the bytes of a small .mp4, for a page that carries it (it needs av)."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from nststab.errors import NststabError
from nststab.video.encoder import Format, VideoEncoder
from nststab.video.images import to_uint8
from nststab.video.reader import av_errors
from nststab.video.timing import Timed

# A key frame every half second, so that a page can go to any frame at once.
_H264 = {"preset": "slow", "bf": "0", "g": "12"}
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
        return Format("mp4", {"movflags": "faststart"}, "libx264", _H264 | rate, "yuv444p", True, None, "aac")

    def __str__(self) -> str:
        return f"H.264, crf {self.crf}, at most {self.megabits} Mbit/s"


REPORT = Quality(20, 12)


@dataclass(frozen=True)
class _Silent:
    """The source that has nothing but a frame rate."""

    path: Path
    rate: Fraction
    time_base = Fraction(1, 90_000)  # a multiple of the usual frame rates, and fine enough for any other
    aspect = Fraction(1)
    origin = start = Fraction(0)
    has_audio = False
    end = None
    jumps = ()


def encode_clip(frames: Iterable[Timed[Tensor]], rate: Fraction, quality: Quality = REPORT) -> bytes:
    """The .mp4 of frames (1, 3, H, W), each with its time and duration in seconds; H and W even.

    rate: about how many come in a second; their times tell exactly.
    Raises ValueError without frames, or where the codec cannot hold them.
    """
    with TemporaryDirectory(prefix="nststab_") as folder:
        path = Path(folder) / "clip.mp4"
        with av_errors(Path("clip.mp4"), "the clips cannot be encoded for the page"):
            _encode(path, frames, quality, max(_SLOWEST, rate).limit_denominator(_FINEST))
        return path.read_bytes()


def _encode(path: Path, frames: Iterable[Timed[Tensor]], quality: Quality, rate: Fraction) -> None:
    encoder: VideoEncoder | None = None
    try:
        for rgb, time, duration in frames:
            pixels = to_uint8(rgb)
            if encoder is None:
                height, width, _ = pixels.shape
                encoder = VideoEncoder(path, path, quality.format, _Silent(path, rate), False, width, height)
            encoder.write(pixels, time, duration)
        if encoder is None:
            raise NststabError("expected frames to encode, got none")
        encoder.finish()
    except BaseException:
        with suppress(Exception):  # what went wrong is already on its way
            if encoder is not None:
                encoder.close()
        raise
