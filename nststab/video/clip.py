"""Clips in and out: video files, pictures and folders of pictures, with their timing, audio and alpha.

The codecs stand in `reader` and `writer`. They need av and are imported only where there is a video, so that folders of
pictures work on a machine without it.
"""

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count, repeat, takewhile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame, Stylizer, as_frames
from nststab.storage.durable import sync
from nststab.storage.folders import require_parent
from nststab.storage.parts import Parts
from nststab.video.formats import VIDEO_SUFFIXES, output_kind
from nststab.video.formats import Kind as Kind
from nststab.video.images import (
    ALPHA_SUFFIXES,
    READABLE_SUFFIXES,
    STILL_SUFFIXES,
    AnimationReader,
    further_pictures,
    is_animated,
    picture_size,
    read_picture,
    replacing,
    resized_shape,
    scaled,
    write_picture,
)
from nststab.video.picture_files import folder_pictures, is_pattern, one_size, pattern_pictures, shown
from nststab.video.pipes import STANDARD, STDOUT, PipedVideo, is_pipe, standard_output, y4m_file
from nststab.video.pipes import RawFormat as RawFormat
from nststab.video.threads import BackgroundWriter, Prefetcher, Waiting
from nststab.video.timing import PICTURE_RATE, WHOLE, Excerpt, PictureTimes, Reader, Seconds, Source, excerpt

_VIDEOS = ", ".join(sorted(VIDEO_SUFFIXES))
_QUEUE = 3  # frames that wait at most between two threads: enough to smooth their pace
_QUEUED = _QUEUE * 1920 * 1080  # pixels there at most: at 4K a frame takes 100 MB
_PATIENCE = 1.0  # seconds that an error waits for a pipe, which may be silent
_AT_WORK = 4  # frames that are read, stylized, made of it and written at a time


class Conversion(NamedTuple):
    """What `convert_clip` did: how many frames it wrote, and what the user should know about the result."""

    frames: int
    notes: list[str]


@dataclass(frozen=True)
class Clip:
    """Something to read frames from; made by `open_clip`. `width` and `height` are those of the frames it gives.

    `frame_count` is None where it is not known beforehand. Pictures have times where `rate` (per second) is not None.
    Those in memory are `held`, (1, 3, H, W) each. Of `masks` each frame has its own in `Frame.mask`, a channel each;
    that of a picture holds in all frames.
    """

    path: Path
    kind: Kind
    width: int
    height: int
    frame_count: int | None
    pictures: tuple[Path, ...] = ()
    reader: Reader | None = None
    rate: Fraction | None = None
    masks: tuple["Clip", ...] = ()
    held: tuple[Tensor, ...] = ()

    @property
    def originals(self) -> set[Path]:
        """The file, or the folders of the pictures, also of those that links lead to."""
        if self.kind != "folder":
            return {self.path}
        return {place.parent for picture in self.pictures for place in (picture, picture.resolve())}

    @property
    def has_audio(self) -> bool:
        """Whether there is an audio stream."""
        return self.reader is not None and self.reader.has_audio

    @property
    def is_seekable(self) -> bool:
        """Whether it can be read a second time, unlike what comes through a pipe."""
        return bool(self.pictures or self.held) or self.path.is_file()

    @property
    def source(self) -> Source | None:
        """What a writer must know of it; None for pictures without times."""
        if self.reader is None and self.rate is not None:
            return PictureTimes(self.path, self.rate)
        return self.reader

    @property
    def notes(self) -> list[str]:
        """What the user should know about it, after a pass of `frames` also what could not be read."""
        if self.reader is None:
            return further_pictures(self.path) if self.kind == "picture" else []
        return self.reader.notes

    def frames(self) -> Iterator[Frame]:
        """The frames one by one, from the first; raises ValueError and OSError where one cannot be read.

        What comes through a pipe can be read once only.
        """
        masks = [mask.for_each_frame() for mask in self.masks]
        for frame in self._read():
            alpha = frame.alpha if frame.alpha is None else scaled(frame.alpha, self.height, self.width)
            frame = replace(frame, rgb=scaled(frame.rgb, self.height, self.width), alpha=alpha)
            yield replace(frame, mask=self._mask(masks)) if masks else frame

    def for_each_frame(self) -> Iterator[Frame]:
        """The frames, as masks of another clip: a picture's again and again."""
        return repeat(next(self.frames())) if self.kind == "picture" else self.frames()

    def _mask(self, masks: Sequence[Iterator[Frame]]) -> Tensor:
        """The next frames of all masks (1, R, H, W), white times opaque, in this clip's size."""
        seen = []
        for clip, frames in zip(self.masks, masks, strict=True):
            if (frame := next(frames, None)) is None:
                raise NststabError(f"{clip.path}: expected a mask for each frame of {self.path}, and it ends before")
            light = frame.rgb.mean(dim=1, keepdim=True) * (1 if frame.alpha is None else frame.alpha)
            seen.append(scaled(light, self.height, self.width))
        return torch.cat(seen, dim=1)

    def _read(self) -> Iterator[Frame]:
        if self.reader is not None:
            for number, (channels, time, duration) in enumerate(self.reader.frames()):
                alpha = channels[:, 3:] if channels.shape[1] > 3 else None
                yield Frame(channels[:, :3], number, time, duration, alpha)
            return
        if self.held:
            yield from as_frames(self.held)
            return
        shape = picture_size(self.pictures[0])
        for number, path in enumerate(self.pictures):
            picture = read_picture(path)
            if picture.rgb.shape[2:] != shape:
                raise NststabError(
                    f"{path}: expected {shape[1]}x{shape[0]} pixels as in the first picture, "
                    f"got {picture.rgb.shape[3]}x{picture.rgb.shape[2]}"
                )
            frame = Frame(picture.rgb, number, alpha=picture.alpha)
            yield frame if self.rate is None else replace(frame, time=number / self.rate, duration=1 / self.rate)


