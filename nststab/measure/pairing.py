"""A clip and what programs made of it, frame by frame: other counts, shapes and times are named, never passed over."""

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.video.clip import Clip
from nststab.video.images import resized_shape, scaled

LARGEST_LAG = 8
"""Frames by which a clip may lag behind its original, or the other way round, and `find_lag` still finds it."""

LAG_WINDOW = 32  # frames in which a lag is looked for
_SIDE = 64  # pixels of the longest side in which it is
_BETTER = 0.02  # correlation by which another lag must surpass none, over the same frames
_LEAST_PAIRS = 4


class Counterparts(NamedTuple):
    """What belongs to a frame of the original: a frame (1, 3, H, W) of each clip, its foreground (1, 1, H, W) > 0."""

    stylized: list[Tensor]
    foreground: Tensor | None


class Pairing:
    """Reads an original and its stylized clips in step, all in one size, `width` by `height`.

    That is the size of the smallest of them: what is scaled up would gain nothing. A stylized clip must have the
    original's shape, scaled or not, within a pixel; as many frames; and where both have times, each frame at its time,
    counted from the clip's first frame, within half a frame of the original's rate. `frame_count` is None where no clip
    knows it beforehand: another count is then found at the end.

    Args:
        masks: pictures of the original's foreground, above 0 = foreground; as many as it has frames.
        size: the longest side instead, not above that of the smallest clip.
        limit: only the first frames of each clip; what follows is not counted.

    Raises:
        ValueError: a clip does not fit the original; `original_frames`, `counterparts` and `finish` raise it as well.
    """

    def __init__(
        self,
        original: Clip,
        stylized: Sequence[Clip],
        masks: Clip | None = None,
        *,
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        for clip in (original, *stylized):
            if clip.kind == "picture":
                raise NststabError(f"{clip.path}: expected a clip, got a single picture")
        others = [*stylized] if masks is None else [*stylized, masks]
        for clip in others:
            _require_shape(clip, original)
        self._original = original
        self._limit = limit
        self._masked = masks is not None
        self.height, self.width = _common_shape([original, *stylized], size)
        self.frame_count = self._known_count([original, *others])
        self._source = islice(original.frames(), limit)
        self._clips = [(clip, islice(clip.frames(), limit)) for clip in others]
        self._read = self._done = 0
        self._waiting: deque[Fraction | None] = deque()  # times of the original's frames that were read ahead
        self._first: dict[int, Fraction] = {}  # the time of each clip's first frame, the original's under -1

    def original_frames(self) -> Iterator[Frame]:
        """The original's frames; they may be read ahead of `counterparts`."""
        for frame in self._source:
            self._read += 1
            self._waiting.append(self._from_first(-1, frame))
            yield frame.with_rgb(scaled(frame.rgb, self.height, self.width))

    def counterparts(self) -> Counterparts:
        """What belongs to the original's next frame, which must have been read."""
        due = self._waiting.popleft()
        frames = [self._next(number, due) for number in range(len(self._clips))]
        self._done += 1
        foreground = None
        if self._masked:
            marked = (frames.pop() > 0).any(1, keepdim=True).float()
            # a pixel is foreground where any part of it is
            foreground = F.adaptive_max_pool2d(marked, (self.height, self.width))
        return Counterparts([scaled(frame, self.height, self.width) for frame in frames], foreground)

    def finish(self) -> None:
        """Raises ValueError where a clip goes on after the original's end, or there is no pair of frames."""
        for clip, frames in self._clips:
            more = sum(1 for _ in frames)
            if more:
                raise self._miscounted(clip, self._done, self._done + more)
        if self._done < 2:
            raise NststabError(f"{self._original.path}: expected a clip of at least two frames, got {self._done}")

    def _known_count(self, clips: Sequence[Clip]) -> int | None:
        """Compares the counts that are known beforehand, and gives one of them."""
        counts = [(clip, clip.frame_count) for clip in clips if clip.frame_count is not None]
        if self._limit is not None:
            counts = [(clip, min(count, self._limit)) for clip, count in counts]
        wanted = next((count for clip, count in counts if clip is self._original), None)
        for clip, count in counts:
            if wanted is not None and count != wanted:
                raise self._miscounted(clip, wanted, count)
        return min((count for _, count in counts), default=None)

    def _next(self, number: int, due: Fraction | None) -> Tensor:
        clip, frames = self._clips[number]
        frame = next(frames, None)
        if frame is None:
            rest = sum(1 for _ in self._source)
            raise self._miscounted(clip, self._read + rest, self._done)
        time = self._from_first(number, frame)
        source = self._original.source
        if time is not None and due is not None and source is not None and abs(time - due) > 1 / source.rate / 2:
            raise NststabError(
                f"{clip.path}: expected frame {self._done + 1} at {float(due):.3f} s as in {self._original.path}, "
                f"got it at {float(time):.3f} s; frames that belong together by number can be given as a folder"
            )
        return frame.rgb

    def _from_first(self, number: int, frame: Frame) -> Fraction | None:
        """A frame's time since the first frame of its clip; files may begin at any."""
        return None if frame.time is None else frame.time - self._first.setdefault(number, frame.time)

    def _miscounted(self, clip: Clip, wanted: int, count: int) -> NststabError:
        return NststabError(f"{clip.path}: expected {wanted} frames as {self._original.path} has, got {count}")


def _require_shape(clip: Clip, original: Clip) -> None:
    """Raises ValueError unless one scale makes both sides of the original the clip's, to a pixel."""
    least = max((clip.width - 1) / original.width, (clip.height - 1) / original.height)
    most = min((clip.width + 1) / original.width, (clip.height + 1) / original.height)
    if least > most:
        raise NststabError(
            f"{clip.path}: expected the shape of {original.path}, {original.width}x{original.height} or scaled, "
            f"got {clip.width}x{clip.height}"
        )


def _common_shape(clips: Sequence[Clip], size: int | None) -> tuple[int, int]:
    """Height and width of the smallest clip, or those with a longest side of `size`."""
    smallest = min(clips, key=lambda clip: clip.width * clip.height)
    side = max(smallest.width, smallest.height)
    if size is None:
        return smallest.height, smallest.width
    if size > side:
        raise NststabError(f"expected a size of at most {side} pixels, the longest side of {smallest.path}, got {size}")
    return resized_shape(smallest.height, smallest.width, size)


class LagFinder:
    """Finds clips whose frames do not belong to the original's of the same number, while both pass by.

    Attributes:
        found: of each clip the first frame of the window in which it was found to lag, and the lag as `find_lag` gives
            it; (0, 0) where it never was.
    """

    def __init__(self, clips: int) -> None:
        self.found = [(0, 0)] * clips
        self._windows: list[list[Tensor]] = [[] for _ in range(clips + 1)]
        self._begin = 0

    def update(self, frames: Sequence[Tensor]) -> None:
        """Take the original's next frame and its counterparts, all (1, 3, H, W)."""
        for window, frame in zip(self._windows, frames, strict=True):
            window.append(small(frame.cpu()))
        if len(self._windows[0]) == LAG_WINDOW:
            self.finish()

    def finish(self) -> None:
        """Look into what came since the last window."""
        originals, *clips = self._windows
        for number, clip in enumerate(clips):
            if not self.found[number][1] and (lag := find_lag(originals, clip)):
                self.found[number] = self._begin, lag
        self._begin += len(originals)
        self._windows = [[] for _ in self._windows]


def small(frame: Tensor) -> Tensor:
    """A frame (1, 3, H, W) in the square size in which lags are looked for."""
    return F.interpolate(frame, (_SIDE, _SIDE), mode="area")


def find_lag(originals: Sequence[Tensor], processed: Sequence[Tensor]) -> int:
    """By how many frames `processed` is ahead of `originals`, each frames (1, 3, H, W) of one shape; negative: behind.

    The lag at which edges lie alike: frame t of `processed` belongs to frame t + lag of `originals`. 0 where no
    other explains clearly more, as in a still.
    """
    ours, theirs = [[_edges(frame) for frame in frames] for frames in (originals, processed)]
    gains: dict[int, float] = {}
    for lag in range(-LARGEST_LAG, LARGEST_LAG + 1):
        places = [t for t in range(min(len(ours), len(theirs))) if 0 <= t + lag < len(ours)]
        if len(places) >= _LEAST_PAIRS:
            gained = (float(((ours[t + lag] - ours[t]) * theirs[t]).sum()) for t in places)
            gains[lag] = sum(gained) / len(places)
    best = max(gains, key=lambda lag: gains[lag], default=0)
    return best if gains and gains[best] > _BETTER else 0


def _edges(frame: Tensor) -> Tensor:
    """How strong the edges of a picture are, of mean 0 and length 1."""
    luma = frame.mean(1, keepdim=True)
    strength = (luma[..., 1:, 1:] - luma[..., :-1, 1:]).abs() + (luma[..., 1:, 1:] - luma[..., 1:, :-1]).abs()
    centred = strength - strength.mean()
    unit: Tensor = centred / centred.norm().clamp(min=1e-6)
    return unit
