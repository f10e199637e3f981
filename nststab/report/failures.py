"""Where flow is trusted and wrong, and what methods that follow it make of that (Gupta et al. 2017, Figure 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nststab.flow.colors import flow_colors
from nststab.flow.pairs import FlowPair
from nststab.report.moments import HALF_A_SECOND, Box, Moment, ShortList, cut, window_means
from nststab.video.images import from_uint8, to_uint8
from nststab.warp import warp

# Measured with dis on eight sequences of DAVIS at 432 pixels, and looked at. The worst window of a pair of frames
# misses by 9 to 19 levels (median), most of it fine texture that bilinear sampling blurs. Whatever is above 20 is a
# failure: turning wheels, a rider behind a tree, hands and legs that moved further than the flow did, wire netting.
LEAST_ERROR = 20 / 255
_SIDE = 1 / 16  # of the frame's longest side: 27 pixels at 432
_TRUSTED = 0.75  # share of the window

_COUNT = 2
_AROUND = 5  # times the box: a small thing is lost in a whole frame

_Pixels = NDArray[np.uint8]


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
        self._worst = ShortList[tuple[Box, list[_Pixels]]](
            2 * _COUNT, lambda a, b: abs(a.frame - b.frame) < HALF_A_SECOND
        )

    def update(self, frame: int, previous: Sequence[Tensor], current: Sequence[Tensor], flows: FlowPair) -> None:
        """Take the pair of frames (1, 3, H, W) that ends with number `frame`, of all clips, the input's first."""
        mask = flows.trusted
        found = _worst_window(previous[0], current[0], flows.backward, mask)
        if found is None or found[0] <= LEAST_ERROR:
            return
        error, box = found

        def pictures() -> tuple[Box, list[_Pixels]]:
            region = _around(box, *mask.shape[-2:])
            whole = (flow_colors(flows.backward), mask, *previous, *current)
            return region, [to_uint8(cut(picture, region)) for picture in whole]

        self._worst.offer((error,), Moment(frame, box), pictures)

    def result(self) -> list[Failure]:
        """The worst first; none where the flow never fails."""
        return [_failure(moment, error, *held) for (error,), moment, held in self._worst.best()[:_COUNT]]


def _failure(moment: Moment, error: float, region: Box, pictures: Sequence[_Pixels]) -> Failure:
    flow, mask, *frames = map(from_uint8, pictures)
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
