"""Networks run by torch, on CPU, CUDA or MPS."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from nststab.errors import SettingError
from nststab.memory import gib, resident
from nststab.networks.strips import StripNetwork
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision

_FRAMES = 36  # bytes a pixel of three frames: the result, and what is made of it until it is written
_WHOLE = 1500  # bytes a pixel that a network takes for a whole frame at most
_LEAST_ROOM = 200e6


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


class StripEngine(TorchEngine):
    """A `TorchEngine` that keeps the process within `memory` bytes: larger frames go through the network in strips.

    What it needs beside are files of some 250 bytes a pixel, in $TMPDIR or else in /var/tmp. Its results differ from
    those of the whole by less than 1e-5 in float32. Raises SettingError where the frames alone do not fit.
    """

    def __init__(
        self, network: TransformationNetwork, memory: int, device: torch.device | str, precision: Precision
    ) -> None:
        super().__init__(network, device, precision)
        self._memory = memory

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        pixels = frame[0, 0].numel()
        room = self._memory - resident().now - _FRAMES * pixels
        if room >= _WHOLE * pixels:
            return super().__call__(frame, previous, style)
        if room < _LEAST_ROOM:
            least = gib(self._memory - room + _LEAST_ROOM)
            height, width = frame.shape[-2:]
            raise SettingError(f"memory: a frame of {width}x{height} pixels needs {least}, got {gib(self._memory)}")
        where = Path("/var/tmp")  # as /tmp may be memory
        with TemporaryDirectory(
            prefix="nststab_", dir=where if where.is_dir() and "TMPDIR" not in os.environ else None
        ) as folder:
            style = None if style is None else style.to(self._device)
            arithmetic = autocast(self._device, self._precision)
            return StripNetwork(self._network, room, Path(folder), arithmetic)(frame, previous, style)


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Arithmetic of `precision` on `device`; the parameters stay in float32."""
    dtype = getattr(torch, precision)
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)
