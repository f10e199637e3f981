"""Records what a report shows of a clip and of what methods made of it, while the frames pass by."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import count, islice, takewhile
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.pairs import FlowPair
from nststab.measure.stability import PairScores
from nststab.metrics import unexplained_change
from nststab.report.moments import CropFinder, FailureFinder
from nststab.video.clip import Clip
from nststab.video.images import from_uint8, resize, to_uint8
from nststab.video.pipes import is_pipe
from nststab.video.timing import PICTURE_RATE

Times = list[tuple[Fraction, Fraction]]
"""Of each frame its time, from 0 on, and its duration, in seconds."""


def shown_times(clip: Clip, seconds: Fraction, limit: int | None = None) -> Times:
    """The times of the frames of a clip's first `seconds`, at least one; of the first `limit` frames at most.

    A file is read up to there. What comes through a pipe can be read once only: there, as for pictures without times,
    they are those of its rate, and the clip may end before.
    """
    own = _at_rate(clip)
    if clip.reader is not None and not is_pipe(clip.path):
        own = ((time, duration) for _, time, duration in clip.reader.frames())
    begin, duration = next(own)  # files may begin at any time
    later = ((time - begin, duration) for time, duration in own)
    within = takewhile(lambda shown: shown[0] < seconds, later)
    return [(Fraction(0), duration), *islice(within, None if limit is None else limit - 1)]


def _at_rate(clip: Clip) -> Iterator[tuple[Fraction, Fraction]]:
    rate = PICTURE_RATE if clip.source is None else clip.source.rate
    numbers = count() if clip.frame_count is None else iter(range(clip.frame_count))
    return ((number / rate, 1 / rate) for number in numbers)


class StoredFrames(Sequence[Tensor]):
    """Frames (1, C, H, W) in [0, 1], of one size, kept as bytes in a file: `frames[i]` reads one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shape: tuple[int, ...] = ()  # of a frame's bytes, (H, W, C)
        self._count = 0

    def append(self, frame: Tensor) -> None:
        """Keeps a frame, rounded to 8 bits. Raises ValueError for another size than the first one's."""
        pixels = to_uint8(frame)
        if self.shape and self.shape != pixels.shape:
            raise NststabError(f"expected frames of shape {self.shape} as the first, got {pixels.shape}")
        self.shape = pixels.shape
        with self._path.open("ab" if self._count else "wb") as file:
            file.write(pixels.tobytes())
        self._count += 1

    def resume(self, count: int, shape: Sequence[int]) -> None:
        """Go on behind the first `count` frames of the file, (H, W, C) bytes each."""
        self._count, self.shape = count, tuple(shape)
        if count:
            os.truncate(self._path, count * math.prod(shape))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -self._count <= index < self._count:
            raise IndexError(f"frame {index} of {self._count}")
        size = int(np.prod(self.shape))
        pixels = np.fromfile(self._path, np.uint8, size, offset=(index % self._count) * size)
        return from_uint8(pixels.reshape(self.shape))


MEASURES = (
    {"key": "ssim", "name": "SSIM of corresponding patches", "unit": "", "better": "higher"},
    {"key": "warp", "name": "Warping error", "unit": "", "better": "lower"},
    {"key": "change", "name": "Change from the frame before", "unit": "levels of 255", "better": "lower"},
)
"""What is measured of each frame, as a page names it."""