def kind_of(path: str | Path) -> Kind:
    """What `open_clip` takes `path` for, by its name and what stands there, which may be nothing."""
    path = Path(path)
    if is_pattern(path):
        return "folder"
    if is_pipe(path):  # what is missing is answered with the system's own words
        return "video"
    if path.is_dir():
        return "folder"
    return "picture" if path.suffix.lower() in READABLE_SUFFIXES and not is_animated(path) else "video"


def clip_of(frames: Tensor, name: str) -> Clip:
    """Frames in memory (T, 3, H, W), float32 in [0, 1], as a clip without times; `name` is what messages call it.

    Raises NststabError for tensors of another shape.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise NststabError(f"{name}: expected frames as a tensor (T, 3, H, W), got the shape {tuple(frames.shape)}")
    count, _, height, width = frames.shape
    return Clip(Path(name), "folder", width, height, count, held=frames[:, None].unbind())


def open_clip(
    path: str | Path | Clip,
    size: int | None = None,
    *,
    start: Seconds | None = None,
    duration: Seconds | None = None,
    fps: Seconds | None = None,
    raw: RawFormat | None = None,
    even: bool = False,
) -> Clip:
    """Open a video file, a picture, pictures as a clip, or y4m or raw video from a pipe, scaled to `size` pixels.

    Pictures are a folder's, those of a numbered pattern (`frames/%05d.png`), or those of a glob (`frames/*.png`), the
    first and the last in natural order: 2 before 10. An animated picture is a clip, with alpha unless it is a GIF. A
    file that has a pattern for its name is that file, and a clip is itself. The path `-`
    is standard input: y4m if it says so, else bare rgb24 frames as `raw` describes them; its frames come only once.

    Args:
        size: the longest side of the frames; None keeps them as they are.
        start: the first frame is the first whose time is not less, in seconds; it is shown from 0 on.
        duration: frames at `start` + `duration` and later are left out.
        fps: frames are dropped or repeated by their times to this constant rate (`at_rate` has the rule); pictures are
            shown at this rate instead of 25 per second.
        even: a clip that is scaled has even sides, if `size` is even.

    Raises:
        OSError: the path is missing, or may not be read; or a numbered picture is missing between two.
        ValueError: it is neither a video nor a picture, is damaged, or holds no frame in that time; or a picture that
            stands alone is to be cut or retimed.
    """
    part = excerpt(start, duration, fps)
    if isinstance(path, Clip) and (part != WHOLE or raw is not None):
        raise NststabError(f"{path.path}: expected a file for a start, a duration or a rate, got a clip")
    clip = path if isinstance(path, Clip) else _unscaled(Path(path), part, raw)
    if size is None:
        return clip
    height, width = resized_shape(clip.height, clip.width, size, even and clip.kind != "picture")
    return replace(clip, height=height, width=width)


def _unscaled(path: Path, part: Excerpt, raw: RawFormat | None) -> Clip:
    kind = kind_of(path)
    if kind == "folder":
        pictures = pattern_pictures(path) if is_pattern(path) else folder_pictures(path)
        return _picture_clip(path, pictures, part)
    if is_pipe(path):
        return _video_clip(PipedVideo(path, part, raw))
    if raw is not None:
        raise NststabError(f"{path}: expected raw frames from a pipe, got a file")
    if kind == "picture":
        if part != WHOLE:
            raise NststabError(f"{path}: expected a clip for a start, a duration or a rate, got a picture")
        height, width = picture_size(path)
        return Clip(path, "picture", width, height, 1, (path,))
    if path.suffix.lower() in STILL_SUFFIXES:
        return _video_clip(AnimationReader(path, part))
    with needs_av():
        from nststab.video.reader import VideoReader
    return _video_clip(VideoReader(path, part))


def _video_clip(reader: Reader) -> Clip:
    return Clip(reader.path, "video", reader.width, reader.height, reader.frame_count, reader=reader)


def _picture_clip(path: Path, pictures: tuple[Path, ...], part: Excerpt) -> Clip:
    rate = part.fps or PICTURE_RATE
    pictures = shown(pictures, part, rate, path)
    height, width = one_size(pictures, path)
    return Clip(path, "folder", width, height, len(pictures), pictures, rate=part.fps)


@contextmanager
def needs_av() -> Iterator[None]:
    """Turns the failure to import av into an OSError that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "av":
            raise
        raise OSError("video files need the package av (PyAV); pictures and folders of them work without it") from error


