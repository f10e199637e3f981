"""`nststab export`: what is written is what the network draws, at any size, in the programs that read it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

import nststab
from nststab.cli import group
from nststab.color import preserve_flat
from nststab.engines import onnx_engine
from nststab.errors import NststabError, SettingError
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from tests.conftest import done, psnr

ROOT = Path(__file__).parents[1]
STYLES = ("waves@256", "waves@512", "tiles@256")


def saved(
    path: Path, kind: str = "light", recurrent: bool = True, styles: tuple[str, ...] = ()
) -> TransformationNetwork:
    torch.manual_seed(0)
    network = TransformationNetwork(NetworkConfig(recurrent, (4, 6, 8), 1, 16, kind, styles)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        network.get_parameter("encoder.0.convolution.weight")[:, 3:] *= 0.1  # trained ones forget, too
    save_checkpoint(path, Checkpoint(network))
    return network


def frames(height: int, width: int, count: int = 2) -> Iterator[torch.Tensor]:
    """Of a batch of two, with a bar that is nearly black and a picture without contrast."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        frame = torch.rand(2, 3, height, width, generator=generator)
        frame[0, :, : height // 2] *= 0.06
        frame[1] = 0.5 + 0.05 * frame[1]
        yield frame


@pytest.mark.parametrize("kind", ["paper", "light"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_file_draws_what_the_network_does_at_every_size(tmp_path: Path, kind: str, precision: Any) -> None:
    """Two styles in a batch, after one another, with what keeps dark and flat frames; a whole radius of 2 too."""
    saved(tmp_path / "net.safetensors", kind, True, STYLES)
    made = nststab.export(tmp_path / "net.safetensors", tmp_path / "net.onnx", precision=precision)
    assert made.decibels > {"float32": 100, "float16": 60}[precision]
    network = load_checkpoint(tmp_path / "net.safetensors").network.eval()
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    style = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]])
    for height, width in ((32, 40), (33, 47), (5, 70), (1, 1), (8, 330)):
        before, state = None, np.zeros((2, 3, height, width), np.float32)
        for frame in frames(height, width):
            given = {"frame": frame.numpy(), "previous": state, "style": style.numpy()}
            stylized, state = session.run(["stylized", "state"], given)
            with torch.no_grad():
                before = network(frame, before, style)
            assert psnr(torch.from_numpy(state), before) > {"float32": 90, "float16": 50}[precision]
            assert (
                psnr(torch.from_numpy(stylized), preserve_flat(before, frame))
                > {"float32": 90, "float16": 50}[precision]
            )


def test_it_says_how_to_call_it_and_has_one_normalisation_a_layer(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.safetensors", "light", False, STYLES)
    given = ["export", str(tmp_path / "net.safetensors"), "-o", str(tmp_path / "net.onnx"), "--method", "independent"]
    assert "net.onnx: inputs frame, style of 3 weights; " in done(CliRunner().invoke(group, given)).stderr
    model = onnx.load(tmp_path / "net.onnx")
    told = {one.key: one.value for one in model.metadata_props}
    assert (json.loads(told["styles"]), told["licence"]) == (list(STYLES), "that of whoever trained it")
    layers = sum(type(module).__name__ == "InstanceNorm" for module in network.modules())
    assert [node.op_type for node in model.graph.node].count("InstanceNormalization") == layers
    shapes = {
        one.name: [side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    free = ["batch", 3, "height", "width"]
    assert shapes == {"frame": free, "style": ["batch", 3], "stylized": free}
    again = nststab.export(tmp_path / "net.safetensors", tmp_path / "2.onnx", method="independent")
    assert again.output.read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_of_many_styles_those_that_are_named_are_written(tmp_path: Path) -> None:
    """By all of their rows, and the one that draws the photograph."""
    saved(tmp_path / "net.safetensors", "light", False, (PHOTOGRAPH, *STYLES))
    named = f"{tmp_path / 'net.safetensors'}:waves"
    made = nststab.export(named, tmp_path / "waves.onnx", method="independent")
    assert made.styles == (PHOTOGRAPH, "waves@256", "waves@512")
    with pytest.raises(SettingError, match="has no style 'wave'"):
        nststab.export(named[:-1], tmp_path / "wave.onnx", method="independent")


def test_openvino_reads_its_own_format(tmp_path: Path) -> None:
    network = saved(tmp_path / "net.safetensors")
    exported = nststab.export(tmp_path / "net.safetensors", tmp_path / "net.xml", openvino=True)
    assert 50 < exported.decibels < 100  # of this file, whose weights are float16
    openvino = __import__("openvino")
    compiled = openvino.Core().compile_model(tmp_path / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (frame,) = frames(33, 47, 1)
    made = compiled({"frame": frame.numpy(), "previous": np.zeros_like(frame.numpy())})
    with torch.no_grad():
        assert psnr(torch.from_numpy(made["stylized"]), preserve_flat(network(frame), frame)) > 50


@pytest.mark.parametrize("title", ["Python", "OpenCV"])
def test_the_documented_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    network = saved(tmp_path / "net.safetensors")
    nststab.export(tmp_path / "net.safetensors", tmp_path / "wave.onnx")
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))  # type: ignore[attr-defined]
    for number in range(2):
        writer.write(np.full((48, 64, 3), 90 * number, np.uint8) + np.arange(64, dtype=np.uint8)[None, :, None])
    writer.release()
    page = (ROOT / "docs/export.md").read_text("utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?:^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section is not None
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^    (.*)$", section[1], re.MULTILINE)), names)
    camera, before = cv2.VideoCapture("clip.mp4"), None
    while (read := camera.read())[0]:
        frame = torch.from_numpy(read[1][None, :, :, ::-1].copy()).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            before = network(frame, before)
    shown = torch.from_numpy(names["picture"][:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    assert before is not None
    assert psnr(shown, preserve_flat(before, frame)) > 50


def test_what_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    saved(tmp_path / "net.safetensors")
    (tmp_path / "there.onnx").touch()
    (tmp_path / "weights.bin").touch()
    for output, options, message in (
        ("net.pt", {}, r"expected a name that ends in \.onnx, got net\.pt"),
        ("net.onnx", {"openvino": True}, r"ends in \.xml"),
        ("there.onnx", {}, "exists; say overwrite=True"),
        ("weights.xml", {"openvino": True}, r"weights\.bin exists; say overwrite=True"),
        ("no/net.onnx", {}, "no: the folder to write to does not exist"),
        ("net.xml", {"openvino": True, "precision": "float16"}, "precision has no effect with openvino"),
    ):
        with pytest.raises(SettingError, match=message):
            nststab.export(tmp_path / "net.safetensors", tmp_path / output, **options)


def test_a_file_that_draws_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "net.safetensors")
    exact = onnx_engine.OnnxFile.run
    monkeypatch.setattr(onnx_engine.OnnxFile, "run", lambda *given: tuple(made * 0.9 for made in exact(*given)))
    for output, program in (("net.onnx", "ONNX Runtime"), ("net.xml", "OpenVINO")):
        with pytest.raises(NststabError, match=f"{program} does not draw what torch does"):
            nststab.export(tmp_path / "net.safetensors", tmp_path / output, openvino=output.endswith(".xml"))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
