"""Something is seen, hidden, and seen again: does a clip still paint it the same (Gupta et al. 2017, Figure 7)?"""

import functools
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import Estimator
from nststab.report.moments import HALF_A_SECOND, Box, cut
from nststab.video.images import resize
from nststab.warp import disoccluded, leaves_frame, reliability, warp

# Measured with dis on ten sequences of DAVIS, 50 to 100 frames each: 4 to 5 s on one core, for at most 4 flows in each
# of 128 triples of frames. What was found was looked at and is what it should be: a painted wall behind the rider of
# bmx-trees, a house behind the jumper of parkour, spectators behind the dancer of dance-twirl, sand between the legs of
# camel. In kite-surf, car-roundabout, blackswan and goat nothing is found.
SEARCHED_SIDE = 256
"""Frames are searched no larger: flow takes a third of the time that it takes at 432 pixels."""
GAPS = (2, 4, 8, 12)
"""Frames between one that is hidden in and those that it is seen in: together up to about a second."""
MOST_PLACES = 32
"""At so many frames of a clip, evenly spread, something is searched that is hidden there."""

_FULL_TRUST = 0.999  # of a mask in [0, 1], whose smoothing rounds
_WINDOW = 5  # pixels, over which differences are averaged: noise and the blur of warping are not told from a change
_ALIKE, _DIFFERENT = 10 / 255, 30 / 255
_SMALLEST, _LARGEST = 0.003, 0.3  # shares of the frame
_MOVING = 0.5  # pixels a frame
_FOLLOWED = 0.1  # share of the frame, below which nothing is known of the camera
_HELD = 12  # candidates a clip
_ROUNDS, _FITTING = 4, 0.7  # of a fit, each to the share of the pixels that the one before fitted best
_MARGIN, _LEAST_CUT = 2.0, 0.4  # a picture's side, by that of the box, and by the frame's


@dataclass(frozen=True)
class Occlusion:
    """What is seen in a first frame, hidden in a second, and seen again in a third.

    Attributes:
        frames: the indices of the three.
        box: where it is in the third.
        pictures: of each clip, the input first, the box and what is around it in the three frames: the same place of
            the scene, where the camera moves too.
        changes: of each clip, the mean absolute difference of what was hidden between the third frame and the first,
            warped onto it, in levels of 255.
    """

    frames: tuple[int, int, int]
    box: Box
    pictures: list[tuple[Tensor, Tensor, Tensor]]
    changes: list[float]


class _Candidate(NamedTuple):
    """Searched pixels (1, 1, h, w) of the third frame that are hidden in the second, and where they were there."""

    frames: tuple[int, int, int]
    blob: Tensor
    expected: Tensor  # (1, 2, h, w), the flow to the second frame of what is not seen in it
    score: float


def find_occlusions(
    clips: Sequence[Sequence[Tensor]], shots: Sequence[int], flow: Estimator, count: int = 1
) -> list[Occlusion]:
    """The clearest occlusions of a clip, at most `count`, half a second apart; the best first.

    For frames evenly before and after another, flow tells what is seen in both and not between them. The larger it is,
    the more the input differs where it is hidden, and the less where it is seen, the better. What hides it has to move
    there at that moment: else it could as well be the background of a thing that went away and came back.

    clips: of each the frames (1, 3, H, W), which may be read when they are asked for; the first is the input, which
    alone decides. shots: the first frame of each. flow: an estimator, for it gets smaller frames than those given.
    Raises ValueError where the clips differ in length.
    """
    lengths = [len(clip) for clip in clips]
    if len(set(lengths)) != 1:
        raise NststabError(f"expected clips of one length, got {lengths} frames")

    @functools.lru_cache(maxsize=2 * max(GAPS) + 2)
    def small(index: int) -> Tensor:
        frame = clips[0][index].cpu()
        return resize(frame, min(SEARCHED_SIDE, max(frame.shape[-2:])))

    candidates = (_search(frames, small, flow) for frames in _triples(lengths[0], shots))
    found: list[Occlusion] = []
    for candidate in heapq.nlargest(_HELD, filter(None, candidates), key=lambda one: one.score):
        if len(found) == count:
            break
        near = any(abs(candidate.frames[1] - other.frames[1]) < HALF_A_SECOND for other in found)
        if not near and _covered_by_motion(candidate, small, flow):
            occlusion = _measure(candidate, clips, flow)
            found += [] if occlusion is None else [occlusion]
    return found


