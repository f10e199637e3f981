"""Decodes the frames of a video file; imported only where there is one (it needs av)."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from torch import Tensor

from nststab.errors import NststabError
from nststab.video.images import from_uint8
from nststab.video.packets import announced, count, find_jumps, packets
from nststab.video.timing import INTERLACED, WHOLE, Excerpt, Reader, Timed, converted, cut, retimed
from nststab.video.yuv import Pixels, planes_to_rgb

# exact colour: no shortcut that rounds to fewer bits or shares chroma between pixels
SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_UNSPECIFIED, _YCGCO = 2, 8  # AVCOL_SPC_UNSPECIFIED, AVCOL_SPC_YCGCO
_MATRICES = {0, 1, 4, 5, 6, 7, 9}  # of AVColorSpace: RGB, BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020; swscale's
_ANY_CLOCK = 0x0200  # AVFMT_TS_DISCONT: MPEG streams, whose clock starts anywhere
_HDR = {16: "PQ", 18: "HLG"}  # AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67
_OPAQUE = 255
_BESIDE = "has transparency in a stream beside its pictures, which is not read: it is dropped"  # VP8 and VP9
# decoded from the first frame on: frames drawn over the ones before, and those that a seek gives guessed times
_FROM_FIRST = {"gif", "apng", "mpeg"}
_BACK = (0, 2, 10, 60)  # seconds before the start at which to look for a key frame, until one is found


@contextmanager
def av_errors(path: Path, what: str) -> Iterator[None]:
    """Turn an error of FFmpeg into one line: OSError where the system refused, ValueError where the data is wrong."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise NststabError(f"{path}: {what} ({error.strerror})") from error


def open_input(path: Path) -> Any:
    """Open a media file for reading: a colon in its name names no protocol, and a playlist reaches no network."""
    return av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})


