"""Style transfer of a clip by optimisation, tied to the previous frames by optical flow (Ruder et al. 2016)."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.frames import Frame
from nststab.losses import ruder_temporal_loss
from nststab.warp import warp

from .gatys import Gatys, Objective, objective, optimize
from .settings import RuderSettings


@dataclass(frozen=True, eq=False)
class Ruder:
    """Ruder et al. 2016 in a single pass: a `Stylizer`.

    The first frame is that of `gatys`, whose loss, optimizer and tolerance serve the later ones too. Each later one
    begins with the previous result warped by the backward flow, and is kept near to it where that flow can be trusted,
    eq. (7), by the term "temporal". Disoccluded pixels begin with the warped picture too, as in the paper, and are then
    free, unless a result farther back, of `RuderSettings.long_term`, knows them, eq. (8). Only these results and a few
    frames of look-ahead, whose flow is computed meanwhile, are held.

    `flow` gets frames on the CPU, from several threads. It raises as `Gatys` does.
    """

    gatys: Gatys
    flow: FlowFunction
    settings: RuderSettings

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        before: deque[Tensor] = deque(maxlen=max(self.settings.long_term))
        for frame, pairs in flow_ahead(frames, self.flow, self.settings.long_term):
            result = self._follow(frame, before, pairs) if before else self.gatys.stylize(frame.rgb, frame.mask)
            before.append(result)
            yield frame.with_rgb(result)

    def _follow(self, frame: Frame, before: Sequence[Tensor], pairs: Mapping[int, FlowPair]) -> Tensor:
        """The result for `frame` after the results `before`, the last of which is the previous one."""
        gatys, device = self.gatys, self.gatys.device

        def compute() -> Tensor:
            warped = [warp(before[-distance], pair.backward).to(device) for distance, pair in pairs.items()]
            masks = long_term_masks([pair.backward_mask.to(device) for pair in pairs.values()])
            perceptual = objective(gatys.loss, frame.rgb.to(device), frame.mask, gatys.settings.chroma_weight)
            terms = tied(perceptual, warped, masks, self.settings.temporal_weight)
            settings = replace(gatys.settings, iterations=self.settings.later_iterations)
            return optimize(warped[0], terms, settings, gatys.callback).cpu()

        return gatys.keep(compute) if gatys.keep else compute()


def long_term_masks(masks: Sequence[Tensor]) -> list[Tensor]:
    """Each mask (1, 1, H, W), the nearest frame's first, without what nearer ones trust: Ruder et al. 2016, eq. (9).

    c_long^j = max(c^j - Σ_k c^k, 0) over the nearer frames k. As in the paper the whole masks are summed; Ruder's
    program subtracts those already reduced, which differs only where three or more are between 0 and 1.
    """
    reduced: list[Tensor] = []
    nearer = torch.zeros_like(masks[0])
    for mask in masks:
        reduced.append((mask - nearer).clamp_min(0))
        nearer = nearer + mask
    return reduced


def tied(perceptual: Objective, warped: Sequence[Tensor], masks: Sequence[Tensor], weight: float) -> Objective:
    """`perceptual` and the term "temporal": `weight` times the distance to each of `warped` under its mask, summed.

    Ruder et al. 2016, eq. (7) and (8). Pictures (1, 3, H, W), masks (1, 1, H, W).
    """

    def terms(pixels: Tensor) -> dict[str, Tensor]:
        distances = [ruder_temporal_loss(pixels, *known) for known in zip(warped, masks, strict=True)]
        return {**perceptual(pixels), "temporal": weight * torch.stack(distances).sum()}

    return terms
