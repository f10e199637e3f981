"""Telling moments of a comparison: the least and the most stable patches, and where the flow is trusted and wrong."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.colors import flow_colors
from nststab.flow.pairs import FlowPair
from nststab.metrics import Patches
from nststab.video.images import from_uint8, to_uint8
from nststab.warp import warp

T = TypeVar("T")
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def cut(frame: Tensor, box: Box) -> Tensor:
    """The box out of a frame (1, C, H, W), as a copy: a view would keep the frame alive."""
    left, top, width, height = box
    return frame[..., top : top + height, left : left + width].clone()


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return all(
        first[axis] < second[axis] + second[axis + 2] and second[axis] < first[axis] + first[axis + 2]
        for axis in (0, 1)
    )


def window_means(plane: Tensor, side: int) -> Tensor:
    """Mean over each window that lies in a plane (1, 1, H, W), by its top left corner."""
    return F.avg_pool2d(F.avg_pool2d(plane, (side, 1), 1), (1, side), 1)  # (1, 1, H - side + 1, W - side + 1)


HALF_A_SECOND = 12
"""Frames, at the usual rates: what is closer shows the same event."""


class Moment(NamedTuple):
    """When and where: the index of a frame, and a box in it."""

    frame: int
    box: Box


class Entry(NamedTuple, Generic[T]):
    """A moment on a short list."""

    score: tuple[float, ...]
    moment: Moment
    item: T


class ShortList(Generic[T]):
    """The best moments of a stream, no two of them near each other, with what was kept of each.

    `near` says which moments show the same thing. At most `limit` are held. One that a better one drove out does not
    come back when that is driven out in its turn, so let the limit be some more than are wanted in the end.
    """

    def __init__(self, limit: int, near: Callable[[Moment, Moment], bool]) -> None:
        self._limit = limit
        self._near = near
        self._held: list[Entry[T]] = []  # the best first

    def offer(self, score: tuple[float, ...], moment: Moment, make: Callable[[], T]) -> None:
        """Take a moment, its item made only then, where it is better than all that are near; of equals the first stays.

        A better score is a greater one.
        """
        rivals = [entry for entry in self._held if entry.score >= score]
        if len(rivals) >= self._limit or any(self._near(entry.moment, moment) for entry in rivals):
            return
        worse = [entry for entry in self._held[len(rivals) :] if not self._near(entry.moment, moment)]
        self._held = [*rivals, Entry(score, moment, make()), *worse][: self._limit]

    def best(self) -> list[Entry[T]]:
        """What is held, the very best first."""
        return list(self._held)

    def resume(self, held: list[Entry[T]]) -> None:
        """Go on with what another one held."""
        self._held = held


# Measured on bmx-trees and soapbox of DAVIS at 432 pixels, 10 patches a pair. Where the patches themselves have a lower
# SSIM, half of those of bmx-trees and one in twenty of soapbox, most are smeared by motion or have no counterpart, and
# all methods fail alike. Those of a lower deviation, a quarter of soapbox, are asphalt and shadow.
CORRESPONDING = 0.7
STRUCTURED = 16 / 255


@dataclass(frozen=True)
class CropCell:
    """What a clip shows of the patch in both frames, (1, 3, size, size), and how alike the two are."""

    previous: Tensor
    current: Tensor
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Crop:
    """Corresponding patches of two adjacent frames.

    Attributes:
        kind: the least stable or the most stable.
        frame: the index of the current frame.
        boxes: of the patch in the previous and in the current frame, in measured pixels.
        cells: of each clip, the input first.
    """

    kind: Literal["least", "most"]
    frame: int
    boxes: tuple[Box, Box]
    cells: list[CropCell]

    @property
    def size(self) -> int:
        """The side of the patch in measured pixels."""
        return self.boxes[0][2]


class CropFinder:
    """Looks for the least and the most stable patches while pairs of frames pass by.

    A patch is as stable as the mean SSIM of its stylized clips. Patches that look alike in the input come before those
    that do not, where nothing can be said of a method; as most stable those with structure before flat ones. No two are
    of the same frame, or of the same place within half a second. Of four times as many as are wanted the pixels of the
    patches are held, and nothing else.
    """

    def __init__(self, least: int = 2, most: int = 1) -> None:
        self._wanted = least, most
        self._least = ShortList[Crop](4 * least, _near)
        self._most = ShortList[Crop](4 * (least + most), _near)

    def update(
        self,
        frame: int,
        previous: Sequence[Tensor],
        current: Sequence[Tensor],
        patches: Patches,
        scores: Sequence[tuple[list[float], list[float]]],
    ) -> None:
        """Take the pair of frames that ends with number `frame`, of all clips, the input's first.

        previous, current: the frames (1, 3, H, W). scores: of each clip the PSNRs and the SSIMs of the patches.
        Raises ValueError where there is no clip beside the input, or they do not fit each other.
        """
        if not 2 <= len(previous) == len(current) == len(scores):
            raise NststabError(
                "expected the input and a clip or more, with scores of each, got "
                f"{len(previous)} and {len(current)} frames and {len(scores)} scores"
            )
        for k, corners in enumerate(zip(patches.previous.tolist(), patches.current.tolist(), strict=True)):
            before, after = ((x, y, patches.size, patches.size) for y, x in corners)
            figures = [(psnrs[k], ssims[k]) for psnrs, ssims in scores]
            self._offer(frame, (before, after), previous, current, figures)

    def state(self) -> Any:
        """What it has found, for `resume`; it holds `KEPT`."""
        return [self._least.best(), self._most.best()]

    def resume(self, state: Any) -> None:
        """Go on with what another one had found."""
        self._least.resume(state[0])
        self._most.resume(state[1])

    def result(self) -> list[Crop]:
        """The least stable, the worst first, then the most stable, the best first; fewer where there are no more."""
        least, most = self._wanted
        worst = self._least.best()[:least]
        # nothing is shown as both, of however few patches there are
        best = [one for one in self._most.best() if not any(_near(one.moment, other.moment) for other in worst)]
        return [entry.item for entry in [*worst, *best[:most]]]

    def _offer(
        self,
        frame: int,
        boxes: tuple[Box, Box],
        previous: Sequence[Tensor],
        current: Sequence[Tensor],
        figures: Sequence[tuple[float, float]],
    ) -> None:
        own, *made = (ssim for _, ssim in figures)
        if any(math.isnan(value) for pair in figures for value in pair):
            return
        stable = math.fsum(made) / len(made)
        corresponds = own >= CORRESPONDING
        structured = float(cut(previous[0], boxes[0]).mean(1).std()) >= STRUCTURED

        def crop(kind: Literal["least", "most"]) -> Crop:
            pairs = zip(previous, current, figures, strict=True)
            return Crop(kind, frame, boxes, [CropCell(cut(a, boxes[0]), cut(b, boxes[1]), *c) for a, b, c in pairs])

        moment = Moment(frame, boxes[1])
        self._least.offer((corresponds, -stable), moment, lambda: crop("least"))
        self._most.offer((corresponds and structured, corresponds, stable), moment, lambda: crop("most"))


KEPT = (Entry, Moment, Crop, CropCell)
"""The classes that the states of `CropFinder` and `FailureFinder` hold."""


def _near(first: Moment, second: Moment) -> bool:
    apart = abs(first.frame - second.frame)
    return apart == 0 or (apart < HALF_A_SECOND and overlap(first.box, second.box))


# Measured with dis on eight sequences of DAVIS at 432 pixels, and looked at. The worst window of a pair of frames
# misses by 9 to 19 levels (median), most of it fine texture that bilinear sampling blurs. Whatever is above 20 is a
# failure: turning wheels, a rider behind a tree, hands and legs that moved further than the flow did, wire netting.
LEAST_ERROR = 20 / 255
_SIDE = 1 / 16  # of the frame's longest side: 27 pixels at 432
_TRUSTED = 0.75  # share of the window

_COUNT = 2
_AROUND = 5  # times the box: a small thing is lost in a whole frame


@dataclass(frozen=True)
class Failure:
    """A place where the mask trusts the backward flow and the input itself, warped by it, misses the current frame.

    Attributes:
        frame: the index of the current frame.
        box: where it is in this frame, in measured pixels.
        error: mean absolute difference over the trusted pixels of the box, in levels of 255, less what is common to
            all trusted pixels of the frame, such as a change of the light.
        region: the part of the frame around it that the pictures show, H x W pixels.
        flow: the backward flow in its colours, (1, 3, H, W).
        mask: the trusted pixels, (1, 1, H, W).
        previous, current: of each clip, the input first, the two frames (1, 3, H, W), rounded to 8 bits.
    """

    frame: int
    box: Box
    error: float
    region: Box
    flow: Tensor
    mask: Tensor
    previous: list[Tensor]
    current: list[Tensor]


class FailureFinder:
    """Looks for the worst failures of the flow while pairs of frames pass by, at most two, half a second apart.

    What the mask gives up, such as a motion too large for the flow, is no failure: there the mask does its work. Parts
    of four pairs of frames are held, as bytes, and nothing else.
    """

    def __init__(self) -> None:
        self._worst = ShortList[tuple[Box, list[Tensor]]](
            2 * _COUNT, lambda a, b: abs(a.frame - b.frame) < HALF_A_SECOND
        )

    def update(self, frame: int, previous: Sequence[Tensor], current: Sequence[Tensor], flows: FlowPair) -> None:
        """Take the pair of frames (1, 3, H, W) that ends with number `frame`, of all clips, the input's first."""
        mask = flows.trusted
        found = _worst_window(previous[0], current[0], flows.backward, mask)
        if found is None or found[0] <= LEAST_ERROR:
            return
        error, box = found

        def pictures() -> tuple[Box, list[Tensor]]:
            region = _around(box, *mask.shape[-2:])
            whole = (flow_colors(flows.backward), mask, *previous, *current)
            return region, [torch.from_numpy(to_uint8(cut(picture, region))) for picture in whole]

        self._worst.offer((error,), Moment(frame, box), pictures)

    def state(self) -> Any:
        """What it has found, for `resume`; it holds `KEPT`."""
        return self._worst.best()

    def resume(self, state: Any) -> None:
        """Go on with what another one had found."""
        self._worst.resume(state)

    def result(self) -> list[Failure]:
        """The worst first; none where the flow never fails."""
        return [_failure(moment, error, *held) for (error,), moment, held in self._worst.best()[:_COUNT]]


