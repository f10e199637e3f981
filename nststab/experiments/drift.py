"""Hundreds of frames: do brightness and colour drift, does anything accumulate, what does a passing object leave?

Four parts, which stream, so that memory does not grow with their length: a still under fresh sensor noise in every
frame; a short clip, looped forwards and backwards, so that it has no cut; an object that comes and vanishes, against
the same run without it; and a cut between two shots, against a run that begins there. Means and differences are in
levels of 255. A stylizer without memory moves by its noise alone, and leaves no ghost.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Stylizer, as_frames, pictures_of
from nststab.measure.stability import FrameLosses
from nststab.metrics import DriftSlopes, drift_slopes, with_brightness
from nststab.shots import by_shot, detect_cuts

_BEFORE, _COMING, _STAYING, _AFTER = 5, 6, 10, 30  # frames of the object's run
_RADIUS = 0.2  # of the object, of the shorter side
_SHOT = 10  # frames of each shot around the cut


@dataclass(frozen=True)
class DriftSettings:
    """What is fed to a stylizer.

    Attributes:
        frames: of the still and of the loop.
        size: longest side of the frames.
        noise: standard deviation of the still's sensor noise, of a range of 1.
        loop: frames of the clip that is looped; of one alone, a picture, there is no loop. None: 20, fewer where two
            rounds would not fit into the settled frames.
    """

    frames: int = 300
    size: int = 256
    noise: float = 0.02
    seed: int = 0
    loop: int | None = None

    def __post_init__(self) -> None:
        if self.frames < 20 or self.noise < 0 or self.loop_frames < 1:
            raise NststabError(f"expected frames >= 20, noise >= 0 and loop >= 1, got {self}")
        if self.loop_frames > self._longest_loop:
            raise NststabError(
                f"two rounds of a loop of {self.loop} frames, forwards and backwards, do not fit into {self.frames} "
                f"frames, {self.settled} of which settle: expected a loop of at most {self._longest_loop}"
            )

    @property
    def settled(self) -> int:
        """The first frames, which nothing is measured on: 50, or a tenth of less than a hundred."""
        return 50 if self.frames >= 100 else self.frames // 10

    @property
    def window(self) -> int:
        """Frames of the still that are averaged: 25, fewer where four times as many do not come after settling."""
        return min(25, (self.frames - self.settled) // 4)

    @property
    def loop_frames(self) -> int:
        return min(20, self._longest_loop) if self.loop is None else self.loop

    @property
    def period(self) -> int:
        """Frames after which the loop repeats: a, b, c, b, a, b, ... has 4."""
        return max(1, 2 * (self.loop_frames - 1))

    @property
    def _longest_loop(self) -> int:
        return (self.frames - self.settled) // 4 + 1


def parts(settings: DriftSettings) -> dict[str, tuple[int, int]]:
    """The parts of the experiment, with how many frames each stylizes in how many calls of the stylizer."""
    looped = {"loop": (settings.frames, 1)} if settings.loop_frames > 1 else {}
    seen = _BEFORE + _COMING + _STAYING + _AFTER
    return {"still": (settings.frames, 1), **looped, "ghost": (2 * seen, 2), "cut": (5 * _SHOT, 4)}


def measure(
    part: str, stylizer: Stylizer, clip: Sequence[Tensor], settings: DriftSettings, frame_losses: FrameLosses
) -> dict[str, Any]:
    """One of the `parts`, as JSON values.

    clip: frames (1, 3, H, W); the first is the still. frame_losses: as `stability.perceptual_losses` makes them.
    Raises ValueError for a picture without contrast.
    """
    still = clip[0]
    if part == "still":
        shown = ((noisy(still, index, settings), still) for index in range(settings.frames))
        return long_run(stylizer, shown, settings, settings.window, 1, frame_losses)
    if part == "loop":
        there_and_back = cycle([*clip, *clip[-2:0:-1]])
        looped = ((frame, frame) for frame in islice(there_and_back, settings.frames))
        return long_run(stylizer, looped, settings, settings.period, settings.period, frame_losses)
    return (ghost if part == "ghost" else cut)(stylizer, still, settings)


def noisy(frame: Tensor, index: int, settings: DriftSettings) -> Tensor:
    """The frame under the sensor noise of its moment: the same in every run, whatever came before."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + index)
    return (frame + settings.noise * torch.randn(frame.shape, generator=generator)).clamp(0, 1)


