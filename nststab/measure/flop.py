"""How much arithmetic something is: convolutions and matrix products, a multiply-add as two."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered `flop` grows by the FLOP of convolutions and matrix products, forward and backward.

    By the formulas of `torch.utils.flop_counter`. Its own `FlopCounterMode` also follows the modules, with hooks that
    `torch.autograd.grad` refuses.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        return result


def flop_of(job: Callable[[], object]) -> int:
    """FLOP of `job`."""
    counter = FlopCounter()
    with counter:
        job()
    return counter.flop