class SceneRecorder:
    """Records the first frames of a clip, as many as there are `times`, beside those of its stylized versions.

    Curves and crops are of the frames as they come; what a page shows of them is kept in `folder`, scaled to a longest
    side of `size` (None, or above their own: as they are).

    Attributes:
        names: of the clips, the input's first.
        curves: of each clip by the keys of `MEASURES` a number for each frame, None where nothing was measured.
        shown, heats: of each clip the frames, and how far each differs from the one before where motion explains it.
        shots: the first frames of the shots.
        passed: how many frames there were, with those after the last that was recorded.
    """

    def __init__(
        self, names: Sequence[str], times: Sequence[tuple[Fraction, Fraction]], folder: Path, size: int | None = None
    ) -> None:
        """times: of each frame its time and duration in seconds; the first begins at 0."""
        self.names = list(names)
        self.curves: list[dict[str, list[float | None]]] = [{str(one["key"]): [] for one in MEASURES} for _ in names]
        self.shown = [StoredFrames(folder / f"{number}.frames") for number in range(len(names))]
        self.heats = [StoredFrames(folder / f"{number}.heat") for number in range(len(names))]
        self.shots: list[int] = []
        self.passed = 0
        self.crops, self.failures = CropFinder(), FailureFinder()
        self._times, self._size = times, size
        self._previous: list[Tensor] | None = None
        self._width = 0

    @property
    def times(self) -> Sequence[tuple[Fraction, Fraction]]:
        """Of each recorded frame its time and duration in seconds."""
        return self._times[: len(self.shown[0])]

    @property
    def full(self) -> bool:
        """Whether it takes no more frames, and needs no more flow."""
        return len(self.times) == len(self._times)

    @property
    def scale(self) -> float:
        """Pixels of a shown frame for each that was measured."""
        return self.shown[0][0].shape[-1] / self._width

    def state(self) -> dict[str, Any]:
        """All that the next frames, and the report, depend on beside the files of its folder; it holds `KEPT`."""
        shapes = [[*stored.shape] for stored in (*self.shown, *self.heats)]
        told = {"curves": self.curves, "shots": self.shots, "passed": self.passed, "width": self._width}
        found = {"crops": self.crops.state(), "failures": self.failures.state()}
        return {**told, **found, "count": len(self.times), "shapes": shapes}

    def resume(self, state: Mapping[str, Any], previous: Sequence[Tensor]) -> None:
        """Go on with the `state` of another one of the same folder; `previous` are the last frames that it took."""
        self.curves, self.shots, self.passed, self._width = (
            state[name] for name in ("curves", "shots", "passed", "width")
        )
        self.crops.resume(state["crops"])
        self.failures.resume(state["failures"])
        for stored, shape in zip((*self.shown, *self.heats), state["shapes"], strict=True):
            stored.resume(state["count"], shape)
        self._previous = [frame.cpu().float() for frame in previous[: len(self.names)]]

    def start_shot(self) -> None:
        """Forget the previous frames: nothing is compared across a cut."""
        self._previous = None

    def update(self, frames: Sequence[Tensor], pair: PairScores | None, flow: FlowPair | None) -> None:
        """Take the next frame (1, 3, H, W) of each clip, what was measured from the one before to it, and the flow.

        Of more clips than it has names it takes the first.
        """
        self.passed += 1
        if self.full:
            return
        frames = frames[: len(self.names)]
        index, before = len(self.times), self._previous
        self._previous = [frame.detach().cpu().float() for frame in frames]
        self._width = frames[0].shape[-1]
        if before is None:
            self.shots.append(index)
        elif pair is not None:
            scores = list(zip(pair.psnrs, pair.ssims, strict=True))[: len(frames)]
            self.crops.update(index, before, self._previous, pair.patches, scores)
        if before is not None and flow is not None:
            self.failures.update(index, before, self._previous, flow)
        for number, frame in enumerate(self._previous):
            ssims = [] if pair is None else pair.ssims[number]
            self._measure(number, None if before is None else before[number], frame, ssims, flow)

    def _measure(
        self, number: int, before: Tensor | None, frame: Tensor, ssims: Sequence[float], flow: FlowPair | None
    ) -> None:
        """Keep a clip's frame, its heat map and the points of its curves."""
        values = {"ssim": math.fsum(ssims) / len(ssims) if ssims else math.nan}
        heat = frame.new_zeros(1, 1, *frame.shape[-2:])
        if before is not None:
            values["change"] = 255 * float((frame - before).abs().mean())
        if before is not None and flow is not None:
            heat = unexplained_change(before, frame, flow.backward, trusted := flow.trusted)
            values["warp"] = float(heat.square().sum() / trusted.sum())  # as `warping_error`, of which heat is the root
        for key, curve in self.curves[number].items():
            value = values.get(key, math.nan)
            curve.append(float(f"{value:.4g}") if math.isfinite(value) else None)
        self.shown[number].append(self._scaled(frame))
        self.heats[number].append(self._scaled(heat))

    def _scaled(self, picture: Tensor) -> Tensor:
        longest = max(picture.shape[-2:])
        return picture if self._size is None or self._size >= longest else resize(picture, self._size)
