"""Style transfer of a clip by optimisation, tied to the previous frames by optical flow (Ruder et al. 2016)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.losses import PerceptualLoss, ruder_temporal_loss
from nststab.warp import warp

from .gatys import Callback, Gatys, GatysSettings, Keep, Objective, objective, optimize


@dataclass(frozen=True)
class RuderSettings:
    """How a clip is optimised.

    Attributes:
        gatys: of the first frame; its optimizer and tolerance serve the later ones too.
        later_iterations: updates of each later frame at most.
        temporal_weight: of `losses.ruder_temporal_loss`, beside a content and style loss scaled by energy. On DAVIS
            `soapbox`, 50 raises the style loss by 10 % and leaves less change along the flow than the input has; 200
            raises it by a quarter and pushes the style into the untrusted pixels, as dark outlines.
        long_term: J, how many frames before it lie the ones that a frame is tied to, the nearest first: 1, 2, 4 in the
            paper. 1 must be among them: the optimisation begins with that result. Each costs a flow in both directions.

    Raises:
        ValueError: a setting out of its range.
    """

    gatys: GatysSettings = field(default_factory=GatysSettings)
    later_iterations: int = 150
    temporal_weight: float = 50.0
    long_term: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        for name in ("later_iterations", "temporal_weight"):
            if not getattr(self, name) >= 0:
                raise NststabError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if self.long_term[:1] != (1,) or list(self.long_term) != sorted(set(self.long_term)):
            raise NststabError(f"expected long_term to rise from 1, as in (1, 2, 4), got {self.long_term}")


class Ruder:
    """Ruder et al. 2016 in a single pass: a `Stylizer`.

    The first frame is Gatys'. Each later one begins with the previous result warped by the backward flow, and is kept
    near to it where that flow can be trusted, eq. (7), by the term "temporal". Disoccluded pixels begin with the warped
    picture too, as in the paper, and are then free, unless a result farther back, of `RuderSettings.long_term`, knows
    them, eq. (8). Only these results and a few frames of look-ahead, whose flow is computed meanwhile, are held.

    Args:
        loss, callback, device, keep: as for `Gatys`.
        flow: gets frames on the CPU, from several threads.
        start, coarse: as for `Gatys`, of the first frame.

    Raises:
        ValueError: `start` gives another size than the first frame's. Diverged: as for `Gatys`.
    """

    def __init__(
        self,
        loss: PerceptualLoss,
        flow: FlowFunction,
        settings: RuderSettings,
        callback: Callback | None = None,
        device: torch.device | str = "cpu",
        start: Callable[[Tensor], Tensor] | None = None,
        keep: Keep | None = None,
        coarse: Sequence[PerceptualLoss] = (),
    ) -> None:
        self._loss = loss
        self._flow = flow
        self._settings = settings
        self._callback = callback
        self._device = device
        self._keep = keep or (lambda compute: compute())
        self._gatys = Gatys(loss, settings.gatys, callback, device, start, keep, coarse)

    def __call__(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        before: deque[Tensor] = deque(maxlen=max(self._settings.long_term))
        for frame, pairs in flow_ahead(frames, self._flow, self._settings.long_term):
            result = self._follow(frame, before, pairs) if before else self._gatys.stylize(frame)
            before.append(result)
            yield result

    def _follow(self, frame: Tensor, before: Sequence[Tensor], pairs: Mapping[int, FlowPair]) -> Tensor:
        """The result for `frame` (1, 3, H, W) after the results `before`, the last of which is the previous one."""

        def compute() -> Tensor:
            warped = [warp(before[-distance], pair.backward).to(self._device) for distance, pair in pairs.items()]
            masks = long_term_masks([pair.backward_mask.to(self._device) for pair in pairs.values()])
            perceptual = objective(self._loss, frame.to(self._device))
            terms = tied(perceptual, warped, masks, self._settings.temporal_weight)
            settings = replace(self._settings.gatys, iterations=self._settings.later_iterations)
            return optimize(warped[0], terms, settings, self._callback).cpu()

        return self._keep(compute)


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
