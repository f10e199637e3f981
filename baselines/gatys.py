"""Style transfer by optimising the pixels of each frame (Gatys et al. 2016), and the loop that does it."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.losses import PerceptualLoss, total_variation
from nststab.video.images import scaled

from .settings import GatysSettings

Objective = Callable[[Tensor], Mapping[str, Tensor]]
"""A picture (1, 3, H, W) to its named, weighted, scalar loss terms, which are to be summed."""

Callback = Callable[[int, Mapping[str, float]], None]
"""Hears the iteration and its loss terms, beginning with 0 and the terms of the start picture, anew for each frame."""

Keep = Callable[[Callable[[], Tensor]], Tensor]
"""Hands back the result of an optimisation that an earlier run kept, or computes it by its argument and keeps it."""

INTERVAL = 50
"""The loss change of this many iterations is compared with `tolerance`, as in Ruder's program."""

SMALLEST_SIDE = 16
"""Shorter sides are padded for the network: relu5_1 stands behind four 2x2 poolings."""

SMALLEST_SCALE = 32
"""Coarser scales whose shorter side would be under this many pixels are left out."""

HISTORY = 20
"""Pairs of pictures that L-BFGS keeps; 100 reached the same losses, and take 200 pictures of memory instead of 40."""

_FIRST_STEP = 0.001  # root mean square of L-BFGS' first change of the pixels; more would spoil a warm start
_SHORTENED = 0.05  # root mean square to which a step longer than the range of the pixels is taken back
_GROWTH, _PATIENCE = 10.0, 10  # diverged: this many times the best loss and above the first, for this many iterations
# Iterations without a better loss after which L-BFGS begins anew. After 37 it still came back by itself; beginning anew
# after 10 lost too much history, and ended 1 % higher.
_STRAYED = 40
_NOISE = 0.1  # standard deviation around grey


class Diverged(NststabError):
    """The loss was not finite, or grew, before any iterate was better than the start."""


@dataclass(frozen=True, eq=False)
class Gatys:
    """Minimises eq. (1) of Gupta et al. 2017 for each frame on its own, as Gatys et al. 2016: a `Stylizer`.

    Beside it stands the total variation of colour, apart from light: the losses hardly see the colours of single
    pixels, and iterations leave ever more of them, as speckles. Without these the losses are the same.

    Unlike Gatys, every step is projected onto [0, 1], and L-BFGS searches no line: see `optimize`. Frames of any size
    come back in that size, on the CPU; sides under `SMALLEST_SIDE` are padded by replication for the network.

    Args:
        loss: with its network and style on `device`.
        start: from a frame (1, 3, H, W) to the picture of its size that it begins with, instead of `settings.init`.
        keep: is called once for each optimisation, each scale of each frame in order; by default it computes anew.
        coarse: losses of the coarser scales, coarsest first: the last for half the frame's size, the one before for a
            quarter. Each result, upsampled, starts the next scale. Scales with a side under `SMALLEST_SCALE` are left
            out.

    Raises:
        ValueError: `start` gives another size than the frame's. Diverged: no picture better than the start was found.
    """

    loss: PerceptualLoss
    settings: GatysSettings
    callback: Callback | None = None
    device: torch.device | str = "cpu"
    start: Callable[[Tensor], Tensor] | None = None
    keep: Keep | None = None
    coarse: Sequence[PerceptualLoss] = ()

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield frame.with_rgb(self.stylize(frame.rgb, frame.mask))

    def stylize(self, frame: Tensor, regions: Tensor | None = None) -> Tensor:
        """The picture (1, 3, H, W) of one frame; `regions` (1, R, H', W') are the masks of its styles."""
        shorter = replace(self.settings, iterations=self.settings.coarse_iterations)
        result: Tensor | None = None
        for scale, loss in zip(range(len(self.coarse), 0, -1), self.coarse, strict=True):
            size = [round(side / 2**scale) for side in frame.shape[-2:]]
            if min(size) >= SMALLEST_SCALE:
                result = self._optimize(loss, scaled(frame, *size), shorter, frame, result, regions)
        return self._optimize(self.loss, frame, self.settings, frame, result, regions)

    def _optimize(
        self,
        loss: PerceptualLoss,
        content: Tensor,
        settings: GatysSettings,
        frame: Tensor,
        coarser: Tensor | None,
        regions: Tensor | None,
    ) -> Tensor:
        """The result for `content`, which is `frame` or smaller, from a `coarser` scale's result if there is one."""

        def compute() -> Tensor:
            initial = self._initial(frame, content) if coarser is None else scaled(coarser, *content.shape[-2:])
            perceptual = objective(loss, content.to(self.device), regions, settings.chroma_weight)
            return optimize(initial.to(self.device), perceptual, settings, self.callback).cpu()

        return self.keep(compute) if self.keep else compute()

    def _initial(self, frame: Tensor, content: Tensor) -> Tensor:
        """What the first scale begins with, in the size of `content`, which is `frame` or smaller."""
        if self.start is not None:
            start = self.start(frame)
            if start.shape != frame.shape:
                expected, got = ("x".join(map(str, x.shape[:-3:-1])) for x in (frame, start))
                raise NststabError(f"expected a start picture of the frame's size {expected}, got {got}")
            return scaled(start, *content.shape[-2:])
        if self.settings.init == "content":
            return content
        generator = torch.Generator().manual_seed(self.settings.seed)
        return (0.5 + _NOISE * torch.randn(content.shape, generator=generator)).to(content)


