"""Takes the flicker out of a clip that was processed frame by frame, blind to how: strokes stay where they were drawn.

Blending each frame with the warped previous result makes a clip steady, and washes it out: what is averaged are
textures that have little in common. So nothing is averaged here. Each pixel remembers in which frame, and where in
it, its texture was drawn, and the optical flow carries this address, not the colour: a texture is resampled once,
however long it is held. It is drawn anew where its surface was hidden, where the original no longer looks as it did
there, where neighbours come from places torn apart, and at the latest after `lifetime` frames; earlier where the new
texture is much the same, in whole patches. Detail that is the original's own is not held: there the light in which it
is shown is averaged. What does average well, that and the smooth difference of tone between the new frame and what is
held, is smoothed along the flow (cf. Bonneel et al. 2015), also over the frames after it if there is a look-ahead.
"""

import importlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import dis, require_estimator
from nststab.frames import Frame, Stylizer
from nststab.methods.settings import DeflickerSettings, strength_at
from nststab.settings import Curve
from nststab.shots import by_shot
from nststab.warp import not_brought_back, scaled_flow

Estimator = Callable[[Tensor, Tensor], Tensor]
Plane = NDArray[np.float32]  # (H, W) or (H, W, C)
T = TypeVar("T")

LOOK_AHEAD = 8
_CELLS = 48  # of the grid on which tone is smoothed, along the longest side
_TONE = 0.1  # share of a frame in the running mean of tone
_FADE = 0.4  # share of a texture that was drawn anew in the first frame: it is faded in
_SAME = 0.1  # share of its variance by which a texture may differ from the new one, and is taken for the same
_PAD = 4  # pixels around each frame in the store, for Lanczos' kernel
_RANGE = 32767.0  # stored levels of 1.0; the tone that was taken off may lead out of 0 .. 1, down to -0.5
# The original must look as it did where the texture was drawn: mean difference of levels about the local mean of light,
# plus a share of the local contrast. Without an original the clip's own flicker is in the difference.
_CHANGE, _CHANGE_SHARE = 0.04, 0.3
_OWN_CHANGE, _OWN_CHANGE_SHARE = 0.06, 0.5
# Share of its variance by which detail may differ from the original's, and is taken for its own; without an original
# from the frame before, along the flow.
_INVENTED, _OWN_INVENTED = 0.05, 0.2
_BEGUN = 0.9  # change of that, from 0 to 1, by which a style has begun or ended, as at the edge of a mask
_HELD_REST = 0.8  # share of the frame before in what the original does not explain of detail that is its own
_SEAMS = 0.3  # of a pixel, between textures of different frames, right of it and below
_TORN = 0.7  # mean square of pixels by which neighbours' textures lie apart, of a longest side of 384


class Deflicker:
    """A stylizer that steadies frames whose `content` is the original, or, without one, frames by their own motion.

    The original may have another size. The frames of one shot in, as many out, `look_ahead` frames later. At strength 0
    they come back as they are.

    Args:
        estimator: flow between two pictures (1, 3, H, W); by default DIS.
        settings: what `DeflickerSettings` says.
    """

    def __init__(self, settings: DeflickerSettings | None = None, estimator: Estimator = dis) -> None:
        self._settings = DeflickerSettings.of(settings)
        self._estimator = estimator
        look_ahead = self._settings.look_ahead
        self._look_ahead = LOOK_AHEAD if look_ahead is None else look_ahead

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]:
        strength = self._settings.strength
        if not any(share for _, share in strength):
            yield from frames
            return
        require_estimator("dis")
        cv2 = importlib.import_module("cv2")
        held = _held(_with_flow(frames, self._flow), self._settings, cv2)
        yield from _in_thread(_Finish(strength, cv2), _smoothed(held, self._look_ahead, cv2))

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow at no more than `flow_side` pixels, brought to the pictures' size."""
        height, width = first.shape[-2:]
        share = self._settings.flow_side / max(height, width)
        if share >= 1:
            return self._estimator(first, second)
        small = (max(1, round(height * share)), max(1, round(width * share)))
        found = self._estimator(*(F.interpolate(one, small, mode="area") for one in (first, second)))
        return scaled_flow(found, height, width)


