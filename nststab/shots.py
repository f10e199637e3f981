"""Splits a stream of frames into shots at its hard cuts, so that a stylizer begins anew at each."""

from collections import deque
from collections.abc import Iterable, Iterator

import torch.nn.functional as F
from torch import Tensor

from nststab.frames import Frame, Stylizer

# Measured (DAVIS, Big Buck Bunny, film with five cuts; 306 cuts made by joining their shots): change x disagreement is
# 0.06 and more at cuts, 0.022 in the wildest motion blur, under 0.005 elsewhere; a cut rises 3.4 times and more.
_GRID = (9, 16)  # so coarse that noise averages out and motion from frame to frame stays within a cell
_NOISE = 1e-3  # variance below which a picture has no structure that could agree or disagree
_CHANGE = 0.04  # change x disagreement from which on it may be a cut
_REPLACED = 0.3  # a change which is a cut whatever the structure says: from one flat colour to another
_RISE = 2.5  # a cut changes this many times as much as the frames before it
_HISTORY = 8  # frames which tell how much the shot changes anyway


def detect_cuts(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Each frame with whether a hard cut lies right before it; streaming, and never at the first frame.

    Two frames are compared on a 9x16 grid of mean colours: by their mean absolute difference, and by their correlation,
    which a change of light leaves as it is. A cut must be large in both and stand out from the frames before it, as in
    PySceneDetect's AdaptiveDetector; a flash of one frame, after which the old picture is back, is none. One frame
    more is read ahead, and only where a cut may be.
    """
    stream = iter(frames)
    reference: Tensor | None = None  # the last frame that was no flash, on the grid
    recent: deque[float] = deque(maxlen=_HISTORY)
    frame = next(stream, None)
    while frame is not None:
        following: Frame | None = None
        grid = _on_grid(frame)
        cut = reference is not None and _breaks(reference, grid, recent)
        flash = False
        if cut and reference is not None:
            following = next(stream, None)
            flash = following is not None and not _breaks(reference, _on_grid(following), recent)
        if cut and not flash:
            recent.clear()
        elif reference is not None and not flash:
            recent.append(_difference(reference, grid))
        if not flash:
            reference = grid
        yield frame, cut and not flash
        frame = next(stream, None) if following is None else following


def _on_grid(frame: Frame) -> Tensor:
    return F.adaptive_avg_pool2d(frame.rgb, _GRID)  # (1, 3, 9, 16)


def _difference(before: Tensor, after: Tensor) -> float:
    return float((after - before).abs().mean())


def _correlation(before: Tensor, after: Tensor) -> float:
    """Correlation of two grids about their means: 1 for one picture in two lights, and for two without structure."""
    a, b = before - before.mean(), after - after.mean()
    energy = (a.square().mean() + _NOISE) * (b.square().mean() + _NOISE)
    return float(((a * b).mean() + _NOISE) / energy.sqrt())


def _breaks(before: Tensor, after: Tensor, recent: deque[float]) -> bool:
    change = _difference(before, after)
    if recent and change < _RISE * sum(recent) / len(recent):
        return False
    return change > _REPLACED or change * (1 - _correlation(before, after)) > _CHANGE


def split_shots(frames: Iterable[Frame]) -> Iterator[Iterator[Frame]]:
    """The shots of a stream, each an iterator of its frames; nothing is kept, so each must be used before the next.

    As with `itertools.groupby`, what a shot's user leaves unread is skipped when the next shot is asked for.
    """
    marked = detect_cuts(frames)
    first: Frame | None = None

    def shot(frame: Frame | None) -> Iterator[Frame]:
        nonlocal first
        first = None
        while frame is not None:
            yield frame
            frame, cut = next(marked, (None, False))
            if cut:
                first = frame
                return

    first, _ = next(marked, (None, False))
    while first is not None:
        current = shot(first)
        yield current
        for _ in current:
            pass


def by_shot(stylizer: Stylizer, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Stylize a stream of frames by a new call of `stylizer` for each shot: a cut resets its state."""
    for shot in split_shots(frames):
        yield from stylizer(shot)