def objective(
    loss: PerceptualLoss, content: Tensor, regions: Tensor | None = None, chroma_weight: float = 0.0
) -> Objective:
    """The perceptual terms of pictures of one frame `content` (1, 3, H, W), whose targets are computed here, once.

    With a `chroma_weight` comes the term "chroma", the total variation of R, G and B minus their mean.

    regions: (1, R, H', W'), the masks of the loss' styles.
    """
    targets = loss.content_targets(_padded(content))
    regions = None if regions is None else regions.to(content)

    def terms(pixels: Tensor) -> dict[str, Tensor]:
        perceptual = loss(_padded(pixels), targets, regions)
        if not chroma_weight:
            return perceptual
        return perceptual | {"chroma": chroma_weight * total_variation(pixels - pixels.mean(dim=1, keepdim=True))}

    return terms


def _padded(image: Tensor) -> Tensor:
    """`image` with sides of at least `SMALLEST_SIDE`, the last row and column repeated."""
    height, width = image.shape[-2:]
    missing = max(0, SMALLEST_SIDE - height), max(0, SMALLEST_SIDE - width)
    return F.pad(image, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else image


def optimize(initial: Tensor, loss: Objective, settings: GatysSettings, callback: Callback | None = None) -> Tensor:
    """Minimises the sum of `loss` over pixels in [0, 1], beginning with `initial` (1, 3, H, W); the best iterate.

    The loop of all optimisation baselines, with L-BFGS or Adam, one evaluation of `loss` for each update. Every step is
    projected onto [0, 1]. Gatys et al. optimise without bounds and clamp at the end, which here raised the loss by
    0.5 to 2 % (from uniform noise by a quarter), while the projection costs nothing. It is not exact where L-BFGS meets
    a bound (Bertsekas 1982), which may lead it astray: then it begins anew from the best iterate, without its history.
    Holding such pixels out changed the loss of pictures by 1 to 2 %, either way.

    A loss that is no longer finite, or stays far above the best, ends the loop with a warning (RuntimeWarning); the
    callback hears of these terms, and the best iterate so far is returned.

    Raises:
        Diverged: the same before any iterate was better than `initial`.
    """
    pixels = initial.detach().clamp(0, 1).clone(memory_format=torch.contiguous_format).requires_grad_()
    best = pixels.detach().clone()
    lowest: list[float] = []  # the best loss after each iteration
    above = started = found = 0  # the last two: the iterations that L-BFGS began from, and of the best loss
    optimizer = _optimizer(pixels, settings)
    for iteration in range(settings.iterations + 1):
        with torch.enable_grad():
            terms = loss(pixels)
            stacked = torch.stack(list(terms.values()))
            total = stacked.sum()
        values = stacked.tolist()  # one wait for an accelerator
        value = sum(values)
        if callback is not None:
            callback(iteration, dict(zip(terms, values, strict=True)))
        if lowest and value < lowest[-1]:
            best.copy_(pixels.detach())
            found = iteration
        above = above + 1 if lowest and value > max(lowest[0], _GROWTH * lowest[-1]) else 0
        if not math.isfinite(value) or above == _PATIENCE:
            _diverged(iteration, value, lowest)
            break
        lowest.append(min([value, *lowest[-1:]]))
        if iteration == settings.iterations or _settled(lowest, settings.tolerance):
            break
        if settings.optimizer == "lbfgs" and found > started and iteration - found == _STRAYED:
            pixels.detach().copy_(best)
            optimizer, started = _optimizer(pixels, settings), iteration + 1
        else:
            _update(optimizer, pixels, total, value, first=iteration == started)
    return best


def _optimizer(pixels: Tensor, settings: GatysSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam([pixels], lr=settings.learning_rate)
    # One evaluation a step: a strong Wolfe line search needed more of them for the same loss. No tolerances: they are
    # absolute, and would take the small gradients of a large picture for zero.
    return torch.optim.LBFGS([pixels], max_iter=1, history_size=HISTORY, tolerance_grad=0, tolerance_change=0)


def _update(optimizer: torch.optim.Optimizer, pixels: Tensor, total: Tensor, value: float, first: bool) -> None:
    """One step down the gradient of `total`, which is `value`, projected onto [0, 1]."""
    # L-BFGS drops pairs with y·s below an absolute 1e-10; the loss per pixel instead of per picture keeps clear of it.
    gradient = torch.autograd.grad(total, pixels)[0] * pixels.numel()
    pixels.grad = gradient.contiguous()  # L-BFGS takes no other; channels_last is what the network returns
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.param_groups[0]["lr"] = _first_rate(gradient) if first else 1.0
    before = pixels.detach().clone()
    optimizer.step(lambda: value)
    with torch.no_grad():
        if isinstance(optimizer, torch.optim.LBFGS):
            _shorten(optimizer, pixels, before)
        pixels.clamp_(0, 1)


def _shorten(optimizer: torch.optim.LBFGS, pixels: Tensor, before: Tensor) -> None:
    """Takes a step of L-BFGS longer than 1 back to `_SHORTENED`, in what it remembers of it too.

    The first step is so short that the curvature found along it may be next to none, and the second, 42 from a picture
    in another style where usual ones stay under 0.04, then leaves the picture for noise.
    """
    step = pixels - before
    length = step.square().mean().sqrt().item()
    if length > 1:
        optimizer.state[pixels]["t"] *= _SHORTENED / length  # its last step is d·t
        pixels.copy_(before + step * (_SHORTENED / length))


def _first_rate(gradient: Tensor) -> float:
    """The rate at which L-BFGS' first step is `_FIRST_STEP`.

    By itself it moves all pixels together by 1, which vanishes in a large picture's rounding.
    """
    by_itself = min(1.0, 1.0 / max(gradient.abs().sum().item(), torch.finfo(gradient.dtype).tiny))
    length = gradient.square().mean().sqrt().item() * by_itself
    return _FIRST_STEP / length if length > 0 else 1.0


def _settled(lowest: list[float], tolerance: float) -> bool:
    if len(lowest) <= INTERVAL:
        return False
    before = lowest[-1 - INTERVAL]
    return before - lowest[-1] <= tolerance * before


def _diverged(iteration: int, value: float, lowest: list[float]) -> None:
    """Warns that a better picture was kept, or raises where there is none."""
    message = f"the loss diverged at iteration {iteration}: {value:.4g}"
    if not lowest or lowest[-1] >= lowest[0]:
        raise Diverged(f"{message}, and no picture was better than the start")
    warnings.warn(
        f"{message}, the best before was {lowest[-1]:.4g}; that picture is kept", RuntimeWarning, stacklevel=3
    )
