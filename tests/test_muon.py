"""Muon: its steps against a plain reimplementation, their singular values, and what it makes of a problem."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nststab.train.muon import Muon, orthogonal


def plain(gradients: list[np.ndarray], weight: np.ndarray, lr: float, momentum: float) -> np.ndarray:
    """The steps as Jordan et al. write them, in float64."""
    mean = np.zeros_like(weight)
    for gradient in gradients:
        mean = momentum * mean + (1 - momentum) * gradient
        update = (1 - momentum) * gradient + momentum * mean
        matrix = update.reshape(len(update), -1)
        x = matrix / (np.sqrt((matrix**2).sum()) + 1e-7)
        for _ in range(5):
            square = x @ x.T
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        rows, columns = matrix.shape
        weight = weight - lr * max(1.0, rows / columns) ** 0.5 * x.reshape(weight.shape)
    return weight


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (40, 2, 3, 3), (5, 5, 1, 1)])
def test_its_steps_are_those_of_a_plain_reimplementation(shape: tuple[int, ...], generator: torch.Generator) -> None:
    weight = torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
    gradients = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    expected = plain([gradient.numpy() for gradient in gradients], weight.detach().numpy(), 0.05, 0.9)
    optimizer = Muon([weight], lr=0.05, momentum=0.9)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_what_is_made_orthogonal_has_singular_values_near_one(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    matrix = torch.randn(shape, generator=generator)
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert 0.6 < values.min() <= values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = left @ right
    assert (orthogonal(matrix) * nearest).sum() > 0.95 * nearest.norm() * orthogonal(matrix).norm()


def test_it_goes_downhill_and_leaves_what_has_no_gradient() -> None:
    target = torch.eye(6)
    weight, other = torch.nn.Parameter(torch.zeros(6, 6)), torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([weight, other], lr=0.05)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (weight - target).square().sum()
        torch.autograd.backward(value)
        return value

    before = float(loss().detach())
    for _ in range(60):
        loss()
        optimizer.step()
    assert float(loss().detach()) < 0.05 * before
    assert torch.equal(other, torch.ones(3, 3))
