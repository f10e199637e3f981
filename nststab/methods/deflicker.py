"""Takes the flicker out of a clip that was processed frame by frame, blind to how: strokes stay where they were drawn.

Blending each frame with the warped previous result makes a clip steady, and washes it out: what is averaged are
textures that have little in common. So nothing is averaged here. Each pixel remembers in which frame, and where in it,
its texture was drawn, and the optical flow carries this address, not the colour: a texture is resampled once, however
long it is held. It is drawn anew where its surface was hidden, where the original no longer looks as it did there,
where neighbours come from places torn apart, where ground that a thing uncovered has kept some of its outline, and at
the latest after `lifetime` frames; earlier where the new texture is much the same, in whole patches. Detail that is the
original's own is not held: there the light in which it is shown is averaged. What does average well, that and the
smooth difference of tone between the new frame and what is held, is smoothed along the flow (cf. Bonneel et al. 2015),
also over the frames after it if there is a look-ahead.
"""

import importlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
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
from nststab.warp import not_brought_back

Estimator = Callable[[Tensor, Tensor], Tensor]
Plane = NDArray[np.float32]  # (H, W) or (H, W, C)
T = TypeVar("T")

LOOK_AHEAD = 8
_CELLS = 48  # of the grid on which tone is smoothed, along the longest side
_TONE = 0.1  # share of a frame in the running mean of tone
_FADE = 0.4  # share of a texture that was drawn anew in the first frame: it is faded in
_SAME = 0.1  # share of its variance by which a texture may differ from the new one, and is taken for the same
_PAD = 2  # pixels around each frame in the store, for the bicubic kernel
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
# Where a surface was uncovered: the same, of a longest side of 384, and times what two drawings of a texture differ by.
_STRIPS, _UNLIKE = 0.15, 1.5
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
        moving = _with_flow(frames, self._estimator, self._settings.flow_side)
        steps = _smoothed(_held(moving, self._settings, cv2), self._look_ahead, cv2)
        yield from _in_thread(_Finish(strength, cv2), steps)


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
    """A frame with its guide (H, W, 3) and the flows to the frame before it and from that, None at the first.

    Flows are (h, w, 2) of the size at which they were estimated, in pixels of the frame.
    """

    frame: Frame
    guide: Plane
    backward: Plane | None
    forward: Plane | None


