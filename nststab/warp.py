"""Warping by optical flow, and the masks which say where a flow can be trusted."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError


def scaled_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """The same flow (N, 2, H, W), in pixels of another size: bilinear, or of means where it is smaller."""
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(1, 2, 1, 1)
    if flow.shape[-1] > width:
        return F.interpolate(flow, (height, width), mode="area") * scale
    return F.interpolate(flow, (height, width), mode="bilinear", align_corners=False) * scale


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample `image` bilinearly at x + flow(x), replicating the border.

    The four neighbours are gathered and weighted here, without normalised coordinates, so zero flow returns the image
    exactly and integer flow an exact shift. Differentiable with respect to the image and the flow.

    Args:
        image: (N, C, H, W), floating point.
        flow: (N, 2, H, W) in pixels, x then y; a batch of one serves every image.

    Raises:
        ValueError: where the shapes do not fit each other.
    """
    n, c, h, w = image.shape
    if flow.ndim != 4 or flow.shape[1:] != (2, h, w) or flow.shape[0] not in (1, n):
        raise NststabError(f"expected a flow of shape ({n}, 2, {h}, {w}) for this image, got {tuple(flow.shape)}")
    columns, rows = _grid(flow)
    x = (columns + flow[:, 0]).clamp(0, w - 1)  # (N, H, W)
    y = (rows + flow[:, 1]).clamp(0, h - 1)
    left, top = x.detach().floor(), y.detach().floor()
    x_part = (x - left).to(image.dtype).unsqueeze(1)  # (N, 1, H, W)
    y_part = (y - top).to(image.dtype).unsqueeze(1)
    x0, y0 = left.long(), top.long()
    x1, y1 = (x0 + 1).clamp(max=w - 1), (y0 + 1).clamp(max=h - 1)
    pixels = image.flatten(2)  # (N, C, HW)

    def gather(row: Tensor, column: Tensor) -> Tensor:
        index = (row * w + column).flatten(1).unsqueeze(1).expand(n, c, -1)  # (N, C, HW)
        return pixels.gather(2, index).view(n, c, h, w)

    upper = gather(y0, x0) * (1 - x_part) + gather(y0, x1) * x_part
    lower = gather(y1, x0) * (1 - x_part) + gather(y1, x1) * x_part
    return upper * (1 - y_part) + lower * y_part