class VideoReader(Reader):
    """An excerpt of the video stream of a file, whose first frame is decoded at once: what cannot be read is refused.

    `origin` is the time in seconds which counts as 0 in the clip; `start` the clip's time of the first frame of an
    excerpt, whose times are told from there, and `end` that of the excerpt's end (None: the clip's). `rate` is in
    frames per second, `time_base` the unit of the frame times, `aspect` the shape of a pixel; `jumps` are the file's.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no video, or ends before its first frame or before the excerpt.
    """

    def __init__(self, path: Path, part: Excerpt = WHOLE) -> None:
        self.path = path
        self.origin, self.start, self.end = Fraction(0), Fraction(0), part.end
        self._part = part
        self._damaged, self._cut_off = 0, ""
        self._key_frame: Fraction | None = None
        with av_errors(path, _unreadable(path)), open_input(path) as container:
            stream = video_stream(container, path)
            self.time_base = Fraction(1, stream.time_base.denominator)
            self.rate = self._own_rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            audio: Any = container.streams.best("audio")
            self.has_audio = audio is not None and audio.codec_context is not None
            self.origin = _origin(container)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            tags = {name.lower(): value for name, value in stream.metadata.items()}
            self._peculiar = {"alpha": _BESIDE} if tags.get("alpha_mode") == "1" else {}
            if container.streams.audio and not self.has_audio:
                self._peculiar["audio"] = "has audio that is damaged, unknown to FFmpeg or begins late: it is dropped"
            self._announced = announced(container, stream)
            self.jumps = find_jumps(container, stream, self.origin) if has_any_clock(container) else ()
            self._delay = _delay(container, stream)
        self._key_frame = self._find_key_frame()
        with closing(self._shown()) as frames:
            first, time, _ = next(frames)
        self.start = time if part.start else Fraction(0)
        if part.fps is not None:
            self.rate, self.time_base = part.fps, 1 / part.fps
        self.frame_count = self._announced.frames if part == WHOLE else None
        if self.frame_count is None:
            with self._opened() as (container, stream):
                self.frame_count = count(container, stream, part, self.origin, self._own_rate, self.jumps)
        self._stored_size = first.width, first.height
        sideways = _orientation(first).transposed
        self.height, self.width = (first.width, first.height) if sideways else (first.height, first.width)
        self.aspect = 1 / aspect if sideways else aspect
        self._look_at(first)

    @property
    def notes(self) -> list[str]:
        """What the user should know about the file, and after a pass of `frames` about what could not be read."""
        notes = [f"{self.path.name} {what}" for what in (*self._peculiar.values(), self._cut_off) if what]
        if self.jumps:
            often = "" if len(self.jumps) == 1 else f" {len(self.jumps)} times, first"
            notes.append(
                f"the clock of {self.path.name} jumps{often} at {float(self.jumps[0].time):.2f} s: "
                "what follows is shown right after"
            )
        if self._damaged:
            packets = "1 damaged packet" if self._damaged == 1 else f"{self._damaged} damaged packets"
            notes.append(f"{packets} of {self.path.name} could not be decoded: left out")
        return notes

    def frames(self) -> Generator[Timed[Tensor], None, None]:
        """Every frame upright and of the first one's size, as (rgb (1, 3, H, W), time, duration) in seconds.

        Raises ValueError if there is none.
        """
        reformatter = VideoReformatter()
        with closing(self._shown()) as shown:
            yield from converted(retimed(shown, self._part), lambda frame: self._to_rgb(frame, reformatter))

    def _to_rgb(self, frame: VideoFrame, reformatter: VideoReformatter) -> Tensor:
        """A decoded frame as (1, 3, H, W), upright, of the first one's size, by the matrix and range of its tags.

        Untagged video is taken as players take it: BT.709 above 576 lines or from 1280 columns on, else BT.601.
        """
        self._look_at(frame)
        orientation, matrix = _orientation(frame), frame.colorspace
        width, height = (self.height, self.width) if orientation.transposed else (self.width, self.height)
        if matrix not in _MATRICES:
            frame.colorspace = Colorspace.ITU709 if frame.height > 576 or frame.width >= 1280 else Colorspace.ITU601

        def scaled(form: str, levels: int) -> Any:
            return reformatter.reformat(frame, width, height, form, None, None, SCALING, None, levels).to_ndarray()

        # swscale knows no YCgCo, takes gray of any range for full, and cuts it to 8 bits
        if frame.format.name.startswith(("gray", "ya")):
            planes = scaled("gray16le", frame.color_range)
            pixels = Pixels("mono", depth=16, full_range=frame.color_range != ColorRange.MPEG)
        elif matrix == _YCGCO:
            is_full = frame.color_range == ColorRange.JPEG
            planes = scaled("yuv444p16le", ColorRange.JPEG if is_full else ColorRange.MPEG).transpose(2, 0, 1)
            pixels = Pixels("444", depth=16, full_range=is_full, is_ycgco=True)
        else:
            return orientation.apply(from_uint8(scaled("rgb24", ColorRange.JPEG)))
        return orientation.apply(planes_to_rgb(planes.tobytes(), height, width, pixels))

    def _look_at(self, frame: VideoFrame) -> None:
        """Remember what of a frame is not shown as it was meant."""
        found = self._peculiar
        if frame.interlaced_frame:
            found["fields"] = INTERLACED
        if curve := _HDR.get(frame.color_trc):
            found["curve"] = f"is high dynamic range ({curve}), which is not mapped: its colours come out pale"
        if frame.colorspace not in _MATRICES | {_UNSPECIFIED, _YCGCO}:
            found["matrix"] = (
                f"has a colour matrix that is not known ({frame.colorspace}): its colours are taken as untagged ones"
            )
        if not _orientation(frame).is_exact:
            found["angle"] = "is to be shown aslant: it is shown at the nearest quarter turn"
        if (frame.width, frame.height) != (size := self._stored_size):
            sizes = f"{size[0]}x{size[1]} to {frame.width}x{frame.height}"
            found.setdefault("size", f"changes its size from {sizes}: it is scaled to the first")
        if "alpha" not in found and any(component.is_alpha for component in frame.format.components):
            pixels: Any = VideoReformatter().reformat(frame, format="rgba").to_ndarray()
            if pixels[..., 3].min() < _OPAQUE:
                found["alpha"] = "is transparent in places: that is dropped"

    def _shown(self) -> Generator[Timed[VideoFrame], None, None]:
        """The frames of the excerpt at their times in the clip."""
        with (
            av_errors(self.path, "the video cannot be decoded"),
            self._opened() as (container, stream),
            closing(self._decoded(container, stream, Fraction(0))) as decoded,
        ):
            first = next(decoded, None)
            if first is None:
                raise NststabError(f"{self.path}: the video ends before its first frame")
            yield from cut(chain([first], decoded), self._part, str(self.path))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The file and its video stream, at the key frame before the excerpt."""
        with open_input(self.path) as container:
            stream = video_stream(container, self.path)
            if self._key_frame is not None:
                self._seek(container, stream, self._key_frame)
            yield container, stream

    def _find_key_frame(self) -> Fraction | None:
        """A time to go to before the excerpt is decoded; None where that must begin with the first frame.

        What a file does when it is asked for a time is checked by the frame that comes: it may be too late a one, or,
        where the picture is refreshed bit by bit, one that is not whole.
        """
        start = self._part.start
        with av_errors(self.path, "the video cannot be decoded"):
            for time in (start - back for back in _BACK if back < start):
                with open_input(self.path) as container:
                    stream = video_stream(container, self.path)
                    if not self._seek(container, stream, time):
                        return None
                    with closing(self._decoded(container, stream, None)) as frames:
                        first = next(frames, None)
                if first is not None and first[0].key_frame and first[1] <= start:
                    return time
        return None

    def _seek(self, container: Any, stream: Any, time: Fraction) -> bool:
        """Go to the key frame before `time`, if the file has a clock that does not jump, and key frames."""
        if stream.start_time is None or container.format.name in _FROM_FIRST or self.jumps:
            return False
        try:
            container.seek(int((time + self.origin) / stream.time_base), stream=stream)
        except av.FFmpegError:
            return False
        return True

    def _decoded(self, container: Any, stream: Any, due: Fraction | None) -> Generator[Timed[VideoFrame], None, None]:
        """Every frame from where the container stands, with its time in the clip and its duration.

        A frame without a time of its own follows the one before; the first is shown at `due`, or not if that is None.
        """
        self._damaged, self._cut_off = 0, ""
        stream.thread_type = "AUTO"
        came = 0
        for packet in self._packets(container, stream):
            for frame in self._decode(stream, packet):
                unit, ticks = Fraction(frame.time_base or stream.time_base), self._ticks(frame)
                time = due if ticks is None else ticks * unit - self.origin
                if time is None:
                    return
                duration = frame.duration * unit if frame.duration else 1 / self._own_rate
                came, due = came + 1, time + duration
                yield frame, time, duration
        self._cut_off = self._find_cut(came, due or Fraction(0))

    def _ticks(self, frame: VideoFrame) -> int | None:
        """The time of a frame in its time base, if it has one."""
        if self._delay is None:
            return frame.pts
        return None if frame.dts is None else frame.dts - self._delay

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """The stream's packets, the last one empty, or None at an error that nothing can be read after."""
        end = container.size
        for packet in packets(container, stream, self.jumps):
            if packet is None:
                self._damaged += 1
            elif packet.size and packet.pos is not None:
                end = packet.pos + len("FRAME\n") + packet.size
            yield packet
        if container.format.name == "yuv4mpegpipe":
            self._damaged += end < container.size  # it drops a frame that was cut off without a word

    def _decode(self, stream: Any, packet: Any) -> list[VideoFrame]:
        """The frames a packet completes, all that are left for None; what cannot be decoded is counted and left out."""
        try:
            if packet is None:
                return list(stream.decode(None))
            if not packet.is_corrupt or has_any_clock(stream.container):
                return list(packet.decode())
        except av.FFmpegError:  # damage makes decoders fail in many ways
            pass
        self._damaged += 1
        return []

    def _find_cut(self, came: int, ended: Fraction) -> str:
        """Whether frames are missing at the end: what to say of it."""
        frames, end = self._announced
        if end is None or ended > end - Fraction(3, 2) / self._own_rate or (frames is not None and came >= frames):
            return ""
        if frames is None or self._key_frame is not None:
            return f"is cut off: it ends after {float(ended):.2f} of the {float(end):.2f} seconds that it announces"
        return f"is cut off: {came} frames came of the {frames} that it announces"


