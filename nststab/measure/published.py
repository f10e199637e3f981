"""Measures of temporal consistency as other authors defined them, each on two frames of a clip and its original's flow.

Each function takes a `FramePair` of tensors and may be used alone; where one departs from its authors' program it says
so. A clip's figure is the mean over its pairs: of all frames at that distance, or of each `stride`-th only. Flow is
whatever the caller gives; the authors' own estimators (FlowNet2, RAFT) are named with them, and figures with another
flow are not theirs.
"""

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.warp import squared_norm, warp

SHORT, LONG = 1, 10
"""Frames between the two of a pair, in what later papers call short-range and long-range consistency."""

_ALEXNET = "alexnet-owt-7be5be79.pth"


class FramePair(NamedTuple):
    """Two frames of a clip, those of its original, and the original's flow between them.

    Frames are (1, 3, H, W) in [0, 1]; flows (1, 2, H, W) in pixels, x then y. `forward` maps a pixel of the first frame
    to the second, `backward` the second to the first; `trusted` (1, 1, H, W) is 1 where `backward` holds.
    """

    first: Tensor
    second: Tensor
    content_first: Tensor
    content_second: Tensor
    forward: Tensor
    backward: Tensor
    trusted: Tensor


PairFunction = Callable[[FramePair], float]
"""What is measured of a pair; NaN where nothing can be, which is left out of the mean."""


@dataclass(frozen=True)
class PairMeasure:
    """A measure by name: its function, the distance of its pairs, of which each `stride`-th counts, and its source."""

    name: str
    function: PairFunction
    gap: int = 1
    stride: int = 1
    source: str = "your own"
    unit: str = "1"


def lai2018_visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Where the first frame's pixels are visible in the second, by Lai et al. 2018: float (1, 1, H, W), 0 or 1.

    |w + w'|² > 0.01 (|w|² + |w'|²) + 0.5 is occluded, w' the opposite flow where w arrives; |∇u|² + |∇v|² > 0.01 |w|² +
    0.002 is a motion boundary, with differences to the next pixel, which are 0 in the last column and row. As in their
    program: no rule for what leaves the frame, and no smoothing, unlike Ruder et al. 2016, from whom they took both.
    """
    back = warp(backward, forward)
    across = F.pad(forward[..., :-1] - forward[..., 1:], (0, 1))
    down = F.pad(forward[..., :-1, :] - forward[..., 1:, :], (0, 0, 0, 1))

    occluded = squared_norm(forward + back) > 0.01 * (squared_norm(forward) + squared_norm(back)) + 0.5
    boundary = squared_norm(across) + squared_norm(down) > 0.01 * squared_norm(forward) + 0.002
    visible: Tensor = ~(occluded | boundary)
    return visible.float()


def lai2018_warping_error(pair: FramePair) -> float:
    """The warping error of Lai et al. 2018: the second frame, warped back, against the first, where that is visible.

    Σ M (warp(second) - first)² / Σ M over pixels and channels, of a range of 1; 0 where nothing is visible. As their
    program has it, which counts a pixel three times in the denominator: a third of their paper's formula.
    """
    visible = lai2018_visible(pair.forward, pair.backward)
    error = (warp(pair.second, pair.forward) - pair.first).square() * visible
    return float(error.sum() / (3 * visible.sum())) if float(visible.sum()) else 0.0


def chen2023_visible(forward: Tensor, backward: Tensor) -> Tensor:
    """Where following the flow there and back ends within a pixel of its start, by Chen et al. 2023: (1, 1, H, W)."""
    off = (forward + _sampled(backward, forward)).norm(dim=1, keepdim=True)
    visible: Tensor = off <= 1
    return visible.float()


def chen2023_warped_mse(pair: FramePair) -> float:
    """The warping error of Chen et al. 2023: Σ M |warp(second) - first|² / Σ M, |·|² the sum over R, G and B.

    0 where nothing is visible, and zero beyond the frame. Pairs at a distance of ten are each tenth, as in their first
    program (4866f62 of advances_3d_neural_stylization; later ones take all). Their `warp` scales to corners what
    `grid_sample` reads by centres, so it samples up to half a pixel off, and a still frame has an error; here it has
    none, and figures do not compare with theirs.
    """
    visible = chen2023_visible(pair.forward, pair.backward)
    error = (_sampled(pair.second, pair.forward) - pair.first).square() * visible
    return float(error.sum() / visible.sum()) if float(visible.sum()) else 0.0


def liu2024_warped_rmse(pair: FramePair) -> float:
    """The masked RMSE of warped frames that Liu et al. 2023 and 2024 (StyleRF, StyleGaussian) give beside LPIPS.

    The root of the mean over visible pixels and channels. They publish no program, and warp by softmax splatting;
    here pairs, mask and warp are those of Chen et al. 2023.
    """
    return math.sqrt(chen2023_warped_mse(pair) / 3)


def frame_difference(pair: FramePair) -> float:
    """The mean absolute difference of two frames, in levels of 255: motion and flicker together."""
    return 255 * float((pair.second - pair.first).abs().mean())


def gupta2017_instability(pair: FramePair) -> float:
    """The mean squared difference of adjacent frames, of a range of 1 (Gupta et al. 2017, Figure 3)."""
    return float((pair.second - pair.first).square().mean())


Distance = Callable[[Tensor, Tensor], Tensor]


def chen2023_warped_lpips(pair: FramePair, distance: Distance) -> float:
    """LPIPS of the warped second frame and the first, both 0 where not visible, by Chen et al. 2023.

    distance: LPIPS with AlexNet, version 0.1 (Zhang et al. 2018). As in their program it sees [0, 1], though it was
    made for [-1, 1].
    """
    visible = chen2023_visible(pair.forward, pair.backward)
    with torch.no_grad():
        return float(distance(_sampled(pair.second, pair.forward) * visible, pair.first * visible))


def _sampled(image: Tensor, flow: Tensor) -> Tensor:
    """`image` (1, C, H, W) at x + flow(x), bilinear, zero beyond the frame, as RAFT samples."""
    height, width = image.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows]).to(flow) + flow[0]  # (2, H, W)
    size = torch.tensor([width - 1, height - 1]).to(flow).clamp(min=1)
    grid = 2 * places.permute(1, 2, 0) / size - 1
    return F.grid_sample(image, grid[None].to(image.dtype), align_corners=True)


def lpips_weights() -> Path:
    """Where torchvision keeps AlexNet's weights, which LPIPS needs and which are never fetched here."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET


