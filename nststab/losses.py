"""The losses that every method and the training share; each is a sum of named, weighted, scalar terms.

Two scalings. `paper` is eq. (2) and (3) as written by Gupta et al. 2017, but with Gram matrices divided by C·H·W as in
Johnson et al. 2016 (the paper's are not, which only works when style and content have the same size). `energy`, the
default, divides each layer's squared error by the target's own energy: content by mean φ(c)², style by mean G(s)². A
term is then 1 for a picture without features, whatever the layer or the style, so one set of weights serves all styles.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nststab.errors import NststabError
from nststab.settings import LossSettings as LossSettings
from nststab.vgg import PerceptualNetwork
from nststab.warp import warp

Scaling = Literal["energy", "paper"]
StyleTarget = Mapping[str, Tensor]  # layer -> Gram matrix (1, C, C)
_TILE = 1024  # pixels of a side of the parts of a style picture


def gram(features: Tensor) -> Tensor:
    """Gram matrix ΦΦᵀ / (C·H·W) of features (N, C, H, W): (N, C, C), in at least float32.

    Gupta et al. 2017, eq. (3), with the normalisation of Johnson et al. 2016, which makes it independent of the size.
    """
    result: Tensor = _Gram.apply(features)
    return result


class _Gram(torch.autograd.Function):
    """ΦΦᵀ / (C·H·W), with one product in the backward pass where autograd needs two and their sum.

    The gradient comes in the memory format of the features: autograd's is contiguous, and adding it to that of the next
    layer, channels_last, took as long as a convolution.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        # bf16 sums would lose the small differences that we minimise
        with torch.autocast(features.device.type, enabled=False):
            flat = features.flatten(2)  # (N, C, HW)
            if flat.dtype in (torch.float16, torch.bfloat16):
                flat = flat.float()
            return flat @ flat.transpose(1, 2) / features[0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        features: Tensor = ctx.saved_tensors[0]
        both = (gradient + gradient.transpose(1, 2)) / features[0].numel()  # (N, C, C)
        # float16 has not the range for it; bfloat16 has, and the convolutions round the gradient to it anyway
        other = features.float() if features.dtype == torch.float16 else features
        both = both.to(other.dtype)
        with torch.autocast(features.device.type, enabled=False):
            if other.is_contiguous(memory_format=torch.channels_last):
                pixels = other.permute(0, 2, 3, 1)  # (N, H, W, C)
                product = (pixels.flatten(1, 2) @ both).view_as(pixels).permute(0, 3, 1, 2)
            else:
                product = (both @ other.flatten(2)).view_as(other)
        return product.to(features.dtype)


def regional_grams(features: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrices (R, C, C) of features (1, C, h, w) under masks (1, R, H, W), and the share (R,) of each region.

    The guided Gram matrix of Gatys et al. 2017 ("Controlling Perceptual Factors in Neural Style Transfer", section 4):
    Σ T²φφᵀ / (C·ΣT²), where T is the mask in the size of the features. The share is ΣT² / (h·w).
    """
    height, width = features.shape[-2:]
    own = regions.cpu() if regions.device.type == "mps" else regions  # which pools to divisors of H and W only
    guides = F.adaptive_avg_pool2d(own, (height, width)).to(features)  # (1, R, h, w)
    shares = guides.float().square().mean(dim=(2, 3))[0]  # (R,)
    grams = [gram(features * guides[:, [place]]) for place in range(guides.shape[1])]
    least = torch.finfo(shares.dtype).tiny
    return torch.cat(grams) / shares.clamp_min(least).view(-1, 1, 1), shares


def content_loss(features: Tensor, target: Tensor, scaling: Scaling = "energy") -> Tensor:
    """Squared feature error of one layer, both (N, C, H, W), mean over the batch: Gupta et al. 2017, eq. (2).

    paper: ‖φ(p) - φ(c)‖² / (C·H·W). energy: the same divided by mean φ(c)² of each picture.
    """
    error = (features - target).float() if features.dtype != torch.float64 else features - target
    per_picture = error.square().mean(dim=(1, 2, 3))
    if scaling == "energy":
        per_picture = per_picture / content_energy(target)
    return per_picture.mean()


def style_loss(grams: Tensor, target: Tensor, scaling: Scaling = "energy", weights: Tensor | None = None) -> Tensor:
    """Squared Frobenius distance of one layer's Gram matrices (N, C, C) and (1 or N, C, C), batch mean: eq. (3).

    paper: ‖G(p) - G(s)‖²_F. energy: divided by ‖G(s)‖²_F. `weights` (N,) are those of the pictures in the mean.
    """
    per_picture = (grams - target).square().sum(dim=(1, 2))
    if scaling == "energy":
        per_picture = per_picture / target.square().sum(dim=(1, 2)).clamp_min(torch.finfo(target.dtype).tiny)
    return per_picture.mean() if weights is None else (weights * per_picture).mean()


def temporal_loss(current: Tensor, previous: Tensor, forward: Tensor, mask: Tensor) -> Tensor:
    """Change of the picture along the flow, Gupta et al. 2017, eq. (6)-(7): ‖m ⊙ p_{t-1} - m ⊙ p̃_t‖² / (H·W).

    p̃_t is `current` p_t (N, 3, H, W) warped by the *forward* flow (N, 2, H, W) from frame t-1 to t, so it lies on
    `previous` p_{t-1}; `mask` (N, 1, H, W) belongs to that flow. Summed over the three channels, mean over the batch.
    """
    return _masked_square(warp(current, forward) - previous, mask)


def ruder_temporal_loss(current: Tensor, warped_previous: Tensor, mask: Tensor) -> Tensor:
    """Distance to the previous result warped by the *backward* flow, weighed by its mask: Ruder et al. 2016, eq. (7).

    c (p - ω)², where `temporal_loss` has m². Shapes and sums as there, except that Ruder divides by 3·H·W: here by H·W.
    """
    return _masked_square(current - warped_previous, mask.sqrt())


def shift_loss(one: Tensor, other: Tensor, offset: tuple[int, int], border: int) -> Tensor:
    """How much a picture changes when its content is moved by whole pixels: the mean square where two of it overlap.

    `one` and `other` (N, C, H, W) are what a network makes of two crops of one photograph; `offset` is by how many rows
    and columns the second crop lies further down and to the right, so `other` at (y, x) shows what `one` shows at
    (y, x) + offset. The outer `border` pixels of the overlap, which depend on what lies beyond a crop, do not count.
    It is 0 for a network that commutes with the shift. Raises NststabError where nothing overlaps.
    """
    (top, left), (height, width) = offset, one.shape[-2:]
    if one.shape != other.shape or min(height - abs(top), width - abs(left)) <= 2 * border:
        raise NststabError(
            f"expected pictures of one size that overlap by more than {2 * border} pixels, got {tuple(one.shape)} and "
            f"{tuple(other.shape)} at {offset}"
        )
    first = one[..., max(top, 0) : height + min(top, 0), max(left, 0) : width + min(left, 0)]
    second = other[..., max(-top, 0) : height - max(top, 0), max(-left, 0) : width - max(left, 0)]
    return F.pad(first - second, (-border,) * 4).square().mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels of (N, 3, H, W), both directions added (Johnson et al. 2016)."""
    rows = images.diff(dim=-2).square().mean() if images.shape[-2] > 1 else images.new_zeros(())
    columns = images.diff(dim=-1).square().mean() if images.shape[-1] > 1 else images.new_zeros(())
    return rows + columns


def style_target(network: PerceptualNetwork, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
    """Gram matrices (1, C, C) of a style image (1, 3, H, W) at `layers`, computed once and kept."""
    grams: dict[str, Tensor] = {}
    with torch.no_grad():
        for tile in network.tiles(image, layers, _TILE):  # it may be large
            cores = tile.cores(network)
            for layer in layers:
                if cores[layer].numel():
                    part = gram(cores[layer]) * tile.share(layer)
                    grams[layer] = grams[layer] + part if layer in grams else part
    return grams


def blend(targets: Sequence[StyleTarget], weights: Sequence[float]) -> dict[str, Tensor]:
    """One target in place of several: the mean of their Gram matrices, by weights of which only the ratios matter.

    It is what minimises Σ wᵢ ‖G - Gᵢ‖², and the sum is W ‖G - Ḡ‖² and a constant, W = Σ wᵢ: so eq. (3) with the blend
    pulls exactly as all of them together, in one evaluation. Only layers that all targets have are kept.

    Raises:
        ValueError: not one weight for each target, weights that are negative or all zero, no layer in common, or Gram
            matrices of different networks.
    """
    if not targets or len(targets) != len(weights):
        raise NststabError(f"expected one weight for each style, got {len(targets)} styles and {len(weights)} weights")
    if not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise NststabError(f"expected weights of at least 0 and one above it, got {', '.join(map(str, weights))}")
    layers = [layer for layer in targets[0] if all(layer in target for target in targets)]
    if not layers:
        raise NststabError("the styles have no layer in common")
    for layer in layers:
        sizes = {target[layer].shape[-1] for target in targets}
        if len(sizes) > 1:
            raise NststabError(
                f"expected Gram matrices of one size at {layer}, got {', '.join(map(str, sorted(sizes)))}"
            )
    parts = [weight / sum(weights) for weight in weights]
    return {
        layer: torch.stack([part * target[layer] for part, target in zip(parts, targets, strict=True)]).sum(dim=0)
        for layer in layers
    }


class PerceptualLoss:
    """Content and style loss of pictures, eq. (1)-(3): λ_c L_c + λ_s L_s, plus total variation where it has a weight.

    Args:
        style: Gram matrices; of several styles, each of which holds in a region of the picture.
        dtype: of the network's arithmetic; Gram matrices, sums and terms stay in float32. None leaves it to an autocast
            around the call.

    Raises:
        ValueError: the style target lacks a layer, or the network does not reach one.
    """

    def __init__(
        self,
        network: PerceptualNetwork,
        style: StyleTarget | Sequence[StyleTarget],
        settings: LossSettings,
        dtype: torch.dtype | None = None,
    ) -> None:
        styles = [style] if isinstance(style, Mapping) else list(style)
        for one in styles:
            if missing := [layer for layer in settings.style_layers if layer not in one]:
                raise NststabError(f"the style has no Gram matrix at {', '.join(missing)}; it has {', '.join(one)}")
        self.network = network
        self.settings = settings
        self.dtype = dtype
        self._style = {layer: torch.cat([one[layer] for one in styles]) for layer in settings.style_layers}
        self._count = len(styles)
        self._layers = tuple(dict.fromkeys(settings.content_layers + settings.style_layers))
        network.require(self._layers)

    def content_targets(self, images: Tensor) -> dict[str, Tensor]:
        """Features of the content pictures (N, 3, H, W) at the content layers, without gradient."""
        with torch.no_grad(), self._arithmetic(images):
            targets: dict[str, Tensor] = self.network(images, self.settings.content_layers)
        return targets

    def __call__(
        self, images: Tensor, content_targets: Mapping[str, Tensor], regions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Weighted terms "content", "style" and, if weighted, "tv" of `images` (N, 3, H, W): scalars to be summed.

        regions: (1, R, H, W) of one picture, the masks of R styles; without it they share the whole picture equally.
        """
        with self._arithmetic(images):
            features = self.network(images, self._layers)
        return self._terms(images, features, content_targets, regions)

    def content_terms(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What `content_targets` gives for pictures, and their own terms as of a call, by one pass without gradient."""
        with torch.no_grad(), self._arithmetic(images):
            features = self.network(images, self._layers)
            targets = {layer: features[layer] for layer in self.settings.content_layers}
            return targets, self._terms(images, features, targets, None)

    def _terms(
        self, images: Tensor, features: Mapping[str, Tensor], targets: Mapping[str, Tensor], regions: Tensor | None
    ) -> dict[str, Tensor]:
        settings = self.settings
        content = [content_loss(features[j], targets[j], settings.scaling) for j in settings.content_layers]
        style = [self._style_loss(features[j], j, regions) for j in settings.style_layers]
        terms = {
            "content": settings.content_weight * torch.stack(content).sum(),
            "style": settings.style_weight * torch.stack(style).sum(),
        }
        if settings.tv_weight:
            terms["tv"] = settings.tv_weight * total_variation(images)
        return terms

    def _style_loss(self, features: Tensor, layer: str, regions: Tensor | None) -> Tensor:
        """Of one layer. That of a region counts by its share, so that a pixel is pulled as in a picture of one style.

        Gatys et al. 2017 weigh all regions alike, so that a small one is pulled harder.
        """
        target, scaling = self._style[layer], self.settings.scaling
        if regions is None:
            parts = [style_loss(gram(features), one[None], scaling) for one in target]
            return torch.stack(parts).mean() if len(parts) > 1 else parts[0]
        grams, shares = regional_grams(features, regions)
        return self._count * style_loss(grams, target, scaling, shares)

    def _arithmetic(self, images: Tensor) -> AbstractContextManager[None]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32)


def content_energy(target: Tensor) -> Tensor:
    """Mean square of each picture's target (N, C, H, W): (N,), never zero."""
    values = target.float() if target.dtype != torch.float64 else target
    return values.square().mean(dim=(1, 2, 3)).clamp_min(torch.finfo(values.dtype).tiny)


def _masked_square(difference: Tensor, mask: Tensor) -> Tensor:
    return (mask * difference).square().sum(dim=(1, 2, 3)).mean() / (difference.shape[-2] * difference.shape[-1])