def video_stream(container: Any, path: Path) -> Any:
    """The first video stream that can be decoded and is no cover picture; FFmpeg would also draw plain text as one."""
    pictures = () if container.format.name == "tty" else container.streams.video
    streams = [stream for stream in pictures if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise NststabError(f"{path}: expected a video, and it holds none")
    for stream in streams:
        if stream.codec_context is not None:
            return stream
    raise NststabError(f"{path}: the video is damaged, or of a codec that FFmpeg does not know")


def has_any_clock(container: Any) -> bool:
    """Whether it is an MPEG stream, which is made to be tuned into: its clock begins anywhere."""
    return bool(container.format.flags & _ANY_CLOCK)


def _delay(container: Any, stream: Any) -> int | None:
    """By how many ticks frames come out of the decoder late, in AVI, which knows no other times; None elsewhere."""
    if container.format.name != "avi":
        return None
    first = next(container.decode(stream), None)
    return 0 if first is None else first.dts or 0


def _origin(container: Any) -> Fraction:
    """The time in seconds at which the first stream begins where that means nothing (MPEG streams), and 0 elsewhere."""
    if not has_any_clock(container):
        return Fraction(0)
    streams = (*container.streams.video, *container.streams.audio)
    starts = [stream.start_time * stream.time_base for stream in streams if stream.start_time is not None]
    return min(starts, default=Fraction(0))


class _Orientation(NamedTuple):
    """How stored pixels become the picture: first x and y change places, then it is mirrored and turned upside down."""

    transposed: bool
    mirrored: bool
    upended: bool
    is_exact: bool

    def apply(self, picture: Tensor) -> Tensor:
        """The picture that is shown of one that is stored, (1, 3, H, W)."""
        axes = [axis for axis, flipped in ((3, self.mirrored), (2, self.upended)) if flipped]
        shown = picture.transpose(2, 3) if self.transposed else picture
        return (shown.flip(axes) if axes else shown).contiguous()  # to flip no axis would be a copy


def _orientation(frame: VideoFrame) -> _Orientation:
    """The nearest of the eight orientations to the frame's display matrix, and whether it is that, but for its scale.

    A stored pixel (x, y) is shown at (a x + c y, b x + d y), apart from a shift.
    """
    side_data: Any = frame.side_data
    if (data := side_data.get(Type.DISPLAYMATRIX)) is None:
        return _Orientation(False, False, False, True)
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    is_exact = min(straight, across) < (straight + across) / 100
    if across > straight:
        return _Orientation(True, c < 0, b < 0, is_exact)
    return _Orientation(False, a < 0, d < 0, is_exact)


def _unreadable(path: Path) -> str:
    """What to say of a file that cannot be opened."""
    with path.open("rb") as file:
        is_mp4 = file.read(12)[4:8] == b"ftyp"
    lost = "; a recording that was cut off has lost its index, which stands at the end" if is_mp4 else ""
    return f"expected a video, and it cannot be read as one{lost}"
