"""Networks as ONNX graphs, built of their weights, and ONNX Runtime on the processor (the extra `nststab[onnx]`)."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nststab.color import BLACK, FULL_CONTRAST, LIGHT, LUMINANCE, RADIUS_OF
from nststab.errors import NststabError
from nststab.networks.transformation import (
    EPSILON,
    MINIMUM,
    STRIDE,
    ConvolutionBlock,
    InstanceNorm,
    ResidualBlock,
    TransformationNetwork,
)
from nststab.settings import Precision

OPSET, IR_VERSION = 21, 10  # of ONNX 1.16 (2024): the newest that all of today's runtimes read
BORDERS = {"reflect": "reflect", "replicate": "edge"}  # what graphs call the ways in which torch pads
_FRAMES = ("batch", 3, "height", "width")
_LIGHT = ("batch", 1, "height", "width")


def imported_onnx() -> Any:
    """The package onnx, or NststabError that says what to install."""
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise NststabError("ONNX needs its packages: pip install 'nststab[onnx]'") from error
    return onnx


def onnx_model(
    network: TransformationNetwork,
    precision: Precision = "float32",
    *,
    flat: bool = False,
    metadata: Mapping[str, str] = {},
) -> Any:
    """The `onnx.ModelProto` of a network.

    Inputs, all float32: `frame` (N, 3, H, W) in [0, 1]; of a recurrent network `previous`, its last `state`, or zeros
    before the first frame of a shot; of a network of several styles `style` (N, S), their weights. Outputs: `stylized`,
    of the frame's shape; and of a recurrent network `state`. The margin and the padding are parts of the graph.

    Args:
        precision: float32 or float16, of the weights and the arithmetic between input and output.
        flat: leave dark and flat frames so, as `nststab.color.preserve_flat`; `state` is what it was before.

    Raises:
        NststabError: the package onnx is not installed, or the precision is bfloat16.
    """
    if precision == "bfloat16":
        raise NststabError("precision: ONNX is written in float32 or float16, not in bfloat16")
    return _Graph(network, np.dtype(precision)).model(flat, metadata)


class _Graph:
    """Nodes and constants, in the order of the computation. A value is known by its name."""

    def __init__(self, network: TransformationNetwork, dtype: "np.dtype[Any]") -> None:
        self._onnx, self._network, self._dtype = imported_onnx(), network, dtype
        self._nodes: list[Any] = []
        self._numbers = count()
        self._style = ""
        self._constants: dict[tuple[Any, ...], Any] = {}

    def model(self, flat: bool, metadata: Mapping[str, str]) -> Any:
        helper, config = self._onnx.helper, self._network.config
        inputs: dict[str, tuple[str | int, ...]] = {"frame": _FRAMES}
        if config.recurrent:
            inputs["previous"] = _FRAMES
        if config.rows > 1:
            inputs["style"] = ("batch", config.rows)
            self._style = "style" if self._dtype == np.float32 else self._cast("style", self._dtype)
        drawn = self._stylized()
        outputs = {"state": drawn} if config.recurrent else {}
        outputs["stylized"] = self._kept_flat(drawn) if flat else self._op("Identity", drawn)
        for name, value in outputs.items():
            self._rename(value, name)
        kind = self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "nststab",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, _FRAMES) for name in sorted(outputs, reverse=True)],
            list(self._constants.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="nststab")
        helper.set_model_props(model, dict(metadata))
        self._onnx.checker.check_model(model, full_check=True)
        return model

    def _op(self, kind: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """The name of a new node's output; inputs are names, or constants."""
        name = f"{kind}_{next(self._numbers)}"
        names = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self._nodes.append(self._onnx.helper.make_node(kind, names, [name], name=name, **attributes))
        return name

    def _rename(self, value: str, name: str) -> None:
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if one == value else one for one in names]

    def _constant(self, value: NDArray[Any]) -> str:
        """The name of a constant; equal ones are kept once."""
        key = (value.dtype.name, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        return str(self._constants[key].name)

    def _weight(self, value: Tensor) -> str:
        """A constant in the precision of the arithmetic, kept in half of its bytes where that loses nothing."""
        full = value.detach().float().numpy()
        half = full.astype(np.float16)
        if self._dtype == np.float32 and not (half == full).all():
            return self._constant(full)
        name = self._constant(half)
        return name if self._dtype == np.float16 else self._cast(name, self._dtype)

    def _stylized(self) -> str:
        """What the network draws of the frame, float32."""
        network, config = self._network, self._network.config
        size = self._op("Shape", "frame", start=2)
        margin = self._op("Min", self._op("Sub", size, _ints(1)), _ints(config.margin))
        x = self._op("Concat", "frame", "previous", axis=1) if config.recurrent else "frame"
        if config.margin:
            x = self._op("Pad", x, self._op("Concat", _ints(0, 0), margin, _ints(0, 0), margin, axis=0), mode="reflect")
        x = self._op("Pad", x, self._op("Concat", _ints(0, 0, 0, 0, 0, 0), self._missing(x), axis=0), mode="edge")
        if self._dtype == np.float16:
            x = self._cast(x, self._dtype)
        for layer in (*network.encoder, *network.blocks, *network.decoder):
            x = self._layer(x, layer)
        output = network.output
        assert output.bias is not None
        padding, bias = output.kernel_size[0] // 2, self._weight(output.bias)
        x = self._convolution(x, output.weight, output.stride, padding, "reflect", bias)
        x = self._op("Sigmoid", x)
        if self._dtype == np.float16:
            x = self._cast(x, np.dtype(np.float32))
        return self._op("Slice", x, margin, self._op("Add", margin, size), _ints(2, 3))

    def _missing(self, x: str) -> str:
        """How many rows and columns make a multiple of the stride of `x`, large enough to be reflected after it."""
        size = self._op("Shape", x, start=2)
        strides = self._op("Div", self._op("Add", size, _ints(STRIDE - 1)), _ints(STRIDE))
        return self._op("Sub", self._op("Max", self._op("Mul", strides, _ints(STRIDE)), _ints(MINIMUM)), size)

    def _cast(self, x: str, dtype: "np.dtype[Any]") -> str:
        return self._op("Cast", x, to=self._onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def _layer(self, x: str, layer: nn.Module) -> str:
        if isinstance(layer, ResidualBlock):
            return self._op("Add", x, self._block(self._block(x, layer.first), layer.second))
        assert isinstance(layer, ConvolutionBlock)
        return self._block(x, layer)

    def _block(self, x: str, block: ConvolutionBlock) -> str:
        x = self._convolution(x, block.kernel(), block.convolution.stride, block.padding, BORDERS[block.border])
        if block.scale > 1:
            x = self._op("DepthToSpace", x, blocksize=block.scale, mode="CRD")
        if block.crops:
            x = self._op("Slice", x, _ints(1, 1), _ints(-1, -1), _ints(2, 3))
        x = self._normalized(x, block.normalization)
        return self._op("Relu", x) if block.relu else x

    def _convolution(self, x: str, weight: Tensor, stride: Sequence[int], padding: int, border: str, *bias: str) -> str:
        channels = weight.shape[1]
        # ONNX Runtime Web 1.30 by WebGPU convolves 6 channels wrongly: beyond 3 their number is a multiple of 4
        if missing := -channels % 4 if channels > 3 else 0:
            x = self._op("Pad", x, _ints(0, 0, 0, 0, 0, missing, 0, 0))
            weight = F.pad(weight, (0, 0, 0, 0, 0, missing))
        padded = self._op("Pad", x, _ints(0, 0, padding, padding, 0, 0, padding, padding), mode=border)
        return self._op("Conv", padded, self._weight(weight), *bias, strides=list(stride))

    def _normalized(self, x: str, norm: InstanceNorm) -> str:
        if self._network.config.rows == 1:
            scale, shift = self._weight(norm.scale[0]), self._weight(norm.shift[0])
            return self._op("InstanceNormalization", x, scale, shift, epsilon=EPSILON)
        one, zero = self._weight(torch.ones_like(norm.scale[0])), self._weight(torch.zeros_like(norm.shift[0]))
        x = self._op("InstanceNormalization", x, one, zero, epsilon=EPSILON)
        return self._op("Add", self._op("Mul", x, self._mixed(norm.scale)), self._mixed(norm.shift))

    def _mixed(self, rows: Tensor) -> str:
        """Of a scale or shift (S, C) of each style the weighted sum of each picture, (N, C, 1, 1)."""
        return self._op("Unsqueeze", self._op("MatMul", self._style, self._weight(rows)), _ints(2, 3))

    def _kept_flat(self, stylized: str) -> str:
        """As `nststab.color.preserve_flat`, step by step."""
        weights = np.array(LUMINANCE, np.float32).reshape(1, 3, 1, 1)
        light = self._op("ReduceSum", self._op("Mul", "frame", weights), _ints(1), keepdims=1)
        around = self._op("Sub", light, self._mean(light))
        deviation = self._op("Sqrt", self._mean(self._op("Mul", around, around)))
        contrast = self._smoothstep(deviation, 0.0, FULL_CONTRAST)
        faded = self._lerp(self._mean("frame"), stylized, contrast)
        radius = self._radius()
        brightest = self._smoothstep(self._brightest(light, radius), BLACK, LIGHT)
        # the mean inside the picture: the sum of the square over the number of its pixels that are
        one = self._onnx.numpy_helper.from_array(np.ones(1, np.float32))
        ones = self._op("ConstantOfShape", self._op("Shape", light), value=one)
        share = self._op("Div", self._box(brightest, radius), self._box(ones, radius))
        return self._lerp("frame", faded, share)

    def _mean(self, x: str) -> str:
        return self._op("ReduceMean", x, _ints(2, 3), keepdims=1)

    def _smoothstep(self, x: str, low: float, high: float) -> str:
        slope = self._op("Mul", self._op("Sub", x, _float(low)), _float(1 / (high - low)))
        share = self._op("Clip", slope, _float(0.0), _float(1.0))
        bend = self._op("Sub", _float(3.0), self._op("Mul", share, _float(2.0)))
        return self._op("Mul", self._op("Mul", share, share), bend)

    def _lerp(self, a: str, b: str, weight: str) -> str:
        """`b` to the bit where the weight is 1."""
        rest = self._op("Sub", _float(1.0), weight)
        return self._op("Sub", b, self._op("Mul", self._op("Sub", b, a), rest))

    def _radius(self) -> str:
        """(1,), of the frame's longest side; halves are rounded to even, as Python does."""
        longest = self._op("ReduceMax", self._op("Shape", "frame", start=2), keepdims=1)
        share = self._op("Div", self._op("Cast", longest, to=self._onnx.TensorProto.FLOAT), _float(float(RADIUS_OF)))
        return self._op("Max", self._op("Cast", self._op("Round", share), to=self._onnx.TensorProto.INT64), _ints(1))

    def _brightest(self, light: str, radius: str) -> str:
        """The maximum of the square around each pixel: of three by three, as often as the radius says."""
        helper, kind = self._onnx.helper, self._onnx.TensorProto
        nodes, self._nodes = self._nodes, []
        x = "taken"
        for axis in (2, 3):
            length = self._op("Shape", x, start=axis, end=axis + 1)
            padded = self._op("Pad", x, _ints(1, 1), "", _ints(axis))
            ends = [length, self._op("Add", length, _ints(1)), self._op("Add", length, _ints(2))]
            x = self._op("Max", *(self._op("Slice", padded, _ints(k), end, _ints(axis)) for k, end in enumerate(ends)))
        body = [*self._nodes, helper.make_node("Identity", ["going"], ["goes"])]
        self._nodes = nodes
        pictures = [helper.make_tensor_value_info(name, kind.FLOAT, _LIGHT) for name in ("taken", x)]
        going = [helper.make_tensor_value_info(name, kind.BOOL, []) for name in ("going", "goes")]
        number = helper.make_tensor_value_info("number", kind.INT64, [])
        graph = helper.make_graph(body, "wider", [number, going[0], pictures[0]], [going[1], pictures[1]])
        return self._op("Loop", self._op("Squeeze", radius), "", light, body=graph)

    def _box(self, x: str, radius: str) -> str:
        """The sum of the square around each pixel of (N, 1, H, W); there is nothing outside of the picture."""
        side = self._op("Add", self._op("Mul", radius, _ints(2)), _ints(1))
        for axis in (2, 3):
            length = self._op("Shape", x, start=axis, end=axis + 1)
            before, after = self._op("Add", radius, _ints(1)), radius
            pads = self._op("Concat", before, after, axis=0)
            sums = self._op("CumSum", self._op("Pad", x, pads, "", _ints(axis)), np.array(axis, np.int64))
            ends = self._op("Slice", sums, side, self._op("Add", side, length), _ints(axis))
            x = self._op("Sub", ends, self._op("Slice", sums, _ints(0), length, _ints(axis)))
        return x


def _ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _float(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


class OnnxFile:
    """An `Engine` that runs what `onnx_model` made, from its bytes or a file, on as many threads as torch has.

    Raises:
        NststabError: the package onnxruntime is not installed.
    """

    def __init__(self, model: bytes | Path) -> None:
        runtime = imported_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        given = model if isinstance(model, bytes) else str(model)
        self._session = runtime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        self.inputs = tuple(one.name for one in self._session.get_inputs())

    @property
    def is_recurrent(self) -> bool:
        return "previous" in self.inputs

    def __call__(self, frame: Tensor, previous: Tensor | None = None, style: Tensor | None = None) -> Tensor:
        _, state = self.run(frame, previous, style)
        return state

    def run(self, frame: Tensor, previous: Tensor | None, style: Tensor | None) -> tuple[Tensor, Tensor]:
        """The stylized frame, and what a recurrent network sees of it with the next one."""
        fed = {"frame": frame.numpy()}
        if self.is_recurrent:
            fed["previous"] = (torch.zeros_like(frame) if previous is None else previous).numpy()
        if style is not None:
            fed["style"] = style.numpy()
        made = [torch.from_numpy(one) for one in self._computed(fed)]
        return made[0], made[-1]

    def _computed(self, fed: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        return list(self._session.run(None, fed))


class OnnxEngine(OnnxFile):
    """An `Engine` that runs a network by ONNX Runtime on the processor, in float32.

    Raises:
        NststabError: a package is not installed, or another precision, which processors gain nothing by.
    """

    def __init__(self, network: TransformationNetwork, precision: Precision = "float32") -> None:
        if precision != "float32":
            raise NststabError(f"the engine onnx computes in float32 on a processor, not in {precision}")
        super().__init__(onnx_model(network).SerializeToString())


def imported_runtime() -> Any:
    """The package onnxruntime, which reports nothing, or NststabError that says what to install."""
    try:
        import onnxruntime
    except ImportError as error:
        raise NststabError("ONNX needs its packages: pip install 'nststab[onnx]'") from error
    onnxruntime.disable_telemetry_events()  # of its builds for Windows; the others have none
    return onnxruntime
