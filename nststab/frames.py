"""A frame, and what stylizes a stream of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol, Self

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with what belongs to it, on its way from a source through stylizers to a sink.

    Attributes:
        rgb: (1, 3, H, W), float32 in [0, 1].
        number: its place in the clip, from 0, counted before the clip is cut into shots.
        time, duration: in seconds; None where the source has none.
        alpha: (1, 1, H, W) in [0, 1], the picture's opacity.
        mask: (1, 1, H, W) in [0, 1], 1 where it is to be stylized.
    """

    rgb: Tensor
    number: int = 0
    time: Fraction | None = None
    duration: Fraction | None = None
    alpha: Tensor | None = None
    mask: Tensor | None = None

    def with_rgb(self, rgb: Tensor) -> Self:
        """Another picture in the place of this one."""
        return replace(self, rgb=rgb)


class Stylizer(Protocol):
    """Frames of one shot in, as many out, in order; state lives in the call, so a new shot is a new call."""

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]: ...
