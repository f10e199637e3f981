"""Write a network for other programs: as ONNX, or in OpenVINO's format."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import nststab
from nststab.color import preserve_flat
from nststab.engines.onnx_engine import OPSET, OnnxFile, imported_runtime, onnx_model
from nststab.engines.openvino_engine import OpenVinoFile, imported_openvino, openvino_format
from nststab.errors import NststabError, SettingError
from nststab.networks.rows import PHOTOGRAPH, Look, styles_of, with_rows
from nststab.networks.transformation import TransformationNetwork
from nststab.storage.durable import write_durably
from nststab.storage.folders import refuse_overwriting, require_parent
from nststab.styles.shipped import light_network, styles
from nststab.styles.source import Style, StyleBlend, StyleSource, chosen_style, load_for, style_name

_LEAST = {"float32": 50.0, "float16": 40.0}  # dB that a file and torch may differ by
_CHECKED = ((30, 32, 40), (3, 37, 51))  # frames after one another, their height and width
_USE = (
    "frame: float32 (N, 3, H, W), RGB from 0 to 1, of any size; style: (N, S), weights of the styles in their order, "
    "which sum to 1; previous: zeros for the first frame of a shot, then the output `state` of the frame before; "
    "show the output `stylized`. Inputs that the file does not have are not needed."
)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        styles: the rows that the input `style` weighs, in their order; one needs no such input.
        inputs: by name.
        decibels: the least PSNR of its frames against torch's.
    """

    output: Path
    styles: tuple[str, ...]
    inputs: tuple[str, ...]
    opset: int
    decibels: float


def export(
    style: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    method: Literal["recurrent", "independent"] = "recurrent",
    precision: Literal["float32", "float16"] = "float32",
    openvino: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Writes the network of a style to one `.onnx` file that other programs run, once it is checked against torch.

        nststab.export("the_great_wave", "wave.onnx")

    Height, width and batch are free: padding, margin and what leaves dark and flat frames so are in the graph. The
    metadata say the styles, the licence and how to call it; see docs/export.md.

    Args:
        style: as for `nststab.stylize`; it must have a network for `method`. Of a network of many styles those that
            are named are written, or all of them where its file is given without a name.
        precision: of the weights and the arithmetic; inputs and outputs are float32 in both.
        openvino: write OpenVINO's format instead, an `.xml` with a `.bin` beside it, its weights in float16.
        overwrite: replace what stands at `output`.

    Raises:
        SettingError: a style without such a network, or an output of another kind, or one that exists. NststabError: a
        package is missing, or the file does not draw what torch does. OSError: the file cannot be written.
    """
    path, suffix = Path(output), ".xml" if openvino else ".onnx"
    if path.suffix != suffix:
        raise SettingError(f"output: expected a name that ends in {suffix}, got {path.name}")
    for written in [path, path.with_suffix(".bin")] if openvino else [path]:
        refuse_overwriting(written, overwrite)
    require_parent(path)
    if openvino and precision != "float32":
        raise SettingError("precision has no effect with openvino, whose weights are float16 and arithmetic its own")
    (imported_openvino if openvino else imported_runtime)()
    chosen = chosen_style(style)
    network = _network(chosen, method).eval()
    rows = network.config.styles or (style_name(chosen.text),)
    model = onnx_model(network, precision, flat=True, metadata=_metadata(chosen, rows)).SerializeToString()
    engine: OnnxFile
    if openvino:
        graph, weights = openvino_format(model)
        files, engine = {path.with_suffix(".bin"): weights, path: graph}, OpenVinoFile(graph, weights)
    else:
        files, engine = {path: model}, OnnxFile(model)
    decibels = min(_compared(network, engine, *checked) for checked in _CHECKED)
    if decibels < _LEAST[precision]:
        program = "OpenVINO" if openvino else "ONNX Runtime"
        raise NststabError(f"{program} does not draw what torch does, {decibels:.0f} dB: nothing was written")
    for file, data in files.items():
        write_durably(file, data)
    return Exported(path, rows, tuple(engine.inputs), OPSET, decibels)


def _network(style: StyleSource | StyleBlend, method: str) -> TransformationNetwork:
    """That of a style; or of a network of many styles those that were asked for, by all of their rows."""
    first, *others = style.sources
    if first.many is None or (first.checkpoint is not None and not others):
        return style.trained(method).network
    if first.name is None and not others:
        return load_for(first.many(method), first.text, method).network
    checkpoint, names = StyleBlend(style.sources, style.weights).whole(method)
    held = checkpoint.network.config.styles
    Look(dict.fromkeys(names, 1.0)).weights(held)  # which knows all of them
    rows = [number for number, row in enumerate(held) if row == PHOTOGRAPH or styles_of([row])[0] in names]
    return with_rows(checkpoint.network, torch.eye(len(held))[rows], [held[number] for number in rows])


def _metadata(style: Style, rows: tuple[str, ...]) -> dict[str, str]:
    shipped = all(
        (source.many or source.checkpoint) == light_network or source.folder in [one.folder for one in styles()]
        for source in style.sources
    )
    return {
        "styles": json.dumps(rows),
        "sizes": "any height, width and batch",
        "licence": "MIT, of nststab" if shipped else "that of whoever trained it",
        "use": _USE,
        "version": nststab.__version__,
    }


def _compared(network: TransformationNetwork, engine: OnnxFile, frames: int, height: int, width: int) -> float:
    """The least PSNR in dB of frames after one another, each with its own memory, from light to dark."""
    least, generator = float("inf"), torch.Generator().manual_seed(0)
    rows = network.config.rows
    style = torch.rand(1, rows, generator=generator).softmax(1) if rows > 1 else None
    before = state = None
    with torch.no_grad():
        for frame in _frames(frames, height, width):
            exact = network(frame, before, style)
            made, state = engine.run(frame, state, style)
            if network.config.recurrent:
                before = exact
            error = (made - preserve_flat(exact, frame)).square().mean().clamp(min=1e-12)
            least = min(least, -10 * float(error.log10()))
    return least


def _frames(count: int, height: int, width: int) -> Iterator[Tensor]:
    """Blobs that move over bars without light, and get darker."""
    blobs = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(blobs, (height, width + count), mode="bicubic").clamp(0, 1)
    picture[..., : height // 4, :] *= 0.03
    for number in range(count):
        yield picture[..., number : number + width] * (1 - 0.9 * number / count)
