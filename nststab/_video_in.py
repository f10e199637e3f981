"""Decodes the frames of a video file: the reading half of video.py, imported only where there is one (it needs av)."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from nststab.images import from_uint8

# exact colour: no shortcut that rounds to fewer bits or shares chroma between pixels
SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_ANY_CLOCK = 0x0200  # AVFMT_TS_DISCONT: MPEG streams, whose clock starts anywhere


@contextmanager
def av_errors(path: Path, what: str) -> Iterator[None]:
    """Turn an error of FFmpeg into one line: OSError where the system refused, ValueError where the data is wrong."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise ValueError(f"{path}: {what} ({error.strerror})") from error


def open_input(path: Path) -> Any:
    """Open a media file for reading: a colon in its name names no protocol, and a playlist reaches no network."""
    return av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})


class VideoReader:
    """The video stream of a file: its first frame is decoded at once, so that what cannot be read is refused early.

    `origin` is the time in seconds which counts as 0; `time_base` the unit of the frame times; `aspect` the shape of a
    pixel. `damaged` counts, after a pass of `frames`, the packets which could not be decoded.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no video, or ends before its first frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        with av_errors(path, "expected a video, and it cannot be read as one"), open_input(path) as container:
            stream = _video_stream(container, path)
            self.time_base = Fraction(1, stream.time_base.denominator)
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.frame_count: int | None = stream.frames or None
            self.has_audio = bool(container.streams.audio)
            self.origin = _origin(container)
            aspect = stream.sample_aspect_ratio or Fraction(1)
        with closing(self._decoded()) as frames:
            first = next(frames)
        sideways = _turns(first) % 2 == 1
        self.height, self.width = (first.width, first.height) if sideways else (first.height, first.width)
        self.aspect = 1 / aspect if sideways else aspect

    def frames(self) -> Generator[tuple[Tensor, Fraction, Fraction], None, None]:
        """Every frame upright, as (rgb (1, 3, H, W), time, duration) in seconds; raises ValueError if there is none."""
        reformatter = VideoReformatter()
        due = self.origin  # where a frame without a time of its own belongs
        for frame in self._decoded():
            unit = Fraction(frame.time_base or self.time_base)
            time = due if frame.pts is None else frame.pts * unit
            duration = frame.duration * unit if frame.duration else 1 / self.rate
            due = time + duration
            yield _to_rgb(frame, reformatter), time - self.origin, duration

    def _decoded(self) -> Generator[VideoFrame, None, None]:
        self.damaged = 0
        empty = True
        with av_errors(self.path, "the video cannot be decoded"), open_input(self.path) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                for frame in self._decode(packet):
                    empty = False
                    yield frame
        if empty:
            raise ValueError(f"{self.path}: the video ends before its first frame")

    def _decode(self, packet: Any) -> list[VideoFrame]:
        """The frames a packet completes; one that cannot be decoded is counted and left out, as players do."""
        try:
            return list(packet.decode())
        except av.InvalidDataError:
            self.damaged += 1
            return []


def _video_stream(container: Any, path: Path) -> Any:
    """The first video stream which is not a cover picture; FFmpeg would also draw plain text as one."""
    for stream in container.streams.video:
        if container.format.name != "tty" and not stream.disposition & Disposition.attached_pic:
            return stream
    raise ValueError(f"{path}: expected a video, and it holds none")


def _origin(container: Any) -> Fraction:
    """The time in seconds at which the first stream begins where that means nothing (MPEG streams), and 0 elsewhere."""
    if not container.format.flags & _ANY_CLOCK:
        return Fraction(0)
    streams = (*container.streams.video, *container.streams.audio)
    starts = [stream.start_time * stream.time_base for stream in streams if stream.start_time is not None]
    return min(starts, default=Fraction(0))


def _to_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Tensor:
    """A decoded frame as (1, 3, H, W), upright, by the matrix and the range it is tagged with.

    Untagged video is taken as players take it: BT.709 from 720 lines on, BT.601 below.
    """
    if frame.colorspace == _UNSPECIFIED:
        frame.colorspace = Colorspace.ITU709 if frame.height > 576 or frame.width >= 1280 else Colorspace.ITU601
    picture = reformatter.reformat(frame, format="rgb24", interpolation=SCALING, dst_color_range=ColorRange.JPEG)
    pixels: Any = picture.to_ndarray()
    rgb = from_uint8(pixels)
    return torch.rot90(rgb, _turns(frame), (2, 3)).contiguous()


def _turns(frame: VideoFrame) -> int:
    """By how many quarter turns anticlockwise the camera asks the frame to be shown."""
    return round(frame.rotation / 90) % 4
