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

# A key frame every half second, so that a page can go to any frame at once; the rate is bounded, so that its size is.
_H264 = {"crf": "20", "preset": "slow", "bf": "0", "g": "12", "maxrate": "12M", "bufsize": "6M"}
_FORMAT = Format("mp4", {"movflags": "faststart"}, "libx264", _H264, "yuv444p", True, None, "aac")
_SLOWEST, _FINEST = Fraction(1, 1000), 1001  # of a rate: FFmpeg holds no more than 31 bits of it
CODING = f"H.264, crf {_H264['crf']}, at most {_H264['maxrate'].removesuffix('M')} Mbit/s"


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


def encode_clip(frames: Iterable[Timed[Tensor]], rate: Fraction) -> bytes:
    """The .mp4 of frames (1, 3, H, W), each with its time and duration in seconds; H and W even.

    rate: about how many come in a second; their times tell exactly.
    Raises ValueError without frames, or where the codec cannot hold them.
    """
    with TemporaryDirectory(prefix="nststab_") as folder:
        path = Path(folder) / "clip.mp4"
        with av_errors(Path("clip.mp4"), "the clips cannot be encoded for the report"):
            _encode(path, frames, max(_SLOWEST, rate).limit_denominator(_FINEST))
        return path.read_bytes()


def _encode(path: Path, frames: Iterable[Timed[Tensor]], rate: Fraction) -> None:
    encoder: VideoEncoder | None = None
    try:
        for rgb, time, duration in frames:
            pixels = to_uint8(rgb)
            if encoder is None:
                height, width, _ = pixels.shape
                encoder = VideoEncoder(path, path, _FORMAT, _Silent(path, rate), False, width, height)
            encoder.write(pixels, time, duration)
        if encoder is None:
            raise NststabError("expected frames to encode, got none")
        encoder.finish()
    except BaseException:
        with suppress(Exception):  # what went wrong is already on its way
            if encoder is not None:
                encoder.close()
        raise
