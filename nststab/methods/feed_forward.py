"""A transformation network as a stylizer."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nststab.engines.torch_engine import autocast
from nststab.frames import Frame
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision


class FeedForward:
    """Stylizes with a transformation network, p_t = f(c_t) or p_t = f(p_{t-1}, c_t) (Gupta et al. 2017, section 4).

    Frames come back in float32 on the CPU, whatever the `device` and the `precision` of the network's arithmetic.
    """

    def __init__(
        self, network: TransformationNetwork, device: torch.device | str = "cpu", precision: Precision = "float32"
    ) -> None:
        self._network = network.to(device).eval()
        self._device = torch.device(device)
        self._precision = precision

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        previous: Tensor | None = None
        for frame in frames:
            current = self._stylize(frame.rgb, previous)
            previous = current if self._network.config.recurrent else None
            yield frame.with_rgb(current.cpu())

    def _stylize(self, frame: Tensor, previous: Tensor | None) -> Tensor:
        with torch.no_grad(), autocast(self._device, self._precision):
            stylized: Tensor = self._network(frame.to(self._device), previous)
        return stylized
