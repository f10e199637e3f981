"""A transformation network as a stylizer."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nststab.color import preserve_flat
from nststab.engines import Engine
from nststab.engines.torch_engine import TorchEngine
from nststab.errors import NststabError
from nststab.frames import Frame, is_finite
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision
from nststab.storage.parts import State


class FeedForward:
    """Stylizes with a transformation network, p_t = f(c_t) or p_t = f(p_{t-1}, c_t) (Gupta et al. 2017, section 4).

    Frames come back in float32 on the CPU, whatever the `device` and the `precision` of the network's arithmetic.

    Args:
        network: which torch runs on `device` in `precision`; or an engine that runs one.
        style: (1, S), weights of the network's styles; None for a network of one.
        state: keeps the recurrence, and says which frames are finished: they are given back as they came.
    """

    def __init__(
        self,
        network: TransformationNetwork | Engine,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        style: Tensor | None = None,
        state: State | None = None,
    ) -> None:
        if isinstance(network, TransformationNetwork):
            network = TorchEngine(network, device, precision)
        self._engine: Engine = network
        self._style, self._state = style, state

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        previous: Tensor | None = None
        for frame in frames:
            if self._state is not None and frame.number < self._state.frames:
                previous = self._state.restored() if frame.number == self._state.frames - 1 else None
                yield frame
                continue
            painted, previous = paint(self._engine, frame.rgb, previous, self._style)
            if self._state is not None and self._state.is_due(frame.number + 1):
                self._state.keep(frame.number + 1, previous)
            yield frame.with_rgb(painted)


def paint(
    engine: Engine, rgb: Tensor, previous: Tensor | None = None, style: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The stylized frame (1, 3, H, W) on the CPU, and what a recurrent network sees of it with the next one.

    What is dark or flat stays so (`preserve_flat`), outside of the recurrence, which the network was trained for.
    Raises NststabError where the network's arithmetic overflows.
    """
    result = engine(rgb, previous, style)
    if not is_finite(result):
        raise NststabError(
            "the network makes no picture of this frame but NaN or infinity: its weights overflow; "
            "try the precision float32, or another network"
        )
    painted = preserve_flat(result, rgb.to(result)).cpu()
    return painted, result if engine.is_recurrent else None