def _with_flow(frames: Iterable[Frame], estimator: Estimator, side: int) -> Iterator[_Moving]:
    """Flows of a longest side of `side` at most: both directions side by side, one frame ahead of the reader."""
    waiting: deque[tuple[Frame, Plane, tuple[Future[Plane], Future[Plane]] | None]] = deque()
    before: Tensor | None = None

    def flow(first: Tensor, second: Tensor, pixel: Plane) -> Plane:
        return _plane(estimator(first, second)) * pixel

    def finished() -> _Moving:
        frame, guide, flows = waiting.popleft()
        backward, forward = (None, None) if flows is None else (one.result() for one in flows)
        return _Moving(frame, guide, backward, forward)

    with ThreadPoolExecutor(2, thread_name_prefix="flow") as pool:
        for frame in frames:
            guide = own_guide(frame.rgb) if frame.content is None else _fitted(frame.content, *frame.rgb.shape[-2:])
            guide = guide.detach().float().cpu()
            height, width = guide.shape[-2:]
            share = min(1.0, side / max(height, width))
            small = _fitted(guide, max(1, round(height * share)), max(1, round(width * share)))
            pixel = np.array([width / small.shape[-1], height / small.shape[-2]], np.float32)
            flows = None
            if before is not None:
                flows = pool.submit(flow, small, before, pixel), pool.submit(flow, before, small, pixel)
            waiting.append((frame, _plane(guide), flows))
            before = small
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
        backward, forward: flows as in `_Moving`.
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
        self._torn, self._strips = _TORN * scale**2, _STRIPS / scale
        self._cell = max(1, round(max(height, width) / _CELLS))
        self._store = _Store(settings.lifetime, height, width, cv2)
        self._number = 0
        self._drawn = np.zeros((height, width), np.float32)  # number of the frame where a texture was drawn
        self._way = np.zeros((height, width, 2), np.float32)  # and how far from here in it
        self._was_own = self._drawn.copy()  # how far it was the original's own there
        self._uncovered = self._drawn.copy()  # 1 where it was drawn as nothing was known of its surface
        # Textures end at different times, in patches, so that a frame never changes as a whole.
        random = np.random.default_rng(0).random((8, 12), np.float32)
        spread = cv2.resize(random, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        self._lifetime = settings.lifetime * (1 - 0.5 * spread)

    def first(self, one: _Moving, picture: Plane) -> _Step:
        self._store.write(0, picture, one.guide)
        self._last = picture
        source = picture if self._alone else one.guide
        own = self._was_own = self._own(picture, source)
        tone = np.zeros((*self._on_grid(own).shape[:2], 3), np.float32)
        return _Step(one.frame, picture, tone, own, source, self._light(picture, source, own), own * 0, None, None)

    def next(self, one: _Moving, picture: Plane) -> _Step:
        assert one.backward is not None
        assert one.forward is not None
        self._number += 1
        trusted = self._carry(one.backward) & self._is_mutual(one.backward, one.forward)
        place = self._store.place(self._number, self._drawn, self._way)
        trusted &= self._looks_as_before(one.guide, self._store.guide(place), trusted) & ~self._is_torn()
        known = _moved(self._cv2, self._last, one.backward, self._cv2.INTER_CUBIC) if self._alone else one.guide
        own, self._last = self._own(picture, known), picture
        if not self._alone:
            trusted &= np.abs(own - self._was_own) < _BEGUN
        # As most around it, or the lines of two renderings lie beside each other in speckles.
        trusted = self._cv2.blur(trusted.astype(np.float32), (self._small, self._small)) > 0.5
        held = self._store.picture(place)
        trust = trusted.astype(np.float32)
        tone = self._tone(picture - held, trust)
        fresh = picture - _resized(self._cv2, tone, self.height, self.width)
        seams = self._seams()
        uncovered = ~trusted | ((self._uncovered > 0.5) & self._is_stained(fresh, held, seams))
        anew = uncovered | self._is_due(fresh, held, seams)
        self._uncovered[anew] = uncovered[anew]
        self._drawn[anew] = self._number
        self._way[anew] = 0
        self._was_own[anew] = own[anew]
        self._store.write(self._number, fresh, one.guide)
        soft = (2 * self._cv2.GaussianBlur(trust, (0, 0), 1.0) - 1).clip(0, 1)
        shown = self._cv2.copyTo(fresh, anew.view(np.uint8), held.copy())
        source, own = (held, own * soft) if self._alone else (one.guide, own)
        light = self._light(picture, source, own)
        return _Step(one.frame, shown, tone, own, source, light, soft, one.backward, one.forward)

    def _carry(self, backward: Plane) -> NDArray[np.bool_]:
        """Moves all addresses along the flow: which are known, and young enough.

        Between four neighbours of one frame an address is interpolated, which is exact for any affine motion; elsewhere
        the nearest is taken, and moved by what is left.
        """
        cv2, last = self._cv2, np.array([self.width - 1, self.height - 1], np.float32)
        here = _places(self.height, self.width)
        x, y = cv2.split(here + _resized(cv2, backward, self.height, self.width))
        inside = (x > -0.5) & (x < self.width - 0.5) & (y > -0.5) & (y < self.height - 0.5)
        there = cv2.merge((x.clip(0, last[0]), y.clip(0, last[1])))
        # of each pixel, whether it and the three right of it, below, and both are of one frame
        block = np.ones(self._drawn.shape, bool)
        block[:, :-1] &= self._drawn[:, :-1] == self._drawn[:, 1:]
        block[:-1] &= (self._drawn[:-1] == self._drawn[1:]) & block[1:]
        one = cv2.remap(block.view(np.uint8), np.floor(there), None, cv2.INTER_NEAREST)
        between = cv2.remap(self._way, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        nearest = cv2.remap(
            cv2.merge((self._way, self._drawn, self._was_own, self._uncovered)), there, None, cv2.INTER_NEAREST
        )
        self._way = cv2.copyTo(between, one, nearest[..., :2].copy()) + (there - here)
        self._drawn, self._was_own, self._uncovered = (nearest[..., n].copy() for n in (2, 3, 4))
        known: NDArray[np.bool_] = inside & (self._number - self._drawn < self._settings.lifetime)
        return known

    def _is_mutual(self, backward: Plane, forward: Plane) -> NDArray[np.bool_]:
        """Where the flows lead there and back again, found at their own size."""
        height, width = backward.shape[:2]
        size = np.array([width / self.width, height / self.height], np.float32)
        back = _moved(self._cv2, forward, backward * size, self._cv2.INTER_LINEAR)
        lost = not_brought_back(_tensor(backward), _tensor(back))[0, 0].numpy()
        mutual = _resized(self._cv2, 1 - lost.astype(np.float32), self.height, self.width)
        found: NDArray[np.bool_] = mutual[..., 0] > 0.5
        return found

    def _looks_as_before(self, guide: Plane, before: Plane, trusted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the original looks as it did where the texture was drawn, `before`, but for the light."""
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
        torn = np.zeros_like(self._drawn)
        for here, before in ((np.s_[reach:], np.s_[:-reach]), (np.s_[:, reach:], np.s_[:, :-reach])):
            apart = self._way[here] - self._way[before]
            same = self._drawn[here] == self._drawn[before]
            torn[here] += same * (apart[..., 0] ** 2 + apart[..., 1] ** 2)
        found: NDArray[np.bool_] = self._cv2.blur(torn, size) > self._torn
        return found

    def _tone(self, difference: Plane, trust: Plane) -> Plane:
        """The smooth part of a difference (H, W, 3) where it is trusted, on the coarse grid (h, w, 3)."""
        grid = self._on_grid(difference * _thrice(self._cv2, trust), trust)
        mean = grid.mean((0, 1))
        grid = self._cv2.GaussianBlur(grid, (0, 0), 2.0).reshape(grid.shape)
        whole = mean[:3] / (mean[3] + 1e-3)  # for cells without anything to be trusted around
        tone: Plane = (grid[..., :3] + 1e-2 * whole) / (grid[..., 3:] + 1e-2)
        return tone

    def _on_grid(self, *planes: Plane) -> Plane:
        """Means (h, w, C) of planes (H, W) or (H, W, 3), side by side, over the cells of the coarse grid."""
        size = max(1, self.width // self._cell), max(1, self.height // self._cell)
        return np.dstack([self._cv2.resize(one, size, interpolation=self._cv2.INTER_AREA) for one in planes])

    def _is_due(self, fresh: Plane, held: Plane, seams: Plane) -> NDArray[np.bool_]:
        """Where a texture has reached its age, or is old enough for how little the new one differs, or is in pieces.

        As most around it: what is drawn anew is drawn in patches, or a picture crumbles into pixels of many frames.
        """
        age = (self._number - self._drawn) / self._lifetime
        size = (self._patch, self._patch)
        difference = self._cv2.blur(_mean(self._cv2, (fresh - held) ** 2), size)
        variance = _variance(self._cv2, fresh, self._cv2.blur(fresh, size), size)
        due: NDArray[np.bool_] = difference / (2 * variance + 2e-4) < np.maximum(age**2, _SAME)
        due |= (age >= 1) | (seams > _SEAMS)
        most: NDArray[np.bool_] = self._cv2.blur(due.astype(np.float32), size) > 0.5
        return most

    def _seams(self) -> Plane:
        """How often textures of different frames lie beside each other around each pixel."""
        seams = np.zeros_like(self._drawn)
        seams[:, 1:] += self._drawn[:, 1:] != self._drawn[:, :-1]
        seams[1:] += self._drawn[1:] != self._drawn[:-1]
        around: Plane = self._cv2.blur(seams, (self._wide, self._wide))
        return around

    def _is_stained(self, fresh: Plane, held: Plane, seams: Plane) -> NDArray[np.bool_]:
        """Where what was uncovered by a thing that moves on lies in strips, or has kept pieces of its outline."""
        small, wide = max(5, self._small), max(9, self._wide)  # fewer pixels are unlike by chance
        difference, size = self._cv2.blur(_mean(self._cv2, (fresh - held) ** 2), (small, small)), (wide, wide)
        variance = _variance(self._cv2, fresh, self._cv2.blur(fresh, size), size)
        stained: NDArray[np.bool_] = (seams > self._strips) | (difference > _UNLIKE * (2 * variance + 2e-3))
        return stained

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
        heavy = _thrice(self._cv2, weight)
        weighted = [heavy * one for one in (picture, source, picture * picture, source * source)]
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
    """The last `count` pictures (H, W, 3) and their guides, side by side, of which any pixels can be read at once."""

    def __init__(self, count: int, height: int, width: int, cv2: Any) -> None:
        self._count, self._height, self._width, self._cv2 = count, height, width, cv2
        self._columns = math.ceil(math.sqrt(count * height / width))
        rows = math.ceil(count / self._columns)
        self._tall, self._broad = height + 2 * _PAD, width + 2 * _PAD
        if max(rows * self._tall, self._columns * self._broad) >= 32767:  # OpenCV's remap
            raise NststabError(f"{width}x{height} pixels are too many for a lifetime of {count} frames")
        shape = (rows * self._tall, self._columns * self._broad, 3)
        self._pictures, self._guides = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)

    def _corner(self, number: int) -> tuple[int, int]:
        """Column and row of the first pixel of a picture."""
        row, column = divmod(number % self._count, self._columns)
        return column * self._broad + _PAD, row * self._tall + _PAD

    def write(self, number: int, picture: Plane, guide: Plane) -> None:
        left, top = self._corner(number)
        levels = (picture + np.float32(0.5)).clip(0, 2) * np.float32(_RANGE)
        for sheet, exact in ((self._pictures, levels), (self._guides, guide * 255)):
            whole = np.rint(exact).astype(sheet.dtype)
            place = sheet[top - _PAD : top - _PAD + self._tall, left - _PAD : left - _PAD + self._broad]
            place[...] = self._cv2.copyMakeBorder(whole, *(_PAD,) * 4, self._cv2.BORDER_REPLICATE)

    def place(self, number: int, drawn: Plane, way: Plane) -> Plane:
        """Where the pixels lie that are `way` (H, W, 2) from their own place in the pictures `drawn` (H, W).

        These are the last `count` before `number`; older ones are taken for them.
        """
        age = (number - drawn).clip(0, self._count).astype(np.uint8)
        corners = np.zeros((256, 2), np.float32)
        corners[: self._count + 1] = [self._corner(number - one) for one in range(self._count + 1)]
        last = np.array([self._width - 1, self._height - 1], np.float32)
        there = (way + _places(self._height, self._width)).clip(0, last)
        place: Plane = there + self._cv2.merge([self._cv2.LUT(age, one) for one in corners.T.copy()])
        return place

    def picture(self, place: Plane) -> Plane:
        """What lies there of the pictures (H, W, 3): read once, a texture loses little by the bicubic kernel."""
        levels = self._cv2.remap(self._pictures, place, None, self._cv2.INTER_CUBIC)
        picture: Plane = levels * np.float32(1 / _RANGE) - np.float32(0.5)
        return picture

    def guide(self, place: Plane) -> Plane:
        """What lies there of the guides (H, W, 3)."""
        guide: Plane = self._cv2.remap(self._guides, place, None, self._cv2.INTER_LINEAR) * np.float32(1 / 255)
        return guide


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
            past = here + (1 - _TONE) * _moved(
                cv2, past, _coarse(cv2, step.backward, here, step.picture), cv2.INTER_LINEAR
            )
            weight = 1 + (1 - _TONE) * weight
        later, later_weight = np.zeros_like(past), 0.0
        for after in reversed(waiting):
            assert after.forward is not None
            gathered = np.dstack([after.tone, after.light]) + (1 - _TONE) * later
            later = _moved(cv2, gathered, _coarse(cv2, after.forward, here, step.picture), cv2.INTER_LINEAR)
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
        target += _thrice(self._cv2, step.own) * (self._relit(step, light) - target)
        picture = target
        if self._before is not None and step.backward is not None:
            # in what fades over some frames, the loss of a faster kernel would add up
            moved = _moved(self._cv2, self._before, step.backward, self._cv2.INTER_LANCZOS4)
            fading = (1 - _FADE) * step.trust * (1 - step.own)
            picture = target + _thrice(self._cv2, fading) * (moved - target)
        self._before = picture
        share = strength_at(self._strength, step.frame)
        if not share:
            return step.frame
        rgb = _tensor(_contrasted(self._cv2, picture, target)).to(step.frame.rgb)
        return step.frame.with_rgb(torch.lerp(step.frame.rgb, rgb, share).clamp_(0, 1))

    def _relit(self, step: _Step, light: Plane) -> Plane:
        """The frame in steady light where it shows its source, and in it what the source does not explain.

        There is little of that where the detail is the original's own, so here its mean along the flow is good enough.
        """
        contrast, brightness, found_contrast, found_brightness = (
            _resized(self._cv2, one[..., part] / (one[..., 6:] + 1e-6), *step.picture.shape[:2])
            for one in (light, step.light)
            for part in (np.s_[:3], np.s_[3:6])
        )
        rest = _plane(step.frame.rgb) - found_contrast * step.source - found_brightness
        if self._rest is not None and step.backward is not None and step.frame.content is not None:
            moved = _moved(self._cv2, self._rest, step.backward, self._cv2.INTER_LINEAR)
            rest += _thrice(self._cv2, _HELD_REST * step.trust) * (moved - rest)
        self._rest = rest
        lit: Plane = contrast * step.source + brightness + rest
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


def _coarse(cv2: Any, flow: Plane, grid: Plane, picture: Plane) -> Plane:
    """A flow (h, w, 2) in pixels of `picture`, of the size of `grid` and in its cells."""
    (height, width), (tall, broad) = grid.shape[:2], picture.shape[:2]
    small = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, 2)
    scaled: Plane = small * np.array([width / broad, height / tall], np.float32)
    return scaled


def _moved(cv2: Any, picture: Plane, flow: Plane, interpolation: int) -> Plane:
    """`picture` (H, W, C) sampled at x + flow(x), its border replicated; the flow may be of another size."""
    height, width = picture.shape[:2]
    last = np.array([width - 1, height - 1], np.float32)
    there = (_places(height, width) + _resized(cv2, flow, height, width)).clip(0, last)
    moved: Plane = cv2.remap(picture, there, None, interpolation, borderMode=cv2.BORDER_REPLICATE)
    return moved


@lru_cache(4)
def _places(height: int, width: int) -> Plane:
    """Column and row of each pixel (H, W, 2)."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack((columns, rows)).astype(np.float32)


def _contrasted(cv2: Any, picture: Plane, target: Plane) -> Plane:
    """`picture` (H, W, 3) with the local contrast of `target`, which fading in has taken: two textures are mixed then.

    The recursion goes on from the picture without it, or errors of contrast would grow.
    """
    size = (_odd(9 * max(picture.shape) / 384),) * 2

    def spread(one: Plane) -> tuple[Plane, Plane]:
        mean = cv2.blur(one, size)
        return mean, _variance(cv2, one, mean, size)

    (mean, own), (_, wanted) = spread(picture), spread(target)
    gain = np.sqrt((wanted + 1e-4) / (own + 1e-4)).clip(0.5, 2)
    contrasted: Plane = mean + _thrice(cv2, gain) * (picture - mean)
    return contrasted


def _mean(cv2: Any, picture: Plane) -> Plane:
    """The mean (H, W) of the channels of (H, W, 3)."""
    mean: Plane = cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32)).reshape(picture.shape[:2])
    return mean


def _variance(cv2: Any, picture: Plane, mean: Plane, size: tuple[int, int]) -> Plane:
    """The variance (H, W), in the mean of the channels, of (H, W, 3) around each pixel, where it has that `mean`."""
    variance: Plane = (cv2.blur(_mean(cv2, picture * picture), size) - _mean(cv2, mean * mean)).clip(0)
    return variance


def _thrice(cv2: Any, plane: Plane) -> Plane:
    """(H, W) as (H, W, 3), by which pictures are multiplied faster than by a broadcast plane."""
    thrice: Plane = cv2.merge((plane,) * 3)
    return thrice


def _resized(cv2: Any, plane: Plane, height: int, width: int) -> Plane:
    """(h, w) or (h, w, C) in another size (H, W, C)."""
    if plane.shape[:2] != (height, width):
        plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
    return plane.reshape(height, width, -1)


def _plane(tensor: Tensor) -> Plane:
    """(1, C, H, W) as a contiguous (H, W, C) of float32."""
    plane: Plane = tensor[0].detach().float().cpu().permute(1, 2, 0).contiguous().numpy()
    return plane


def _tensor(plane: Plane) -> Tensor:
    """What `_plane` was given."""
    return torch.from_numpy(plane).permute(2, 0, 1).contiguous()[None]


def _odd(size: float) -> int:
    return 2 * max(1, round((size - 1) / 2)) + 1
