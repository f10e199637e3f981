"""Warping and reliability masks, against SciPy and a literal per-pixel version of the published algorithm."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from nststab.warp import disoccluded, leaves_frame, motion_boundaries, reliability, smooth_mask, warp

Array = NDArray[Any]


def smooth_flow(generator: torch.Generator, size: tuple[int, int], strength: float) -> Tensor:
    coarse = torch.randn(1, 2, 4, 4, generator=generator) * strength
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic")


def test_zero_flow_returns_the_image_exactly() -> None:
    image = torch.rand(2, 3, 13, 17)
    assert torch.equal(warp(image, torch.zeros(2, 2, 13, 17)), image)


def test_integer_flow_is_an_exact_shift_with_a_replicated_border() -> None:
    image = torch.rand(1, 3, 32, 32)
    flow = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1).expand(1, 2, 32, 32)
    rows, columns = (torch.arange(32) - 2).clamp(min=0), (torch.arange(32) + 3).clamp(max=31)
    assert torch.equal(warp(image, flow), image[:, :, rows][:, :, :, columns])


@pytest.mark.parametrize("size", [(32, 32), (9, 24), (1, 7), (1, 1)])
def test_agrees_with_scipy_inside_and_outside_the_frame(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 2, *size, dtype=torch.float64, generator=generator)
    flow = torch.randn(1, 2, *size, dtype=torch.float64, generator=generator) * 12
    rows, columns = np.mgrid[: size[0], : size[1]]
    position = np.stack([rows + flow[0, 1].numpy(), columns + flow[0, 0].numpy()])
    for channel, warped in zip(image[0], warp(image, flow)[0], strict=True):
        expected = map_coordinates(channel.numpy(), position, order=1, mode="nearest")
        np.testing.assert_allclose(warped.numpy(), expected, atol=1e-12)


def test_gradient_with_respect_to_image_and_flow() -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(2, 2, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    flow = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, flow))


def test_one_flow_serves_a_batch_and_other_shapes_are_refused() -> None:
    image, flow = torch.rand(3, 3, 8, 8), torch.randn(1, 2, 8, 8)
    assert torch.equal(warp(image, flow), warp(image, flow.expand(3, 2, 8, 8)))
    with pytest.raises(ValueError, match=r"expected a flow of shape \(3, 2, 8, 8\).*got \(1, 2, 8, 9\)"):
        warp(image, torch.zeros(1, 2, 8, 9))
    with pytest.raises(ValueError, match="two flows of one shape"):
        reliability(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 9))


def test_what_leaves_the_frame() -> None:
    """As in the published program, the last column and row are lost even when nothing moves."""
    still = leaves_frame(torch.zeros(1, 2, 5, 6))[0, 0]
    assert still[:-1, :-1].sum() == 0
    assert still[-1].all()
    assert still[:, -1].all()
    moved = torch.zeros(1, 2, 5, 6)
    moved[:, 0] = -1.5
    assert leaves_frame(moved)[0, 0, 0].tolist() == [True, True, False, False, False, False]


def test_consistency_and_boundary_thresholds() -> None:
    still = torch.zeros(1, 2, 8, 8)
    for length, expected in ((0.70, False), (0.72, True)):  # |w'|² >= 0.01 |w'|² + 0.5 from 0.7107 on
        opposite = still.clone()
        opposite[:, 0] = length
        assert bool(disoccluded(still, opposite).all()) is expected
        assert bool(disoccluded(still, opposite).any()) is expected
    for slope, expected in ((0.044, False), (0.046, True)):  # slope² > 0.002 from 0.0447 on, where nothing moves
        ramp = torch.zeros(1, 2, 8, 8)
        ramp[:, 1] = torch.arange(8.0).view(8, 1) * slope
        assert bool(motion_boundaries(ramp)[0, 0, 0, 0]) is False  # half the slope at the mirrored border
        assert bool(motion_boundaries(ramp)[0, 0, 1, 0]) is expected


def test_a_disocclusion_eats_outwards() -> None:
    nothing, spot = torch.zeros(1, 1, 9, 9, dtype=torch.bool), torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    spot[..., 4, 4] = True
    assert torch.allclose(smooth_mask(nothing, nothing), torch.ones(1, 1, 9, 9))
    hidden, untrusted = smooth_mask(spot, nothing), smooth_mask(nothing, spot)
    assert hidden[0, 0, 4, 4].item() == pytest.approx(1 - 2 * 0.49909**2, abs=1e-4)
    assert untrusted[0, 0, 4, 4].item() == pytest.approx(1 - 0.49909**2, abs=1e-4)
    assert torch.allclose(1 - hidden, 2 * (1 - untrusted), atol=1e-6)


def literal_mask(flow: Array, opposite: Array) -> Array:
    """The published algorithm, one pixel after the other in float32: what it writes to its 8-bit file."""
    f, (_, height, width) = np.float32, flow.shape

    def at(values: Array, y: int, x: int) -> Any:
        return values[mirrored(y, height), mirrored(x, width)]

    mask = np.full((height, width), 255, f)
    for y in range(height):
        for x in range(width):
            u, v = flow[:, y, x]
            x_target, y_target = f(f(x) + u), f(f(y) + v)
            x0, y0 = int(np.floor(x_target)), int(np.floor(y_target))
            if x0 < 0 or x0 + 1 >= width or y0 < 0 or y0 + 1 >= height:
                mask[y, x] = 0
                continue
            a, b = float(f(x_target - f(x0))), float(f(y_target - f(y0)))
            back = [
                f(
                    (1 - b) * ((1 - a) * w[y0, x0] + a * w[y0, x0 + 1])
                    + b * ((1 - a) * w[y0 + 1, x0] + a * w[y0 + 1, x0 + 1])
                )
                for w in opposite
            ]
            x_back, y_back = f(x_target + back[0]) - f(x), f(y_target + back[1]) - f(y)
            length = u * u + v * v
            if x_back**2 + y_back**2 >= 0.01 * float(length + back[0] ** 2 + back[1] ** 2) + 0.5:
                mask[y, x] = -255
                continue
            change = sum(
                (f(0.5) * at(w, y, x + 1) - f(0.5) * at(w, y, x - 1)) ** 2
                + (f(0.5) * at(w, y + 1, x) - f(0.5) * at(w, y - 1, x)) ** 2
                for w in flow
            )
            if change > 0.01 * float(length) + 0.002:
                mask[y, x] = 0
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.8**2))
    weights = (weights / weights.sum()).astype(f)
    for dy, dx in ((0, 1), (1, 0)):
        smoothed = np.zeros_like(mask)
        for y in range(height):
            for x in range(width):
                for i in range(-2, 3):
                    smoothed[y, x] += weights[i + 2] * at(mask, y + dy * i, x + dx * i)
        mask = smoothed
    return mask.clip(0, 255).astype(np.uint8)


def mirrored(index: int, size: int) -> int:
    if index < 0:
        return -1 - index
    return 2 * size - 1 - index if index >= size else index


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_published_algorithm(seed: int) -> None:
    """Smooth flow, with an object which moves on its own and motion out of the frame, forward and nearly back."""
    generator = torch.Generator().manual_seed(seed)
    size = (29, 37)
    flow = smooth_flow(generator, size, strength=[0.1, 0.5, 2.0][seed])
    flow[..., 8:20, 10:24] += torch.randn(1, 2, 1, 1, generator=generator) * 4
    opposite = -warp(flow, -flow) + smooth_flow(generator, size, strength=0.3)
    expected = literal_mask(flow[0].numpy(), opposite[0].numpy())
    mask = reliability(flow, opposite)[0, 0].numpy() * 255
    kinds = [leaves_frame(flow), disoccluded(flow, opposite), motion_boundaries(flow)]
    assert all(0 < kind.float().mean() < 0.9 for kind in kinds)
    assert np.array_equal(mask >= 128, expected >= 128)
    assert np.abs(mask - expected).max() < 1.01  # the file's values are cut