def foreign(picture: Tensor) -> Tensor:
    """What the picture (1, 3, H, W) does not hold but resembles in texture: its mirrored negative.

    Raises ValueError for a picture that this hardly differs from, such as a grey one.
    """
    other = 1 - picture.flip(-1)
    if not any(cut for _, cut in detect_cuts(as_frames([picture, other]))):
        raise NststabError("expected a picture with contrast: an object and a cut would not be seen in this one")
    return other


def long_run(
    stylizer: Stylizer,
    shown: Iterable[tuple[Tensor, Tensor]],
    settings: DriftSettings,
    window: int,
    smoothed: int,
    frame_losses: FrameLosses,
) -> dict[str, Any]:
    """What happens to a long clip: frames (1, 3, H, W), each with its clean content, which its losses are taken of.

    window: frames of the means that are compared. smoothed: frames of the running mean whose slope is taken; over the
    rounds of a loop its own motion is no drift.

    - `slopes` of brightness, R, G, B in levels per frame by least squares after settling, and `errors`, their standard
      errors: from means over windows, which depend on each other far less than the frames of a recurrent stylizer do.
    - `drift`: the largest absolute slope, and `drift_error` its standard error.
    - `moved`: the farthest that the mean of a window, wherever it begins, comes from that of the first.
    - `change`: mean absolute difference of adjacent frames.
    - `accumulated`: mean absolute difference, pixel by pixel, of the mean pictures of the first and the last window,
      which sees what the means of whole frames hide; `accumulated_noise`: of the first and the second.
    - `style_loss` and `content_loss`, each of the first and of the last window.
    - `means`: brightness, R, G, B of every frame, in levels, rounded.
    """
    waiting: deque[Tensor] = deque()  # content of what the stylizer has taken and not given back
    means: list[Tensor] = []
    changes: list[float] = []
    starts = (settings.settled, settings.settled + window, settings.frames - window)
    first, _, last = windows = [range(start, start + window) for start in starts]
    pictures = [torch.zeros(()) for _ in windows]
    losses: dict[int, Mapping[str, float]] = {}
    previous: Tensor | None = None
    for index, frame in enumerate(_run(stylizer, _shown(shown, waiting))):
        content = waiting.popleft()
        means.append(frame.mean((0, 2, 3), dtype=torch.float64))
        if previous is not None and index >= settings.settled:
            changes.append(_difference(frame, previous))
        if index in first or index in last:
            losses[index] = frame_losses(frame, content)
        pictures = [
            picture + frame.double() / window if index in within else picture
            for picture, within in zip(pictures, windows, strict=True)
        ]
        previous = frame
    if len(means) != settings.frames:
        raise NststabError(f"expected {settings.frames} stylized frames, got {len(means)}")
    curves = dict(zip(DriftSlopes._fields, (255 * with_brightness(torch.stack(means))).T.tolist(), strict=True))
    return {
        **slopes(torch.stack(means)[settings.settled :], window, smoothed),
        "change": math.fsum(changes) / len(changes),
        "accumulated": _difference(pictures[0], pictures[2]),
        "accumulated_noise": _difference(pictures[0], pictures[1]),
        **{
            f"{term}_loss": [math.fsum(losses[index][term] for index in within) / window for within in (first, last)]
            for term in ("style", "content")
        },
        "means": {name: [round(level, 4) for level in curve] for name, curve in curves.items()},
    }


def _shown(pairs: Iterable[tuple[Tensor, Tensor]], contents: deque[Tensor]) -> Iterator[Tensor]:
    for frame, content in pairs:
        contents.append(content)
        yield frame


def slopes(means: Tensor, window: int, smoothed: int) -> dict[str, Any]:
    """Slopes of settled means (T, 3), their standard errors, and how far they move; see `long_run`."""
    running = means.unfold(0, smoothed, 1).mean(-1)  # (T - smoothed + 1, 3)
    found = drift_slopes(running)
    errors = slope_errors(means, window)
    largest = max(range(len(found)), key=lambda index: abs(found[index]))
    levels = 255 * with_brightness(means.unfold(0, window, 1).mean(-1))  # (T - window + 1, 4)
    return {
        "drift": abs(found[largest]),
        "drift_error": errors[largest],
        "slopes": found._asdict(),
        "errors": errors._asdict(),
        "moved": float((levels - levels[0]).abs().max()),
    }


