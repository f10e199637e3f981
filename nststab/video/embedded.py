"""Encodes a short, silent clip into the bytes of a small .mp4, for a page that carries it (it needs av)."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from nststab.video.encoder import Format
from nststab.video.timing import PictureTimes, Timed
from nststab.video.writer import VideoWriter

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


class _FineTimes(PictureTimes):
    time_base = Fraction(1, 90_000)  # a multiple of the usual frame rates, and fine enough for any other


def encode_clip(frames: Iterable[Timed[Tensor]], rate: Fraction, quality: Quality = REPORT) -> bytes:
    """The .mp4 of frames (1, 3, H, W), each with its time and duration in seconds; H and W even.

    rate: about how many come in a second; their times tell exactly.
    Raises ValueError without frames, or where the codec cannot hold them.
    """
    with TemporaryDirectory(prefix="nststab_") as folder:
        path = Path(folder) / "clip.mp4"
        times = _FineTimes(path, max(_SLOWEST, rate).limit_denominator(_FINEST))
        with VideoWriter(path, Path("clip.mp4"), times, False, form=quality.format) as writer:
            for rgb, time, duration in frames:
                writer.write(rgb, time, duration)
        return path.read_bytes()