def _triples(length: int, shots: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Frames before, in and after which something may be hidden, within a shot, in the order of the second."""
    places = min(length, MOST_PLACES)
    for place in range(places):
        middle = (2 * place + 1) * length // (2 * places)
        start = max((shot for shot in shots if shot <= middle), default=0)
        end = min((shot for shot in shots if shot > middle), default=length)
        yield from (
            (middle - gap, middle, middle + gap) for gap in GAPS if start <= middle - gap and middle + gap < end
        )


def _search(frames: tuple[int, int, int], small: Callable[[int], Tensor], flow: Estimator) -> _Candidate | None:
    """What of the third frame is found in the first, but not in the second, where something else is in its place."""
    before, between, after = map(small, frames)
    to_first, back = flow(after, before), flow(before, after)
    miss = _difference(after, warp(before, to_first))
    in_first = (reliability(to_first, back) > _FULL_TRUST) & (miss < _ALIKE)
    if in_first.float().mean() < _FOLLOWED:
        return None
    to_second, back = flow(after, between), flow(between, after)
    # a pixel is not hidden because things move apart beside it, as reliability has it
    in_second = ~disoccluded(to_second, back) & (_difference(after, warp(between, to_second)) < _ALIKE)
    if (in_first & ~in_second).float().mean() < _SMALLEST:
        return None
    known = in_first & in_second & (reliability(to_second, back) > _FULL_TRUST)
    if known.float().mean() < _FOLLOWED:
        return None
    expected = _extrapolate(to_second, known, to_first)
    contrast = _difference(after, warp(between, expected))
    hidden = ~in_second & ~leaves_frame(expected) & (contrast > _DIFFERENT)
    blob, score = _best_blob(in_first & hidden, contrast - miss)
    return None if blob is None else _Candidate(frames, blob, expected, score)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    half = _WINDOW // 2
    plane = (first - second).abs().mean(1, keepdim=True)
    return F.avg_pool2d(F.pad(plane, (half, half, half, half), mode="replicate"), _WINDOW, 1)


def _extrapolate(way: Tensor, known: Tensor, guide: Tensor) -> Tensor:
    """A flow (1, 2, H, W) where it is not `known` too: the plane through place and `guide`, another flow, that fits.

    The guide says how far away a thing is, so the whole scene need not move as one. What fits worst is left out.
    """
    height, width = way.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    terms = torch.cat([torch.stack([torch.ones_like(x), x, y]), guide[0] / max(height, width)])  # (5, H, W)
    terms, goal = terms.flatten(1).T.double(), way[0].flatten(1).T.double()
    candidates = used = known.flatten()
    fit = goal.new_zeros(5, 2)
    for _ in range(_ROUNDS):
        chosen = terms[used]
        normal = chosen.T @ chosen + 1e-9 * len(chosen) * torch.eye(
            5, dtype=torch.float64
        )  # a still guide is a term of 0
        fit = torch.linalg.solve(normal, chosen.T @ goal[used])
        error = (terms @ fit - goal).norm(dim=1)
        used = candidates & (error <= error[candidates].quantile(_FITTING))
    return (terms @ fit).T.view(1, 2, height, width).to(way)


def _best_blob(where: Tensor, gain: Tensor) -> tuple[Tensor | None, float]:
    """Of the connected parts of sensible size the one with the largest sum of `gain`, in frames, or none."""
    labels, parts = scipy.ndimage.label(where[0, 0].numpy())
    numbers = np.arange(1, parts + 1)
    shares = scipy.ndimage.sum_labels(np.ones(labels.shape), labels, numbers) / labels.size
    sums = scipy.ndimage.sum_labels(gain[0, 0].double().numpy(), labels, numbers) / labels.size
    sums[(shares < _SMALLEST) | (shares > _LARGEST)] = 0
    if not parts or sums.max() <= 0:
        return None, 0.0
    return torch.from_numpy(labels == 1 + sums.argmax())[None, None], float(sums.max())


def _covered_by_motion(candidate: _Candidate, small: Callable[[int], Tensor], flow: Estimator) -> bool:
    """Whether what is in its place moves otherwise; else the thing itself went and came back, as a waving arm does."""
    first, second, _ = candidate.frames
    there = warp(flow(small(second), small(second + 1)), candidate.expected)  # of what is there, a frame on
    own = -candidate.expected / (second - first)
    speed = (there - own).square().sum(1, keepdim=True).sqrt()
    return float(speed[candidate.blob].median()) > _MOVING


def _measure(candidate: _Candidate, clips: Sequence[Sequence[Tensor]], flow: Estimator) -> Occlusion | None:
    """The occlusion at the clips' own size; None where the flow there does not bear it out."""
    before, after = clips[0][candidate.frames[0]].cpu(), clips[0][candidate.frames[2]].cpu()
    size = after.shape[-2:]
    blob = F.interpolate(candidate.blob.float(), size) > 0
    backward = flow(after, before)
    counted = blob & (reliability(backward, flow(before, after)) > _FULL_TRUST)
    if not counted.any():
        return None
    rows, columns = (blob[0, 0].any(axis).nonzero().flatten() for axis in (1, 0))
    box = int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1
    scale = size[1] / candidate.blob.shape[-1]
    shifts = (
        _median(backward, counted),
        [scale * part for part in _median(candidate.expected, candidate.blob)],
        (0.0, 0.0),
    )
    boxes = [_around(box, shift, size) for shift in shifts]
    pictures, changes = [], []
    for clip in clips:
        first, second, third = (clip[index].cpu() for index in candidate.frames)
        pictures.append((cut(first, boxes[0]), cut(second, boxes[1]), cut(third, boxes[2])))
        change = (third - warp(first, backward)).abs().mean(1, keepdim=True)
        changes.append(255 * float(change[counted].double().mean()))
    return Occlusion(candidate.frames, box, pictures, changes)


def _median(flow: Tensor, where: Tensor) -> list[float]:
    return [float(part[where[0, 0]].median()) for part in flow[0]]


def _around(box: Box, shift: Sequence[float], size: Sequence[int]) -> Box:
    """A cut of the frame's shape around a box that is moved, inside the frame: it has one size wherever the box is."""
    height, width = size
    share = min(1.0, max(_LEAST_CUT, _MARGIN * box[2] / width, _MARGIN * box[3] / height))
    sides = round(share * width), round(share * height)
    corner = [
        min(
            max(0, round(box[axis] + shift[axis] + (box[axis + 2] - sides[axis]) / 2)),
            (width, height)[axis] - sides[axis],
        )
        for axis in (0, 1)
    ]
    return corner[0], corner[1], sides[0], sides[1]
