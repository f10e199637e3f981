"""Style transfer of a clip by optimisation, tied to the previous frame by optical flow (Ruder et al. 2016)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nststab.flow import FlowFunction
from nststab.flow_pairs import FlowPair, flow_ahead
from nststab.losses import PerceptualLoss, ruder_temporal_loss
from nststab.warp import warp

from .gatys import Callback, Gatys, GatysSettings, objective, optimize


@dataclass(frozen=True)
class RuderSettings:
    """How a clip is optimised.

    Attributes:
        gatys: of the first frame; its optimizer and tolerance serve the later ones too.
        later_iterations: updates of each later frame at most.
        temporal_weight: of `losses.ruder_temporal_loss`, beside a content and style loss scaled by energy. On DAVIS
            `soapbox`, 50 raises the style loss by 10 % and leaves less change along the flow than the input has; 200
            raises it by a quarter and pushes the style into the untrusted pixels, as dark outlines.

    Raises:
        ValueError: a setting out of its range.
    """

    gatys: GatysSettings = field(default_factory=GatysSettings)
    later_iterations: int = 150
    temporal_weight: float = 50.0

    def __post_init__(self) -> None:
        for name in ("later_iterations", "temporal_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"expected {name} of at least 0, got {getattr(self, name)}")


class Ruder:
    """Ruder et al. 2016 in a single pass with the short-term constraint: a `Stylizer`.

    The first frame is Gatys'. Each later one begins with the previous result warped by the backward flow, and is kept
    near to it where that flow can be trusted, eq. (7), by the term "temporal". Disoccluded pixels begin with the warped
    picture too, as in the paper, and are then free. Only the previous result and a few frames of look-ahead, whose flow
    is computed meanwhile, are held.

    Args:
        loss, callback, device, start: as for `Gatys`; `start` is the first frame's.
        flow: gets frames on the CPU, from several threads.

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
    ) -> None:
        self._loss = loss
        self._flow = flow
        self._settings = settings
        self._callback = callback
        self._device = device
        self._gatys = Gatys(loss, settings.gatys, callback, device, start)

    def __call__(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        previous: Tensor | None = None
        for frame, pairs in flow_ahead(frames, self._flow):
            previous = self._gatys.stylize(frame) if previous is None else self._follow(frame, previous, pairs[1])
            yield previous

    def _follow(self, frame: Tensor, previous: Tensor, pair: FlowPair) -> Tensor:
        """The result for `frame` (1, 3, H, W) after the result `previous`."""
        warped = warp(previous, pair.backward).to(self._device)
        mask = pair.backward_mask.to(self._device)
        perceptual = objective(self._loss, frame.to(self._device))
        weight = self._settings.temporal_weight

        def terms(pixels: Tensor) -> dict[str, Tensor]:
            return {**perceptual(pixels), "temporal": weight * ruder_temporal_loss(pixels, warped, mask)}

        settings = replace(self._settings.gatys, iterations=self._settings.later_iterations)
        return optimize(warped, terms, settings, self._callback).cpu()