def steadied(frames: Iterable[Frame], deflicker: Stylizer, cuts: bool = True) -> Iterator[Frame]:
    """The frames of a whole clip after `deflicker`, a call of it for each shot; cuts are those of the original.

    That is each frame's `content`, of any size; frames without one are steadied by their own motion.
    """

    def shot(originals: Iterable[Frame]) -> Iterator[Frame]:
        return deflicker(map(_exchanged, originals))

    for alone, part in itertools.groupby(frames, lambda frame: frame.content is None):
        if not cuts:
            yield from deflicker(part)
        elif alone:
            yield from by_shot(deflicker, part)
        else:
            yield from by_shot(shot, map(_exchanged, part))


def _exchanged(frame: Frame) -> Frame:
    """The original with the clip's picture for its content, and the other way round."""
    assert frame.content is not None
    return replace(frame, rgb=frame.content, content=frame.rgb)


def own_guide(picture: Tensor) -> Tensor:
    """What stands for a missing original (1, 3, H, W): the picture itself without its finest strokes."""
    side = max(picture.shape[-2:])
    reach = max(1, round(side / 200))
    padded = F.pad(picture, (reach,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * reach + 1, 1)


class Steadied:
    """A `Stylizer` that steadies the frames of another along the motion of the frames that they were made of."""

    def __init__(self, stylizer: Stylizer, deflicker: Deflicker) -> None:
        self._stylizer, self._deflicker = stylizer, deflicker

    def __call__(self, frames: Iterable[Frame], /) -> Iterator[Frame]:
        contents: deque[Tensor | None] = deque()  # what the frames of `frames` had for theirs

        def originals() -> Iterator[Frame]:
            for frame in frames:
                contents.append(frame.content)
                yield replace(frame, content=frame.rgb)

        def made() -> Iterator[Frame]:
            for frame in self._stylizer(originals()):
                if frame.content is None:
                    raise NststabError("expected a stylizer that gives back the frames it took, with_rgb of its own")
                yield frame

        for frame in self._deflicker(made()):
            yield replace(frame, content=contents.popleft())


def _fitted(picture: Tensor, height: int, width: int) -> Tensor:
    """`picture` (1, 3, H, W) in another size."""
    if picture.shape[-2:] == (height, width):
        return picture
    mode = "area" if picture.shape[-1] > width else "bilinear"
    return F.interpolate(picture, (height, width), mode=mode)


class _Moving(NamedTuple):
    """A frame with its guide (1, 3, H, W) and the flows from and to the frame before it, None at the first."""

    frame: Frame
    guide: Tensor
    forward: Tensor | None
    backward: Tensor | None


def _with_flow(frames: Iterable[Frame], flow: Estimator) -> Iterator[_Moving]:
    """Both directions side by side in threads, one frame ahead of the reader."""
    waiting: deque[tuple[Frame, Tensor, tuple[Future[Tensor], Future[Tensor]] | None]] = deque()
    before: Tensor | None = None

    def finished() -> _Moving:
        frame, guide, flows = waiting.popleft()
        if flows is None:
            return _Moving(frame, guide, None, None)
        return _Moving(frame, guide, flows[0].result(), flows[1].result())

    with ThreadPoolExecutor(2, thread_name_prefix="flow") as pool:
        for frame in frames:
            guide = own_guide(frame.rgb) if frame.content is None else _fitted(frame.content, *frame.rgb.shape[-2:])
            guide = guide.detach().float().cpu()
            pair = None if before is None else (pool.submit(flow, before, guide), pool.submit(flow, guide, before))
            waiting.append((frame, guide, pair))
            before = guide
            if len(waiting) > 1:
                yield finished()
        while waiting:
            yield finished()


@dataclass(frozen=True)
class _Step:
    """A frame made of held textures.

    Attributes:
        picture: (H, W, 3), in the tone of what is held.
        tone: (h, w, 3), how the tone of the new frame differs from that, on the coarse grid.
        own: (H, W), 1 where the detail is the original's own, or steady, and not held.
        source: (H, W, 3), the original, or without one what is held.
        light: (h, w, 7), contrast and brightness by which the frame is made of the source there, times their weight,
            and the weight.
        trust: (H, W), 1 where the picture goes on from the one before.
        backward, forward: flows (H, W, 2) to the frame before and from it, None at the first.
    """

    frame: Frame
    picture: Plane
    tone: Plane
    own: Plane
    source: Plane
    light: Plane
    trust: Plane
    backward: Plane | None
    forward: Plane | None


def _held(moving: Iterable[_Moving], settings: DeflickerSettings, cv2: Any) -> Iterator[_Step]:
    """Carries the address of each pixel's texture along, and draws anew what is no longer right."""
    shot: _Shot | None = None
    for one in moving:
        picture = _plane(one.frame.rgb)
        if shot is None:
            shot = _Shot(picture.shape[0], picture.shape[1], settings, one.frame.content is None, cv2)
            yield shot.first(one, picture)
        elif picture.shape[:2] != (shot.height, shot.width):
            raise NststabError(
                f"expected frames of {shot.width}x{shot.height} as the first, got {picture.shape[1::-1]}"
            )
        else:
            yield shot.next(one, picture)


class _Shot:
    """The addresses of the textures of a shot, and the frames that they lead to."""

    def __init__(self, height: int, width: int, settings: DeflickerSettings, alone: bool, cv2: Any) -> None:
        self.height, self.width, self._cv2 = height, width, cv2
        self._settings, self._alone = settings, alone
        self._change, self._share = (_OWN_CHANGE, _OWN_CHANGE_SHARE) if alone else (_CHANGE, _CHANGE_SHARE)
        scale = max(height, width) / 384
        self._small, self._wide, self._patch = _odd(5 * scale), _odd(9 * scale), _odd(33 * scale)
        self._torn = _TORN * scale**2
        self._cell = max(1, round(max(height, width) / _CELLS))
        rows, columns = np.mgrid[:height, :width]
        self._x, self._y = columns.astype(np.float32), rows.astype(np.float32)
        self._pictures = _Store(settings.lifetime, height, width, np.dtype(np.uint16), cv2)
        self._guides = _Store(settings.lifetime, height, width, np.dtype(np.uint8), cv2)
        self._number = 0
        self._drawn = np.zeros((height, width), np.int32)  # number of the frame where a texture was drawn
        self._u, self._v = self._x, self._y  # and where in it
        self._was_own = self._x * 0  # how far it was the original's own there
        # Textures end at different times, in patches, so that a frame never changes as a whole.
        random = np.random.default_rng(0).random((8, 12), np.float32)
        spread = cv2.resize(random, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        self._lifetime = settings.lifetime * (1 - 0.5 * spread)

    def first(self, one: _Moving, picture: Plane) -> _Step:
        guide = _plane(one.guide)
        self._keep(picture, guide)
        self._last = picture
        own = self._was_own = self._own(picture, picture if self._alone else guide)
        tone = np.zeros((*self._on_grid(self._x).shape[:2], 3), np.float32)
        source = picture if self._alone else guide
        return _Step(one.frame, picture, tone, own, source, self._light(picture, source, own), own * 0, None, None)

    def next(self, one: _Moving, picture: Plane) -> _Step:
        assert one.forward is not None
        assert one.backward is not None
        self._number += 1
        guide, backward, forward = _plane(one.guide), _plane(one.backward), _plane(one.forward)
        back = torch.from_numpy(_moved(self._cv2, forward, backward, self._cv2.INTER_LINEAR)).permute(2, 0, 1)[None]
        trusted = self._carry(backward) & ~not_brought_back(one.backward, back)[0, 0].numpy()
        trusted &= self._looks_as_before(guide, trusted) & ~self._is_torn()
        known = _moved(self._cv2, self._last, backward, self._cv2.INTER_LANCZOS4) if self._alone else guide
        own, self._last = self._own(picture, known), picture
        if not self._alone:
            trusted &= np.abs(own - self._was_own) < _BEGUN
        # As most around it, or the lines of two renderings lie beside each other in speckles.
        trusted = self._cv2.blur(trusted.astype(np.float32), (self._small, self._small)) > 0.5
        held = self._pictures.read(self._drawn, self._u, self._v, self._cv2.INTER_LANCZOS4)
        trust = trusted.astype(np.float32)
        tone = self._tone(picture - held, trust)
        fresh = picture - _resized(self._cv2, tone, self.height, self.width)
        anew = ~trusted | self._is_due(fresh, held)
        self._drawn = np.where(anew, np.int32(self._number), self._drawn)
        self._u, self._v = np.where(anew, self._x, self._u), np.where(anew, self._y, self._v)
        self._was_own = np.where(anew, own, self._was_own)
        self._keep(fresh, guide)
        soft = (2 * self._cv2.GaussianBlur(trust, (0, 0), 1.0) - 1).clip(0, 1)
        shown = np.where(anew[..., None], fresh, held)
        source, own = (held, own * soft) if self._alone else (guide, own)
        light = self._light(picture, source, own)
        return _Step(one.frame, shown, tone, own, source, light, soft, backward, forward)

    def _keep(self, picture: Plane, guide: Plane) -> None:
        levels: Plane = (picture + np.float32(0.5)).clip(0, 2) * np.float32(_RANGE)
        self._pictures.write(self._number, levels)
        self._guides.write(self._number, guide * 255)

    def _carry(self, backward: Plane) -> NDArray[np.bool_]:
        """Moves all addresses along the flow: which are known, and young enough.

        Between four neighbours of one frame an address is interpolated, which is exact for any affine motion; elsewhere
        the nearest is taken, and moved by what is left.
        """
        x, y = self._x + backward[..., 0], self._y + backward[..., 1]
        inside = (x > -0.5) & (x < self.width - 0.5) & (y > -0.5) & (y < self.height - 0.5)
        x, y = x.clip(0, self.width - 1), y.clip(0, self.height - 1)
        left = np.minimum(x.astype(np.intp), max(0, self.width - 2))
        top = np.minimum(y.astype(np.intp), max(0, self.height - 2))
        right, below = x - left.astype(np.float32), y - top.astype(np.float32)
        across, down = min(1, self.width - 1), self.width * min(1, self.height - 1)
        corner = top * self.width + left
        nearest = corner + across * (right > 0.5) + down * (below > 0.5)
        drawn, u, v = self._drawn.ravel(), self._u.ravel(), self._v.ravel()
        # of each pixel, whether it and the three right of it, below, and both are of one frame
        block = np.ones(self._drawn.shape, bool)
        block[:, :-1] &= self._drawn[:, :-1] == self._drawn[:, 1:]
        block[:-1] &= (self._drawn[:-1] == self._drawn[1:]) & block[1:]
        one = block.ravel()[corner]

        def between(values: Plane) -> Plane:
            above, under = (
                values[corner + step] * (1 - right) + values[corner + step + across] * right for step in (0, down)
            )
            mixed: Plane = above * (1 - below) + under * below
            return mixed

        self._drawn, self._was_own = drawn[nearest], self._was_own.ravel()[nearest]
        self._u = np.where(one, between(u), u[nearest] + x - (nearest % self.width).astype(np.float32))
        self._v = np.where(one, between(v), v[nearest] + y - (nearest // self.width).astype(np.float32))
        known: NDArray[np.bool_] = inside & (self._number - self._drawn < self._settings.lifetime)
        return known

    def _looks_as_before(self, guide: Plane, trusted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the original looks as it did where the texture was drawn, but for the light."""
        before = self._guides.read(self._drawn, self._u, self._v, self._cv2.INTER_LINEAR)
        change = before - guide
        light = self._tone(change, trusted.astype(np.float32))
        change -= _resized(self._cv2, light, self.height, self.width)
        size = (self._small, self._small)
        different = self._cv2.blur(_mean(self._cv2, np.abs(change)), size)
        luma = _mean(self._cv2, guide)
        variance = self._cv2.blur(luma * luma, size) - self._cv2.blur(luma, size) ** 2
        same: NDArray[np.bool_] = different < self._change + self._share * np.sqrt(variance.clip(0))
        return same

    def _is_torn(self) -> NDArray[np.bool_]:
        """Where neighbours' textures of one frame lie apart in it: they are no picture together.

        The ways to different frames differ by the motion between these, which says nothing.
        """
        size, reach = (self._small, self._small), self._small // 2
        torn = self._x * 0
        for axis in (0, 1):
            same = (self._drawn == np.roll(self._drawn, reach, axis)).astype(np.float32)
            for way in (self._u - self._x, self._v - self._y):
                torn += same * (way - np.roll(way, reach, axis)) ** 2
        found: NDArray[np.bool_] = self._cv2.blur(torn, size) > self._torn
        return found

    def _tone(self, difference: Plane, trust: Plane) -> Plane:
        """The smooth part of a difference (H, W, 3) where it is trusted, on the coarse grid (h, w, 3)."""
        grid = self._on_grid(difference * trust[..., None], trust)
        mean = grid.mean((0, 1))
        grid = self._cv2.GaussianBlur(grid, (0, 0), 2.0).reshape(grid.shape)
        whole = mean[:3] / (mean[3] + 1e-3)  # for cells without anything to be trusted around
        tone: Plane = (grid[..., :3] + 1e-2 * whole) / (grid[..., 3:] + 1e-2)
        return tone

    def _on_grid(self, *planes: Plane) -> Plane:
        """Means (h, w, C) of planes (H, W) or (H, W, 3), side by side, over the cells of the coarse grid."""
        size = max(1, self.width // self._cell), max(1, self.height // self._cell)
        return np.dstack([self._cv2.resize(one, size, interpolation=self._cv2.INTER_AREA) for one in planes])

    def _is_due(self, fresh: Plane, held: Plane) -> NDArray[np.bool_]:
        """Where a texture has reached its age, or is old enough for how little the new one differs, or is in pieces.

        As most around it: what is drawn anew is drawn in patches, or a picture crumbles into pixels of many frames.
        """
        age = (self._number - self._drawn) / self._lifetime
        size = (self._patch, self._patch)
        difference = self._cv2.blur(_mean(self._cv2, (fresh - held) ** 2), size)
        variance = _mean(self._cv2, self._cv2.blur(fresh * fresh, size) - self._cv2.blur(fresh, size) ** 2)
        due: NDArray[np.bool_] = difference / (2 * variance.clip(0) + 2e-4) < np.maximum(age**2, _SAME)
        seams = self._x * 0
        seams[:, 1:] += self._drawn[:, 1:] != self._drawn[:, :-1]
        seams[1:] += self._drawn[1:] != self._drawn[:-1]
        due |= (age >= 1) | (self._cv2.blur(seams, (self._wide, self._wide)) > _SEAMS)
        most: NDArray[np.bool_] = self._cv2.blur(due.astype(np.float32), size) > 0.5
        return most

    def _own(self, picture: Plane, source: Plane) -> Plane:
        """Where the detail is the source's own, but for light (H, W): 1 there, 0 where it was invented.

        What a regression of the picture on the source around each pixel leaves over of the variance was invented. The
        source (H, W, 3) is the original, or without one the frame before, moved here: what is steady needs no holding.
        """
        size = (self._wide, self._wide)
        drawn, given = _mean(self._cv2, picture), _mean(self._cv2, source)
        mean, original = self._cv2.blur(drawn, size), self._cv2.blur(given, size)
        variance = (self._cv2.blur(drawn * drawn, size) - mean * mean).clip(0)
        contrast = (self._cv2.blur(given * given, size) - original * original).clip(0)
        common = self._cv2.blur(drawn * given, size) - mean * original
        invented = (variance - common * common / (contrast + 1e-5)) / (variance + 2e-4)
        own: Plane = (1.5 - invented / (_OWN_INVENTED if self._alone else _INVENTED)).clip(0, 1)
        return own

    def _light(self, picture: Plane, source: Plane, own: Plane) -> Plane:
        """How the source is lit where the picture shows it: contrast and brightness in wide surroundings."""
        half = max(1, self.width // 2), max(1, self.height // 2)
        small = [self._cv2.resize(one, half, interpolation=self._cv2.INTER_AREA) for one in (picture, source, own)]
        picture, source, weight = (one.reshape(half[1], half[0], -1) for one in small)
        weighted = [weight * one for one in (picture, source, picture * picture, source * source)]
        grid = self._on_grid(*weighted, weight)
        grid = self._cv2.GaussianBlur(grid, (0, 0), 2.0).reshape(grid.shape)
        weight = grid[..., 12:]
        drawn, given, *squares = np.split(grid[..., :12] / (weight + 1e-6), 4, axis=2)
        # Not the slope of the regression, which a source that lies a part of a pixel beside its place makes smaller.
        spread, spread_given = (
            (square - mean * mean).clip(0) + 1e-4 for square, mean in zip(squares, (drawn, given), strict=True)
        )
        contrast = np.sqrt(spread / spread_given)
        return np.dstack([weight * contrast, weight * (drawn - contrast * given), weight])


class _Store:
    """The last `count` pictures (H, W, 3), side by side in one, of which any pixels can be read at once."""

    def __init__(self, count: int, height: int, width: int, kind: np.dtype[Any], cv2: Any) -> None:
        self._count, self._height, self._width, self._cv2 = count, height, width, cv2
        self._columns = math.ceil(math.sqrt(count * height / width))
        rows = math.ceil(count / self._columns)
        self._tall, self._broad = height + 2 * _PAD, width + 2 * _PAD
        if max(rows * self._tall, self._columns * self._broad) >= 32767:  # OpenCV's remap
            raise NststabError(f"{width}x{height} pixels are too many for a lifetime of {count} frames")
        self._sheet = np.zeros((rows * self._tall, self._columns * self._broad, 3), kind)

    def write(self, number: int, levels: Plane) -> None:
        row, column = divmod(number % self._count, self._columns)
        top, left = row * self._tall, column * self._broad
        place = self._sheet[top : top + self._tall, left : left + self._broad]
        whole = np.rint(levels, out=levels).astype(self._sheet.dtype)
        place[...] = self._cv2.copyMakeBorder(whole, *(_PAD,) * 4, self._cv2.BORDER_REPLICATE)

    def read(self, number: NDArray[np.int32], u: Plane, v: Plane, interpolation: int) -> Plane:
        """The pixels (u, v) (H, W) of the pictures `number` (H, W), in levels of 1: (H, W, 3)."""
        row, column = np.divmod(number % self._count, np.int32(self._columns))
        x = u.clip(0, self._width - 1) + (column * self._broad + _PAD).astype(np.float32)
        y = v.clip(0, self._height - 1) + (row * self._tall + _PAD).astype(np.float32)
        levels = self._cv2.remap(self._sheet, x, y, interpolation).astype(np.float32)
        unit: Plane = levels / 255 if self._sheet.dtype == np.uint8 else levels / np.float32(_RANGE) - np.float32(0.5)
        return unit


def _smoothed(steps: Iterable[_Step], look_ahead: int, cv2: Any) -> Iterator[tuple[_Step, Plane, Plane]]:
    """Each step with its tone and light smoothed along the flow, over the frames before it and `look_ahead` after."""
    waiting: deque[_Step] = deque()
    past: Plane | None = None
    weight = 0.0

    def smoothed() -> tuple[_Step, Plane, Plane]:
        nonlocal past, weight
        step = waiting.popleft()
        here = np.dstack([step.tone, step.light])
        if past is None or step.backward is None:
            past, weight = here, 1.0
        else:
            past = here + (1 - _TONE) * _moved(cv2, past, _coarse(cv2, step.backward, here), cv2.INTER_LINEAR)
            weight = 1 + (1 - _TONE) * weight
        later, later_weight = np.zeros_like(past), 0.0
        for after in reversed(waiting):
            assert after.forward is not None
            gathered = np.dstack([after.tone, after.light]) + (1 - _TONE) * later
            later = _moved(cv2, gathered, _coarse(cv2, after.forward, here), cv2.INTER_LINEAR)
            later_weight = 1 + (1 - _TONE) * later_weight
        share = 1 - _TONE
        mean: Plane = ((past + share * later) / (weight + share * later_weight)).astype(np.float32)
        return step, mean[..., :3], mean[..., 3:]

    for step in steps:
        waiting.append(step)
        if len(waiting) > look_ahead:
            yield smoothed()
    while waiting:
        yield smoothed()


class _Finish:
    """Fades in what was drawn anew, in the tone that was asked for."""

    def __init__(self, strength: Curve, cv2: Any) -> None:
        self._strength, self._cv2 = strength, cv2
        self._before: Plane | None = None
        self._rest: Plane | None = None

    def __call__(self, smoothed: tuple[_Step, Plane, Plane]) -> Frame:
        step, tone, light = smoothed
        target = step.picture + _resized(self._cv2, tone, *step.picture.shape[:2])
        fading = (1 - _FADE) * step.trust * (1 - step.own)
        target += step.own[..., None] * (self._relit(step, light) - target)
        picture = target
        if self._before is not None and step.backward is not None:
            moved = _moved(self._cv2, self._before, step.backward, self._cv2.INTER_LANCZOS4)
            picture = target + fading[..., None] * (moved - target)
        self._before = picture
        share = strength_at(self._strength, step.frame)
        if not share:
            return step.frame
        rgb = torch.from_numpy(_contrasted(self._cv2, picture, target)).permute(2, 0, 1)[None]
        mixed = step.frame.rgb + share * (rgb.to(step.frame.rgb) - step.frame.rgb)
        return step.frame.with_rgb(mixed.clamp(0, 1))

    def _relit(self, step: _Step, light: Plane) -> Plane:
        """The frame in steady light where it shows its source, and in it what the source does not explain.

        There is little of that where the detail is the original's own, so here its mean along the flow is good enough.
        """
        wanted, found = (
            _resized(self._cv2, one[..., :6] / (one[..., 6:] + 1e-6), *step.picture.shape[:2])
            for one in (light, step.light)
        )
        rest = _plane(step.frame.rgb) - found[..., :3] * step.source - found[..., 3:]
        if self._rest is not None and step.backward is not None and step.frame.content is not None:
            moved = _moved(self._cv2, self._rest, step.backward, self._cv2.INTER_LINEAR)
            rest += _HELD_REST * step.trust[..., None] * (moved - rest)
        self._rest = rest
        lit: Plane = wanted[..., :3] * step.source + wanted[..., 3:] + rest
        return lit


def _in_thread(function: Callable[[T], Frame], items: Iterable[T]) -> Iterator[Frame]:
    """`function` of each item, computed beside the making of the next."""
    with ThreadPoolExecutor(1, thread_name_prefix="finish") as pool:
        last: Future[Frame] | None = None
        for item in items:
            made, last = last, pool.submit(function, item)
            if made is not None:
                yield made.result()
        if last is not None:
            yield last.result()


def _coarse(cv2: Any, flow: Plane, like: Plane) -> Plane:
    """A flow (H, W, 2) on the grid of `like` (h, w, C), in its cells."""
    height, width = like.shape[:2]
    small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, 2)
    scaled: Plane = small * np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return scaled


def _moved(cv2: Any, picture: Plane, flow: Plane, interpolation: int) -> Plane:
    """`picture` (H, W, 3) sampled at x + flow(x), its border replicated."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = (columns + flow[..., 0]).clip(0, width - 1), (rows + flow[..., 1]).clip(0, height - 1)
    moved: Plane = cv2.remap(picture, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return moved


def _contrasted(cv2: Any, picture: Plane, target: Plane) -> Plane:
    """`picture` (H, W, 3) with the local contrast of `target`, which fading in has taken: two textures are mixed then.

    The recursion goes on from the picture without it, or errors of contrast would grow.
    """
    size = (_odd(9 * max(picture.shape) / 384),) * 2

    def spread(one: Plane) -> tuple[Plane, Plane]:
        mean = cv2.blur(one, size)
        return mean, _mean(cv2, cv2.blur(one * one, size) - mean**2).clip(0)

    (mean, own), (_, wanted) = spread(picture), spread(target)
    gain = np.sqrt((wanted + 1e-4) / (own + 1e-4)).clip(0.5, 2)[..., None]
    contrasted: Plane = mean + gain * (picture - mean)
    return contrasted


def _mean(cv2: Any, picture: Plane) -> Plane:
    """The mean (H, W) of the channels of (H, W, 3)."""
    mean: Plane = cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32)).reshape(picture.shape[:2])
    return mean


def _resized(cv2: Any, grid: Plane, height: int, width: int) -> Plane:
    large: Plane = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, -1)
    return large


def _plane(tensor: Tensor) -> Plane:
    """(1, C, H, W) as a contiguous (H, W, C) of float32."""
    plane: Plane = np.ascontiguousarray(tensor[0].detach().permute(1, 2, 0).float().cpu().numpy())
    return plane


def _odd(size: float) -> int:
    return 2 * max(1, round((size - 1) / 2)) + 1
