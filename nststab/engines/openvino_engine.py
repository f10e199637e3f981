"""Networks run by OpenVINO on x86 and Arm processors (the package openvino)."""

import ctypes
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nststab.engines.onnx_engine import BORDERS, OnnxFile
from nststab.errors import NststabError
from nststab.networks.transformation import EPSILON, ConvolutionBlock, ResidualBlock, TransformationNetwork
from nststab.settings import Precision

_FIRST = threading.Lock()
_KEPT = 2  # graphs, compiled: a clip has one, and somebody may go back and forth between two sizes


class OpenVinoEngine:
    """An `Engine` that runs a network by OpenVINO on the processor, in float32 or bfloat16.

    Its graph is built from the network's weights, and compiled for each number and size of frames when they come.

    Raises:
        NststabError: the package openvino is not installed, or float16, which OpenVINO has not on processors.
    """

    def __init__(self, network: TransformationNetwork, precision: Precision = "float32") -> None:
        if precision == "float16":
            raise NststabError("the engine openvino computes in float32 or bfloat16 on a processor, not in float16")
        self._network = network.cpu().eval()
        self._openvino = imported_openvino()
        self._hints = _hints("bf16" if precision == "bfloat16" else "f32")
        self._requests: OrderedDict[tuple[int, int, int], Any] = OrderedDict()
        self._lock = threading.Lock()  # a request computes for one thread at a time

    @property
    def is_recurrent(self) -> bool:
        return self._network.config.recurrent

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        framed = self._network.framed(frame, previous, style)
        inputs = [framed.x.numpy()] if style is None else [framed.x.numpy(), style.numpy()]
        count, _, height, width = framed.x.shape
        with self._lock, own_signal_stack():
            (result,) = self._request((count, height, width)).infer(inputs).values()
            result = result.copy()  # the next frame is written to the same memory
        return framed.cropped(torch.from_numpy(result))

    def _request(self, size: tuple[int, int, int]) -> Any:
        """What computes so many frames of a height and width, the least used of which is forgotten."""
        if size not in self._requests:
            model = _Graph(self._openvino, self._network).of(*size)
            compiled = self._openvino.Core().compile_model(model, "CPU", self._hints)
            self._requests[size] = compiled.create_infer_request()
            while len(self._requests) > _KEPT:
                self._requests.popitem(last=False)
        self._requests.move_to_end(size)
        return self._requests[size]


def _hints(precision: str) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }


class SignalStack(ctypes.Structure):
    """Linux' `stack_t`."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    @classmethod
    def of_thread(cls) -> "SignalStack":
        """Where this thread's signals are handled."""
        stack = cls()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
        return stack


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Gives the thread its stack for signals back.

    OpenVINO sets one of its own, and later frees it: Ctrl-C would then end in a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    stack = SignalStack.of_thread()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None)


def imported_openvino() -> Any:
    """The package, without what reports its use: with it out of reach OpenVINO takes a stub of its own."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.opset13
    except ModuleNotFoundError as error:
        raise NststabError("the engine openvino needs its package: pip install openvino") from error
    except ImportError as error:
        broken = f"OpenVINO is installed and cannot be loaded ({error}): pip install --force-reinstall openvino"
        raise NststabError(f"{broken}, or --engine torch") from error
    with _FIRST:  # its bindings look for NumPy at the first array: two threads that do would wait for each other
        openvino.Tensor(np.zeros(1, np.float32)).data  # noqa: B018
    return openvino


def openvino_format(model: bytes) -> tuple[bytes, bytes]:
    """An ONNX model as OpenVINO keeps it: an `.xml` and the `.bin` beside it, with weights in float16."""
    openvino = imported_openvino()
    with TemporaryDirectory(prefix="nststab_") as folder, own_signal_stack():
        path = Path(folder) / "model.xml"
        openvino.save_model(openvino.Core().read_model(model), str(path), compress_to_fp16=True)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


class OpenVinoFile(OnnxFile):
    """The same of what `openvino_format` made, by OpenVINO on the processor in float32."""

    def __init__(self, graph: bytes, weights: bytes) -> None:
        core = imported_openvino().Core()
        with own_signal_stack():
            compiled = core.compile_model(core.read_model(graph, weights), "CPU", _hints("f32"))
            self._request = compiled.create_infer_request()
        self.inputs = tuple(one.any_name for one in compiled.inputs)

    def _computed(self, fed: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        with own_signal_stack():
            return [one.copy() for one in self._request.infer(fed).values()]


class _Graph:
    def __init__(self, openvino: Any, network: TransformationNetwork) -> None:
        self._openvino, self._ops, self._network = openvino, openvino.opset13, network
        self._style: Any = None

    def of(self, count: int, height: int, width: int) -> Any:
        """For framed frames (N, C, H, W) of this size, and style weights (N, S) where there are several styles."""
        ops, config = self._ops, self._network.config
        frame = ops.parameter([count, config.inputs, height, width], np.float32)
        self._style = ops.parameter([count, config.rows], np.float32) if config.rows > 1 else None
        x = frame
        for layer in (*self._network.encoder, *self._network.blocks, *self._network.decoder):
            x = self._layer(x, layer)
        output = self._network.output
        assert output.bias is not None
        x = self._convolution(x, output.weight, output.stride, output.kernel_size[0] // 2, "reflect")
        x = ops.sigmoid(ops.add(x, _column(output.bias)))
        return self._openvino.Model([x], [frame] if self._style is None else [frame, self._style])

    def _layer(self, x: Any, layer: nn.Module) -> Any:
        if isinstance(layer, ResidualBlock):
            return self._ops.add(x, self._block(self._block(x, layer.first), layer.second))
        assert isinstance(layer, ConvolutionBlock)
        return self._block(x, layer)

    def _block(self, x: Any, block: ConvolutionBlock) -> Any:
        ops, norm = self._ops, block.normalization
        x = self._convolution(x, block.kernel(), block.convolution.stride, block.padding, BORDERS[block.border])
        if block.scale > 1:
            x = ops.depth_to_space(x, "depth_first", block.scale)
        if block.crops:
            x = ops.slice(x, *(np.array(ends) for ends in ([1, 1], [-1, -1], [1, 1], [2, 3])))
        x = ops.mvn(x, np.array([2, 3]), True, EPSILON, "inside_sqrt")
        x = ops.add(ops.multiply(x, self._mixed(norm.scale)), self._mixed(norm.shift))
        return ops.relu(x) if block.relu else x

    def _convolution(self, x: Any, weight: Tensor, stride: Sequence[int], padding: int, border: str) -> Any:
        sides = np.array([0, 0, padding, padding])
        padded = self._ops.pad(x, sides, sides, border)
        return self._ops.convolution(padded, weight.detach().float().numpy(), list(stride), [0, 0], [0, 0], [1, 1])

    def _mixed(self, rows: Tensor) -> Any:
        """Of a scale or shift (S, C) of each style the weighted sums, (N, C, 1, 1), or (1, C, 1, 1) of one style."""
        if self._style is None:
            return _column(rows[0])
        mixed = self._ops.matmul(self._style, rows.detach().float().numpy(), False, False)
        return self._ops.reshape(mixed, np.array([-1, rows.shape[1], 1, 1]), False)


def _column(values: Tensor) -> Any:
    """(C,) as (1, C, 1, 1)."""
    return values.detach().float().numpy().reshape(1, -1, 1, 1)
