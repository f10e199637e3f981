"""Moving layers: textured shapes rendered into frames, with exact optical flow and occlusion."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.warp import motion_boundaries, smooth_mask

_ANTIALIAS = 0.5  # half the width in pixels over which the edge of a cut-out fades
_MIXED = -1  # stands for "layers of different motion meet here"


class FlowClip(NamedTuple):
    """Frames with the optical flow between them.

    frames: (N, T, 3, H, W) in [0, 1]; forward: (N, T-1, 2, H, W), the flow that maps frame t-1 to frame t, in pixels;
    mask: (N, T-1, 1, H, W), how far the flow can be trusted at the pixels of frame t-1; 0 everywhere without flow.
    """

    frames: Tensor
    forward: Tensor
    mask: Tensor


class Layer(NamedTuple):
    """A textured shape under rigid motion; layer coordinates are (x, y) with the origin inside the shape.

    texture: (1, 3, h, w), mirrored at its borders.
    placement: (3, 3), layer coordinates to texture pixels.
    outline: (K, 2), corners of a polygon that is star-shaped about the origin, in ascending order of their angle
        atan2(y, x); None covers everything.
    poses: (T, 3, 3), layer coordinates to pixels of each frame: similarities.
    """

    texture: Tensor
    placement: Tensor
    outline: Tensor | None
    poses: Tensor


def render_layers(layers: Sequence[Layer], height: int, width: int) -> FlowClip:
    """Compose layers, the lowest first and without outline, into frames with exact forward flow and mask (N = 1)."""
    device = layers[0].texture.device
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    pixels = torch.stack([columns, rows])[None]  # (1, 2, H, W)
    depths = [_depth(layer, layer.poses, pixels) for layer in layers]  # each (T, H, W)
    frames = _compose(layers, depths, pixels)
    steps = [_step(layer.poses) for layer in layers]  # each (T-1, 3, 3)

    forward = _transform(steps[0], pixels)
    for step, depth in zip(steps[1:], depths[1:], strict=True):
        forward = torch.where(depth[:-1, None] > 0, _transform(step, pixels), forward)
    targets = pixels + forward
    source = [depth[:-1] for depth in depths]
    target = [_depth(layer, layer.poses[1:], targets) for layer in layers]
    limits = torch.tensor([width - 1, height - 1], device=device).view(1, 2, 1, 1)
    outside = ((targets < 0) | (targets > limits)).any(1)
    mask = _mask(forward, outside, source, target, _motions(steps).to(device))
    return FlowClip(frames[None], forward[None], mask[None])


def _mask(forward: Tensor, outside: Tensor, source: list[Tensor], target: list[Tensor], motions: Tensor) -> Tensor:
    """Trust in the flow from the layers' depths at its source pixels and its target points.

    `outside` (T-1, H, W) is exact, where `leaves_frame` gives up the last row and column even at rest.
    """
    occluded = _motion_at(target, motions, 0.0) != _motion_at(source, motions, 0.0)
    occluded &= ~outside
    # bilinear sampling at the target reaches sqrt(2) px far, to pixels which may be antialiased themselves
    mixed = (_motion_at(source, motions, _ANTIALIAS) == _MIXED) | (
        _motion_at(target, motions, _ANTIALIAS + math.sqrt(2)) == _MIXED
    )
    untrusted = motion_boundaries(forward) | (outside | mixed)[:, None]
    return smooth_mask(occluded[:, None], untrusted)


def _motion_at(depths: list[Tensor], motions: Tensor, margin: float) -> Tensor:
    """Which motion is seen at each point, (P, H, W); _MIXED where different ones meet within `margin` pixels."""
    seen = motions[0].view(-1, 1, 1)
    for depth, motion in zip(depths[1:], motions[1:, :, None, None], strict=True):
        blended = torch.where(seen == motion, motion, _MIXED)
        seen = torch.where(depth > margin, motion, torch.where(depth > -margin, blended, seen))
    return seen


def _motions(steps: list[Tensor]) -> Tensor:
    """A number per layer and pair, (layers, T-1), equal where layers move as one: no edge between them is in motion."""
    stacked = torch.stack(steps)  # (L, P, 3, 3)
    alike = (stacked[:, None] - stacked[None]).abs().amax((-1, -2)) < 1e-9  # (L, L, P)
    return alike.int().argmax(1)  # the first layer of the same motion


def _step(poses: Tensor) -> Tensor:
    """The displacement A_t A_{t-1}^-1 - 1 of each pair, (T-1, 3, 3), in a form that is exactly zero at rest."""
    step: Tensor = (poses[1:] - poses[:-1]) @ torch.linalg.inv(poses[:-1])
    return step


def _transform(matrices: Tensor, points: Tensor) -> Tensor:
    """Affine maps (T, 3, 3) of points (T or 1, 2, H, W): (T, 2, H, W)."""
    matrices = matrices.to(points)
    mapped: Tensor = matrices[:, :2, :2] @ points.flatten(2) + matrices[:, :2, 2:]
    return mapped.view(-1, *points.shape[1:])


def _depth(layer: Layer, poses: Tensor, points: Tensor) -> Tensor:
    """How far inside the layer's outline points of the frame lie, in pixels, (T, H, W); negative outside.

    It is the distance to the line of that edge which the ray from the origin through the point meets.
    """
    if layer.outline is None:
        return points.new_full((len(poses), *points.shape[2:]), math.inf)
    x, y = _transform(torch.linalg.inv(poses), points).unbind(1)
    corners = layer.outline
    edges = corners.roll(-1, 0) - corners
    normals = torch.stack([edges[:, 1], -edges[:, 0]], 1) / edges.norm(dim=1, keepdim=True)  # outwards
    offsets = (normals * corners).sum(1)
    angles = torch.atan2(corners[:, 1], corners[:, 0]).to(points)
    edge = torch.bucketize(torch.atan2(y, x), angles, right=True) - 1  # -1 is the last edge, which crosses the angle pi
    table = torch.cat([normals, offsets[:, None]], 1).to(points).T.contiguous()  # (3, K)
    edge = edge % len(corners)
    scale = torch.linalg.det(poses[:, :2, :2]).sqrt().to(points)
    depth: Tensor = (table[2][edge] - table[0][edge] * x - table[1][edge] * y) * scale.view(-1, 1, 1)
    return depth


def _compose(layers: Sequence[Layer], depths: list[Tensor], pixels: Tensor) -> Tensor:
    """Paint the layers over each other: (T, 3, H, W)."""
    frames = _sample(layers[0], pixels)
    for layer, depth in zip(layers[1:], depths[1:], strict=True):
        alpha = (depth / (2 * _ANTIALIAS) + 0.5).clamp(0, 1)[:, None]
        frames = torch.lerp(frames, _sample(layer, pixels), alpha)
    return frames


def _sample(layer: Layer, pixels: Tensor) -> Tensor:
    """The layer's texture as it falls onto the pixels of each frame, (T, 3, H, W)."""
    height, width = layer.texture.shape[-2:]
    unit = affine(2 / width, 2 / height, 1 / width - 1, 1 / height - 1)  # texture pixels to grid_sample's [-1, 1]
    maps = unit @ layer.placement @ torch.linalg.inv(layer.poses)
    grid = _transform(maps, pixels).permute(0, 2, 3, 1)
    texture = layer.texture.expand(len(grid), -1, -1, -1)
    return F.grid_sample(texture, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def affine(x_scale: float, y_scale: float, x: float, y: float) -> Tensor:
    """Scale, then shift: (3, 3)."""
    return torch.tensor([[x_scale, 0, x], [0, y_scale, y], [0, 0, 1]], dtype=torch.float64)
