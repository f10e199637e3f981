"""The perceptual loss of a picture and its gradient in little memory: in tiles, with the Gram matrices of the whole."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nststab.errors import SettingError
from nststab.losses import LossSettings, PerceptualLoss, StyleTarget, content_energy, gram, style_loss, total_variation
from nststab.memory import gib, resident
from nststab.vgg import PerceptualNetwork

_PER_PIXEL = 5000  # bytes that the gradient of a tile takes for each pixel of it, at most
_LEAST_SIDE = 64  # pixels of a tile, without what is around it


class TiledLoss(PerceptualLoss):
    """`PerceptualLoss` of one picture, (1, 3, H, W), that keeps the process within `memory` bytes.

    A first pass over overlapping tiles adds up the Gram matrices of the whole and the content loss; a second one takes
    the gradient of each tile, given the matrices' own. Every feature counts once, and a tile reaches as far around as
    its features see, so terms and gradient are those of the whole but for rounding.

    Args:
        pictures: how many pictures an optimisation keeps beside.

    Raises SettingError where these do not fit.
    """

    def __init__(
        self,
        network: PerceptualNetwork,
        style: StyleTarget,
        settings: LossSettings,
        dtype: torch.dtype | None,
        memory: int,
        pictures: int,
    ) -> None:
        super().__init__(network, style, settings, dtype)
        self._memory, self._pictures = memory, pictures
        self.side = 0  # of a tile; 0: none is chosen yet

    def content_targets(self, images: Tensor) -> dict[str, Tensor]:
        self.side = self.side or self._fitting(images)
        targets: dict[str, Tensor] = {}
        with torch.no_grad():
            for tile in self.network.tiles(images, self.settings.content_layers, self.side):
                with self._arithmetic(images):
                    cores = tile.cores(self.network)
                for layer, core in cores.items():
                    if layer not in targets:
                        targets[layer] = core.new_empty(1, core.shape[1], *tile.whole(layer))
                    targets[layer][tile.place(layer)] = core
        return targets

    def __call__(
        self, images: Tensor, content_targets: Mapping[str, Tensor], regions: Tensor | None = None
    ) -> dict[str, Tensor]:
        if regions is not None or self.side >= max(images.shape[-2:]):
            return super().__call__(images, content_targets, regions)
        content, style = _Terms.apply(images, self, content_targets)
        terms = {"content": content, "style": style}
        if self.settings.tv_weight:
            terms["tv"] = self.settings.tv_weight * total_variation(images)
        return terms

    def evaluated(self, images: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The terms of content and style, and the gradient of their sum."""
        settings = self.settings
        weights = {
            layer: settings.content_weight
            / (target[0].numel() * (content_energy(target)[0] if settings.scaling == "energy" else 1.0))
            for layer, target in targets.items()
        }
        tiles = list(self.network.tiles(images, self._layers, self.side))
        grams = {layer: torch.zeros_like(self._style[layer]) for layer in settings.style_layers}
        content = torch.zeros((), device=images.device)
        with torch.no_grad():
            for tile in tiles:
                with self._arithmetic(images):
                    cores = tile.cores(self.network)
                for layer in settings.style_layers:
                    if cores[layer].numel():
                        grams[layer] += gram(cores[layer]) * tile.share(layer)
                for layer, weight in weights.items():
                    content += weight * _square(cores[layer], targets[layer][tile.place(layer)])
        with torch.enable_grad():
            for one in grams.values():
                one.requires_grad_()
            losses = [style_loss(grams[layer], self._style[layer], settings.scaling) for layer in grams]
            style = settings.style_weight * torch.stack(losses).sum()
            pulls = dict(zip(grams, torch.autograd.grad(style, list(grams.values())), strict=True))
        gradient = torch.zeros_like(images)
        for tile in tiles:
            with torch.enable_grad():
                pixels = tile.pixels.detach().clone().requires_grad_()
                with self._arithmetic(images):
                    cores = tile.cores(self.network, pixels)
                parts = [
                    pull * gram(cores[layer]) * tile.share(layer)
                    for layer, pull in pulls.items()
                    if cores[layer].numel()
                ]
                parts += [
                    weight * _square(cores[layer], targets[layer][tile.place(layer)])
                    for layer, weight in weights.items()
                ]
                total = torch.stack([part.sum() for part in parts]).sum()
            tile.of(gradient).add_(torch.autograd.grad(total, pixels)[0])
        return content, style.detach(), gradient

    def _fitting(self, images: Tensor) -> int:
        """The largest side of a tile that fits into the memory, in steps of what all poolings begin with."""
        pixels = images[0, 0].numel()
        room = self._memory - resident().now - 12 * self._pictures * pixels
        step, around = self.network.reach(self._layers)
        side = int(max(0.0, room / _PER_PIXEL) ** 0.5) - 2 * around
        if side < _LEAST_SIDE:
            needed = gib(self._memory - room + _PER_PIXEL * (_LEAST_SIDE + 2 * around) ** 2)
            height, width = images.shape[-2:]
            raise SettingError(f"memory: a picture of {width}x{height} pixels needs {needed}, got {gib(self._memory)}")
        return side // step * step


class _Terms(torch.autograd.Function):
    """Both terms, whose gradient is taken with them: their sum is what is minimised."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, images: Tensor, loss: TiledLoss, targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        content, style, gradient = loss.evaluated(images, targets)
        ctx.save_for_backward(gradient)
        return content, style

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, content: Tensor, style: Tensor) -> tuple[Tensor, None, None]:
        assert torch.equal(content, style), "only the sum of both terms has a gradient"
        return ctx.saved_tensors[0] * content, None, None


def _square(core: Tensor, target: Tensor) -> Tensor:
    return (core - target).float().square().sum()
