"""A transformation network as a stylizer."""

from collections.abc import Callable, Iterable, Iterator

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
        strength: of each frame, from 0 to 1, for a network of two rows: one that draws the photograph as it is, and the
            style. None is for a network of one style, at its full strength.
        state: keeps the recurrence, and says which frames are finished: they are given back as they came.
    """

    def __init__(
        self,
        network: TransformationNetwork | Engine,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        strength: Callable[[Frame], float] | None = None,
        state: State | None = None,
    ) -> None:
        if isinstance(network, TransformationNetwork):
            network = TorchEngine(network, device, precision)
        self._engine: Engine = network
        self._strength, self._state = strength, state

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        previous: Tensor | None = None
        for frame in frames:
            if self._state is not None and frame.number < self._state.frames:
                previous = self._state.restored() if frame.number == self._state.frames - 1 else None
                yield frame
                continue
            if self._strength is None:
                painted, previous = paint(self._engine, frame.rgb, previous)
            else:
                styles = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
                painted, previous = paint(self._engine, frame.rgb, previous, styles, self._strength(frame))
            if self._state is not None and self._state.is_due(frame.number + 1):
                self._state.keep(frame.number + 1, previous)
            yield frame.with_rgb(painted)


def paint(
    engine: Engine,
    rgb: Tensor,
    previous: Tensor | None = None,
    styles: Tensor | None = None,
    strength: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """The stylized frame (1, 3, H, W) on the CPU, and what a recurrent network sees of it with the next one.

    What is dark or flat stays so (`preserve_flat`), outside of the recurrence, which the network was trained for.

    Between 0 and 1 the `strength` mixes the scales and shifts of the style with those that draw the photograph, so
    strokes grow out of it; what these leave out of the photograph, its finest detail, is added as far as it shows. The
    two are not mixed as pictures, which would look like a double exposure.

    Args:
        previous: what came with the frame before, in this call's place.
        styles: weights of the network's rows: (1, S) of the style, or (2, S) of it and of the photograph; None where
            there is one row.

    Raises NststabError where the network's arithmetic overflows.
    """
    if styles is None or strength == 1:
        style = None if styles is None else styles[:1]
        result = _finite(engine(rgb, None if previous is None else previous[:1], style))
        painted = preserve_flat(result, rgb.to(result)).cpu()
        return painted, result if engine.is_recurrent else None
    if strength == 0:
        return rgb, None
    of_style, of_photograph = (None, None) if previous is None else (previous[:1], previous[-1:])
    result = _finite(engine(rgb, of_style, torch.lerp(styles[1:], styles[:1], strength)))
    plain = _finite(engine(rgb, of_photograph, styles[1:]))
    content = rgb.to(result)
    painted = (preserve_flat(result, content) + (1 - strength) * (content - preserve_flat(plain, content))).clamp(0, 1)
    return painted.cpu(), torch.cat((result, plain)) if engine.is_recurrent else None


def _finite(result: Tensor) -> Tensor:
    if not is_finite(result):
        raise NststabError(
            "the network makes no picture of this frame but NaN or infinity: its weights overflow; "
            "try the precision float32, or another network"
        )
    return result
