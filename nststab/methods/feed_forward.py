"""A transformation network as a stylizer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

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
                painting = Painting(frame.rgb, previous)
            else:
                styles = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
                painting = Painting(frame.rgb, previous, styles, self._strength(frame))
            ((painted, previous),) = paint(self._engine, painting)
            if self._state is not None and self._state.is_due(frame.number + 1):
                self._state.keep(frame.number + 1, previous)
            yield frame.with_rgb(painted)


class Run(NamedTuple):
    """What a network is run on, as an `Engine` takes it."""

    frame: Tensor
    previous: Tensor | None
    style: Tensor | None


@dataclass(frozen=True)
class Painting:
    """A frame `rgb` (1, 3, H, W) that is to be painted: the runs of the network it takes, and what is made of them.

    What is dark or flat stays so (`preserve_flat`), outside of the recurrence, which the network was trained for.

    Between 0 and 1 the `strength` mixes the scales and shifts of the style with those that draw the photograph, so
    strokes grow out of it; what these leave out of the photograph, its finest detail, is added as far as it shows. The
    two are not mixed as pictures, which would look like a double exposure.

    Args:
        previous: what `done` gave beside the frame before.
        styles: weights of the network's rows: (1, S) of the style, or (2, S) of it and of the photograph; None where
            there is one row.
    """

    rgb: Tensor
    previous: Tensor | None = None
    styles: Tensor | None = None
    strength: float = 1.0

    def runs(self) -> list[Run]:
        """One, at strength 0 none, between two: of the style and of the photograph."""
        of_style, of_photograph = (None, None) if self.previous is None else (self.previous[:1], self.previous[-1:])
        if self.styles is None or self.strength == 1:
            return [Run(self.rgb, of_style, None if self.styles is None else self.styles[:1])]
        if self.strength == 0:
            return []
        mixed = torch.lerp(self.styles[1:], self.styles[:1], self.strength)
        return [Run(self.rgb, of_style, mixed), Run(self.rgb, of_photograph, self.styles[1:])]

    def done(self, drawn: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The stylized frame (1, 3, H, W) on the CPU, and what a recurrent network sees of it with the next one.

        Raises NststabError where the network's arithmetic overflowed.
        """
        if not drawn:
            return self.rgb, None
        if not all(map(is_finite, drawn)):
            raise NststabError(
                "the network makes no picture of this frame but NaN or infinity: its weights overflow; "
                "try the precision float32, or another network"
            )
        content = self.rgb.to(drawn[0])
        painted, *plain = (preserve_flat(result, content) for result in drawn)
        if plain:
            painted = (painted + (1 - self.strength) * (content - plain[0])).clamp(0, 1)
        return painted.cpu(), torch.cat(tuple(drawn)) if plain else drawn[0]


def paint(engine: Engine, *paintings: Painting) -> list[tuple[Tensor, Tensor | None]]:
    """What each `Painting.done` gives, an independent network nothing for the next frame.

    The runs of one frame go one after the other, those of several, which are of one size, in one batch.
    """
    runs = [painting.runs() for painting in paintings]
    flat = list(chain(*runs))
    drawn = iter([engine(*run) for run in flat] if len(paintings) == 1 else _batch(engine, flat))
    made = [painting.done(list(islice(drawn, len(own)))) for painting, own in zip(paintings, runs, strict=True)]
    return [(painted, state if engine.is_recurrent else None) for painted, state in made]


def _batch(engine: Engine, runs: Sequence[Run]) -> Sequence[Tensor]:
    """Results (1, 3, H, W); frames that begin a shot see zeros."""
    if not runs:
        return []
    frames, states, styles = zip(*runs, strict=True)
    known = next((state for state in states if state is not None), None)
    previous = None
    if known is not None:
        previous = torch.cat([torch.zeros_like(known) if state is None else state for state in states])
    return torch.split(engine(torch.cat(frames), previous, None if styles[0] is None else torch.cat(styles)), 1)