def _failure(moment: Moment, error: float, region: Box, pictures: Sequence[Tensor]) -> Failure:
    flow, mask, *frames = (from_uint8(pixels.numpy()) for pixels in pictures)
    half = len(frames) // 2
    return Failure(moment.frame, moment.box, 255 * error, region, flow, mask, frames[:half], frames[half:])


def _around(box: Box, height: int, width: int) -> Box:
    """A part of the frame, of its shape, that is so much larger than the box and holds it."""
    left, top, wide, high = box
    share = min(1.0, _AROUND * max(wide / width, high / height))
    across, down = round(share * width), round(share * height)
    x = min(max(0, left + wide // 2 - across // 2), width - across)
    y = min(max(0, top + high // 2 - down // 2), height - down)
    return x, y, across, down


def _worst_window(previous: Tensor, current: Tensor, backward: Tensor, mask: Tensor) -> tuple[float, Box] | None:
    """The mean error over the trusted pixels of the window where it is greatest; None where none is trusted enough."""
    height, width = current.shape[-2:]
    side = max(1, round(_SIDE * max(height, width)))
    trusted = mask > 0
    if side > min(height, width) or not trusted.any():
        return None
    miss = current - warp(previous, backward)
    common = torch.stack([channel[trusted[0, 0]].median() for channel in miss[0]]).view(1, 3, 1, 1)
    error = (miss - common).abs().mean(1, keepdim=True) * trusted
    share = window_means(mask, side)
    means = torch.where(share >= _TRUSTED, window_means(error, side) / share, -1)  # (1, 1, H - side + 1, W - side + 1)
    top, left = divmod(int(means.argmax()), means.shape[-1])
    return float(means.max()), (left, top, side, side)
