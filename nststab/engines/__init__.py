"""What runs a network: the same arithmetic on different machines, behind one protocol."""

from typing import Protocol

from torch import Tensor


class Engine(Protocol):
    """Runs one network in one arithmetic; frames of any size."""

    @property
    def is_recurrent(self) -> bool:
        """Whether the network sees the previous stylized frame."""
        ...

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        """The stylized `frame`, float32 (1, 3, H, W) in [0, 1]; `previous` is a result of the same engine.

        `style` (1, S) weighs the network's styles; None stands for the only one.
        """
        ...