def check_output(source: Clip, output: str | Path) -> Kind:
    """What `output` will be, or why it cannot be written; nothing is touched.

    A path that ends in a slash, or is a folder, is a folder of pictures (as a `Path` drops the slash, pass a string).
    The path `-` is standard output.

    Raises:
        OSError: the folder it should stand in is missing or may not be written to.
        ValueError: no such format can be written, `source` does not fit into it, or it is the source itself.
    """
    path = Path(output)
    if path == STANDARD:
        if sys.stdout.isatty():
            raise NststabError(f"{STDOUT} is a terminal: expected a pipe or a file to write video to")
        return "video"
    kind = output_kind(output)
    require_parent(path)
    if kind == "folder" and path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: expected a folder, and it is a file")
    folder = path if path.is_dir() else path.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: no permission to write to this folder")
    for clip in (source, *source.masks):
        if path.exists() and any(original.exists() and path.samefile(original) for original in clip.originals):
            raise NststabError(f"{path}: the output is {'the input' if clip is source else 'a mask'} itself")
    if kind == "picture" and source.kind != "picture":
        raise NststabError(f"{path}: a clip does not fit into one picture; expected {_VIDEOS} or a folder (ends in /)")
    return kind


def convert_clip(
    source: Clip,
    output: str | Path,
    stylize: Stylizer,
    *,
    audio: bool = True,
    raw: bool = False,
    parts: Parts | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Conversion:
    """Read `source`, pass its frames through `stylize` and write them: whole or not at all, a folder frame by frame.

    Decoding and encoding each have a thread; `stylize` runs in the caller's and must give back each frame it takes, in
    order, with pictures of one size, which need not be the source's. Frame times, the last duration and the audio
    (unless `audio` is false) are the source's; a source without times is shown at 25 frames per second. Alpha is kept
    where the output holds it and the size is the source's. To standard output goes y4m, or bare rgb24 pixels if `raw`,
    without audio. The finished parts of a clip are kept in `parts`, and what `stylize`
    gives for frames that an earlier run finished is not written again. `progress` is told how many frames are done, of
    how many if that is known.

    Raises:
        ValueError, OSError: as `open_clip` and `check_output` do, or if `stylize` gives fewer, more or other frames;
            and whatever `stylize` raises.
    """
    kind = check_output(source, output)
    path = Path(output)
    notes: list[str] = []
    done, transparent = 0, False
    with (
        open_writer(kind, source.source, path, notes, audio=audio, raw=raw, parts=parts) as write,
        BackgroundWriter(write, Waiting[Frame](depth := _queue_depth(source.width, source.height))) as encoding,
        Prefetcher(source.frames(), depth, None if source.is_seekable else _PATIENCE) as decoded,
        _closed(stylize(taken := _Counted(decoded))) as stylized,
    ):
        for frame in stylized:
            if done == taken.count:
                raise NststabError(f"the stylizer gave more frames than the {done} it took")
            if frame.number != done:
                raise NststabError(f"expected frame {done} from the stylizer, with_rgb of its own, got {frame.number}")
            transparent = transparent or (frame.alpha is not None and bool((frame.alpha < 1).any()))
            if parts is None or done >= parts.frames:
                encoding.put(frame)
            del frame  # which may be large, before the next one is made
            done += 1
            if progress is not None:
                progress(done, source.frame_count)
        if done < taken.count or next(decoded, None) is not None:
            raise NststabError(f"the stylizer stopped after {done} frames, before the clip's end")
    if transparent and kind != "folder" and path.suffix.lower() not in ALPHA_SUFFIXES:
        notes.append(f"{path.suffix or STDOUT} holds no transparency: it was dropped")
    return Conversion(done, notes + source.notes)


def frames_under_way(width: int, height: int) -> int:
    """How many frames of a size `convert_clip` holds at most, beside what a stylizer keeps."""
    return 2 * _queue_depth(width, height) + _AT_WORK


def _queue_depth(width: int, height: int) -> int:
    return min(_QUEUE, _QUEUED // (width * height))


class _Counted(Iterator[Frame]):
    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self.count = 0

    def __next__(self) -> Frame:
        frame = next(self._frames)
        self.count += 1
        return frame


@contextmanager
def _closed(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """Closes a generator at the end of the block: before the decoder that it reads from."""
    try:
        yield frames
    finally:
        if isinstance(frames, Generator):
            frames.close()


@contextmanager
def open_writer(
    kind: Kind,
    source: Source | None,
    output: Path,
    notes: list[str],
    *,
    audio: bool = False,
    raw: bool = False,
    parts: Parts | None = None,
) -> Iterator[Callable[[Frame], None]]:
    """A function that writes a frame; a clip is finished when the block ends well, and removed when it does not.

    After the block `notes` has what the user should know of the result; all else is as for `convert_clip`.
    """
    silent = output == STANDARD or kind == "folder" or output.suffix.lower() == ".y4m"
    if silent and audio and source is not None and source.has_audio:
        notes.append(f"{'a folder' if kind == 'folder' else output.suffix or STDOUT} holds no audio: it was dropped")
    if silent and kind == "video":
        opened = standard_output(raw, source) if output == STANDARD else y4m_file(output, source, parts)
        with opened as plain:
            yield lambda frame: plain.write(frame.rgb, frame.time, frame.duration)
        notes += plain.notes
    elif kind == "video":
        with needs_av():
            from nststab.video.writer import VideoWriter
        grows = parts is not None and output.suffix.lower() == ".gif"  # what is kept of it is the file itself
        with (
            nullcontext(output) if grows else replacing(output) as temporary,
            VideoWriter(temporary, output, source, audio, parts) as writer,
        ):
            yield lambda frame: writer.write(frame.rgb, frame.time, frame.duration)
        notes += writer.notes
    elif kind == "folder":
        with _new_folder(output):
            numbers = count(1 if parts is None else 1 + parts.frames)
            yield lambda frame: _write_frame(output, next(numbers), frame, parts)
            remove_frames(output, next(numbers))  # of an earlier, longer clip: they would pass for the end of this one
    else:
        yield lambda frame: _write_picture(output, frame)


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """Make a folder if there is none, and take it away again if nothing came into it."""
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if made:
            with suppress(OSError):  # it has frames: they stay
                folder.rmdir()


def _write_frame(folder: Path, number: int, frame: Frame, parts: Parts | None) -> None:
    """Write the frame of a number, counted from 1, and with the last of a part make sure of that."""
    _write_picture(frame_path(folder, number), frame)
    if parts is not None and number % Parts.length == 0:
        for earlier in range(number - Parts.length, number):
            sync(frame_path(folder, earlier + 1))
        parts.keep({})


def frame_path(folder: Path, number: int) -> Path:
    """Where the frame of a number, counted from 1, is written in a folder."""
    return folder / f"frame_{number:06d}.png"


def remove_frames(folder: Path, first: int = 1) -> None:
    """Removes the frames of a folder from a number on, up to the first gap."""
    for path in takewhile(Path.exists, (frame_path(folder, number) for number in count(first))):
        path.unlink()


def _write_picture(path: Path, frame: Frame) -> None:
    fits = frame.alpha is not None and frame.alpha.shape[2:] == frame.rgb.shape[2:]
    write_picture(path, frame.rgb, frame.alpha if fits else None)