@cache
def lpips_distance() -> Distance:
    """LPIPS with AlexNet; raises OSError, which says what is missing, where it cannot be had."""
    if importlib.util.find_spec("lpips") is None:
        raise OSError("needs the package lpips: pip install lpips")
    if not lpips_weights().is_file():
        raise OSError(f"needs AlexNet's weights, torchvision's {_ALEXNET}, in checkpoints/ of torch.hub.get_dir()")
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Distance = lpips.LPIPS(net="alex", verbose=False).eval()
    return model


_CHEN = "Chen et al. 2023 (Advances in 3D Neural Stylization), their program; flow by RAFT"
_LIU = "Liu et al. 2024 (StyleGaussian); mask and pairs of Chen et al. 2023"

PUBLISHED: tuple[PairMeasure, ...] = (
    PairMeasure("frame_difference", frame_difference, source="plain", unit="levels of 255"),
    PairMeasure("gupta2017.instability", gupta2017_instability, source="Gupta et al. 2017, Figure 3"),
    PairMeasure(
        "lai2018.warping_error", lai2018_warping_error, source="Lai et al. 2018, their program; flow by FlowNet2"
    ),
    *(PairMeasure(f"chen2023.warped_mse_{d}", chen2023_warped_mse, d, d, _CHEN) for d in (SHORT, LONG)),
    *(PairMeasure(f"liu2024.warped_rmse_{d}", liu2024_warped_rmse, d, d, _LIU) for d in (SHORT, LONG)),
)
"""What is always measured; all are the lower the steadier."""

LPIPS = tuple(f"chen2023.warped_lpips_{d}" for d in (SHORT, LONG))

ABSENT: Mapping[str, str] = {
    "clip.temporal_consistency": "needs CLIP's weights, which nothing here loads",
    "vbench.motion_smoothness": "needs the frame interpolation network AMT-S, which nothing here loads",
}
"""What this program never computes, and why."""


def published() -> tuple[tuple[PairMeasure, ...], dict[str, str]]:
    """The measures that can be computed here, and why the others cannot."""
    try:
        distance = lpips_distance()
    except OSError as error:
        return PUBLISHED, {**dict.fromkeys(LPIPS, str(error)), **ABSENT}
    found = (
        PairMeasure(name, lambda pair: chen2023_warped_lpips(pair, distance), d, d, _CHEN)
        for name, d in zip(LPIPS, (SHORT, LONG), strict=True)
    )
    return (*PUBLISHED, *found), dict(ABSENT)


def strides(measures: Iterable[PairMeasure]) -> dict[int, int]:
    """Of each distance the measures need, at each how many frames a pair ends: 1 where they differ."""
    found: dict[int, int] = {}
    for measure in measures:
        found[measure.gap] = measure.stride if found.get(measure.gap, measure.stride) == measure.stride else 1
    return found
