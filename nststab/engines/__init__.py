"""What runs a network: the same arithmetic on different machines, behind one protocol."""

from typing import TYPE_CHECKING, Literal, Protocol

from torch import Tensor, device

from nststab.errors import NststabError
from nststab.settings import Precision

if TYPE_CHECKING:
    from nststab.networks.transformation import TransformationNetwork

EngineName = Literal["torch", "openvino", "onnx"]


class Engine(Protocol):
    """Runs one network in one arithmetic; frames of any size."""

    @property
    def is_recurrent(self) -> bool:
        """Whether the network sees the previous stylized frame."""
        ...

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        """The stylized `frame`, float32 (N, 3, H, W) in [0, 1]; `previous` is a result of the same engine.

        `style` (N, S) weighs the network's styles; None stands for the only one. Threads may share an engine.
        """
        ...


def make_engine(
    name: EngineName,
    network: "TransformationNetwork",
    where: device | str = "cpu",
    precision: Precision = "float32",
    memory: int | None = None,
) -> Engine:
    """The engine of a name; raises NststabError where it is not installed, or not made for the device.

    memory: bytes that the process may take; torch alone keeps to them.
    """
    from nststab.engines.torch_engine import StripEngine, TorchEngine

    if name == "torch" and memory is not None:
        return StripEngine(network, memory, where, precision)
    if name == "torch":
        return TorchEngine(network, where, precision)
    if device(where).type != "cpu":
        raise NststabError(f"the engine {name} runs on the processor here, not on {where}; say device=cpu")
    if name == "onnx":
        from nststab.engines.onnx_engine import OnnxEngine

        return OnnxEngine(network, precision)
    from nststab.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(network, precision)