def _grid(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row indices, (1, W) and (H, 1), in the flow's type and on its device."""
    h, w = flow.shape[-2:]
    columns = torch.arange(w, dtype=flow.dtype, device=flow.device).view(1, w)
    rows = torch.arange(h, dtype=flow.dtype, device=flow.device).view(h, 1)
    return columns, rows


# Sundaram et al. 2010 with the constants of Ruder's consistencyChecker.
CONSISTENCY_FACTOR, CONSISTENCY_OFFSET = 0.01, 0.5
BOUNDARY_FACTOR, BOUNDARY_OFFSET = 0.01, 0.002
SMOOTHING_SIGMA, SMOOTHING_RADIUS = 0.8, 2


def leaves_frame(flow: Tensor) -> Tensor:
    """Pixels which `flow` (N, 2, H, W) moves out of the frame: bool (N, 1, H, W).

    As in Ruder's program all four neighbours of the target must lie inside, so a target in the very last column or row
    is already out: with zero flow these two lines count as leaving.
    """
    columns, rows = _grid(flow)
    h, w = flow.shape[-2:]
    left, top = (columns + flow[:, 0:1, :, :]).floor(), (rows + flow[:, 1:2, :, :]).floor()  # (N, 1, H, W)
    return ~((left >= 0) & (left + 1 < w) & (top >= 0) & (top + 1 < h))


def disoccluded(flow: Tensor, opposite: Tensor) -> Tensor:
    """Pixels which `opposite`, followed after `flow`, does not bring back: bool (N, 1, H, W).

    |w + w'|² >= 0.01 (|w|² + |w'|²) + 0.5 with w' the opposite flow where w arrives (Sundaram et al. 2010; Ruder et al.
    2016, section 4.1; the equality as in his program). Both flows are (N, 2, H, W). Meaningless where `leaves_frame`
    holds: nothing is known there.
    """
    return not_brought_back(flow, warp(opposite, flow))


def not_brought_back(flow: Tensor, back: Tensor) -> Tensor:
    """`disoccluded`, of the opposite flow where `flow` arrives."""
    return squared_norm(flow + back) >= (
        CONSISTENCY_FACTOR * (squared_norm(flow) + squared_norm(back)) + CONSISTENCY_OFFSET
    )


def motion_boundaries(flow: Tensor) -> Tensor:
    """Pixels where `flow` (N, 2, H, W) changes abruptly: bool (N, 1, H, W).

    |∇u|² + |∇v|² > 0.01 |w|² + 0.002, ∇ the central difference (Ruder et al. 2016, section 4.1);
    the border is mirrored.
    """
    padded_x, padded_y = _mirror(flow, -1, 1), _mirror(flow, -2, 1)
    along_x = (padded_x[..., 2:] - padded_x[..., :-2]) / 2  # (N, 2, H, W)
    along_y = (padded_y[..., 2:, :] - padded_y[..., :-2, :]) / 2
    change = squared_norm(along_x) + squared_norm(along_y)
    return change > BOUNDARY_FACTOR * squared_norm(flow) + BOUNDARY_OFFSET


def smooth_mask(disoccluded: Tensor, untrusted: Tensor) -> Tensor:
    """Turn two bool masks (N, 1, H, W) into one soft mask (N, 1, H, W) in [0, 1], float32.

    Disoccluded pixels count as -1, otherwise untrusted ones as 0 and the rest as 1 before a Gaussian of sigma 0.8 with
    5 taps and mirrored borders; then the result is clipped. The negative values make a disocclusion eat outwards.
    """
    mask = (~untrusted).float().masked_fill(disoccluded, -1.0)
    offsets = range(-SMOOTHING_RADIUS, SMOOTHING_RADIUS + 1)
    weights = [math.exp(-(i**2) / (2 * SMOOTHING_SIGMA**2)) for i in offsets]
    total = sum(weights)
    for dim in (-1, -2):
        size, padded = mask.shape[dim], _mirror(mask, dim, SMOOTHING_RADIUS)
        mask = sum(
            (padded.narrow(dim, i, size) * (weight / total) for i, weight in enumerate(weights)),
            torch.zeros_like(mask),
        )
    return mask.clamp(0, 1)


def reliability(flow: Tensor, opposite: Tensor) -> Tensor:
    """How far `flow` can be trusted at each of its pixels: (N, 1, H, W) in [0, 1], 1 = trust.

    Joins out of frame, disocclusion and motion boundaries as Ruder's consistencyChecker does, smoothing included.
    `opposite` is the flow between the same two frames in the other direction; both are (N, 2, H, W) in pixels.

    Raises:
        ValueError: where the two flows differ in shape.
    """
    if flow.shape != opposite.shape:
        raise NststabError(f"expected two flows of one shape, got {tuple(flow.shape)} and {tuple(opposite.shape)}")
    gone = leaves_frame(flow)
    # What leaves the frame counts as 0, not as -1, whatever the opposite flow says at the border.
    return smooth_mask(disoccluded(flow, opposite) & ~gone, gone | motion_boundaries(flow))


def squared_norm(vectors: Tensor) -> Tensor:
    """Squared length of (N, 2, H, W) vectors: (N, 1, H, W)."""
    return vectors.square().sum(dim=1, keepdim=True)


def _mirror(values: Tensor, dim: int, radius: int) -> Tensor:
    """Extend `values` along `dim` by mirroring with the edge pixel repeated (... 1 0 | 0 1 ...)."""
    size = values.shape[dim]
    index = torch.arange(-radius, size + radius, device=values.device)
    index = torch.where(index < 0, -1 - index, index)
    index = torch.where(index >= size, 2 * size - 1 - index, index).clamp(0, size - 1)
    return values.index_select(dim, index)
