"""Networks run by torch, on CPU, CUDA or MPS."""

import torch
from torch import Tensor

from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision


class TorchEngine:
    """An `Engine` that runs a network by torch, and leaves the results on its device."""

    def __init__(
        self, network: TransformationNetwork, device: torch.device | str = "cpu", precision: Precision = "float32"
    ) -> None:
        self._network = network.to(device).eval()
        self._device = torch.device(device)
        self._precision = precision

    @property
    def is_recurrent(self) -> bool:
        return self._network.config.recurrent

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        previous, style = (None if one is None else one.to(self._device) for one in (previous, style))
        with torch.no_grad(), autocast(self._device, self._precision):
            stylized: Tensor = self._network(frame.to(self._device), previous, style)
        return stylized


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Arithmetic of `precision` on `device`; the parameters stay in float32."""
    dtype = getattr(torch, precision)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)