def slope_errors(means: Tensor, window: int) -> DriftSlopes:
    """Standard errors of the slopes of means (T, 3), from their means over windows that do not overlap.

    Those are taken as independent of each other: a stylizer's memory is to be short against the window. NaN for fewer
    than three windows.
    """
    count = len(means) // window
    if count < 3:
        return DriftSlopes(*[math.nan] * 4)
    levels = 255 * with_brightness(means[: count * window].double().view(count, window, 3).mean(1))  # (count, 4)
    time = window * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    levels = levels - levels.mean(0)
    residuals = levels - time[:, None] * (time @ levels / time.square().sum())
    variance = residuals.square().sum(0) / (count - 2)
    return DriftSlopes(*(variance / time.square().sum()).sqrt().tolist())


def ghost(stylizer: Stylizer, still: Tensor, settings: DriftSettings) -> dict[str, Any]:
    """What an object leaves behind: a disc of foreign texture slides in from the left, stays, and is gone at once.

    `ghost`: of each frame since, the first of which is the first without it, the mean absolute difference over its
    place to a run under the same noise that never saw it, in levels. It vanishes where it stands, which is harder than
    to slide out: all of its place is uncovered in one frame.
    """
    gone = _BEFORE + _COMING + _STAYING
    place = _disc(still, 0)
    object_passes = _run(stylizer, (noisy(frame, i, settings) for i, frame in enumerate(passing(still))))
    never_there = _run(stylizer, (noisy(still, i, settings) for i in range(gone + _AFTER)))
    since = islice(zip(object_passes, never_there, strict=True), gone, None)
    return {"ghost": [float(((a - b).abs().mean(1) * place).sum() / place.sum()) * 255 for a, b in since]}


def passing(still: Tensor) -> Iterator[Tensor]:
    """The object's frames, without noise: none, coming, staying, none again."""
    other, width = foreign(still), still.shape[-1]
    reach = width / 2 + _RADIUS * min(still.shape[-2:]) + 1  # from out of sight to the middle
    shifts = [-round(reach * (1 - step / _COMING)) for step in range(1, _COMING + 1)] + [0] * _STAYING
    yield from [still] * _BEFORE
    for shift in shifts:
        yield torch.lerp(still, other.roll(shift, -1), _disc(still, shift))
    yield from [still] * _AFTER


def _disc(still: Tensor, shift: int) -> Tensor:
    """Coverage (H, W) by a disc, `shift` pixels to the right of the middle; its edge fades over a pixel."""
    height, width = still.shape[-2:]
    rows = torch.arange(height)[:, None] - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2 - shift
    return (_RADIUS * min(height, width) - torch.hypot(rows, columns) + 0.5).clamp(0, 1)


def cut(stylizer: Stylizer, still: Tensor, settings: DriftSettings) -> dict[str, Any]:
    """What a cut to a foreign picture leaves, against a run under the same noise that begins at the cut.

    `cut`: the largest absolute difference where cuts are looked for, as by default everywhere, so that the stylizer
    begins anew; `cut_unseen`: mean absolute difference of each frame after it where they are not.
    """
    other = foreign(still)
    joined = [noisy(frame, i, settings) for i, frame in enumerate([still] * _SHOT + [other] * _SHOT)]
    alone = list(_run(stylizer, joined[_SHOT:]))
    anew = list(_run(lambda frames: by_shot(stylizer, frames), joined))[_SHOT:]
    through = list(_run(stylizer, joined))[_SHOT:]
    return {
        "cut": max(float((a - b).abs().max()) * 255 for a, b in zip(anew, alone, strict=True)),
        "cut_unseen": [_difference(a, b) for a, b in zip(through, alone, strict=True)],
    }


def _run(stylizer: Stylizer, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    return pictures_of(stylizer(as_frames(pictures)))


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().mean()) * 255
