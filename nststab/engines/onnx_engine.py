"""Networks run by ONNX Runtime on the processor (the extra `nststab[onnx]`), and files of theirs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nststab.engines.onnx_graph import onnx_model
from nststab.errors import NststabError
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision


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
        made = [torch.from_numpy(one) for one in self._session.run(None, fed)]
        return made[0], made[-1]


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
