"""Muon: momentum whose steps are made orthogonal, for the convolutions of a network (Jordan et al. 2024)."""

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration; singular values end between 0.7 and 1.2


class Muon(torch.optim.Optimizer):
    """Each weight is taken as a matrix of outputs by all else; its step is the nearest orthogonal one, times `lr`.

    The step is that of Nesterov's momentum, orthogonalised by five Newton-Schulz iterations, times the root of rows
    over columns where that is above 1. What has fewer than two dimensions belongs to another optimizer.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                mean = state["momentum"]
                mean.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(mean, group["momentum"]).flatten(1)
                rows, columns = update.shape
                scale = max(1.0, rows / columns) ** 0.5
                weight.add_(orthogonal(update).view_as(weight), alpha=-group["lr"] * scale)
        return loss


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix to (M, N), about: all its singular values come near 1 (Newton-Schulz)."""
    a, b, c = _COEFFICIENTS
    turned = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if turned else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if turned else x
