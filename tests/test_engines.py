"""What every engine promises of every kind of network, against torch in float32."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import nststab
from nststab.cli import group
from nststab.color import preserve_flat
from nststab.engines import Engine, make_engine
from nststab.engines.onnx_engine import OnnxEngine
from nststab.engines.openvino_engine import OpenVinoEngine, SignalStack
from nststab.engines.torch_engine import TorchEngine
from nststab.errors import NststabError, SettingError
from nststab.methods.build import best_engine as BEST_ENGINE  # which the suite replaces
from nststab.methods.build import machine
from nststab.networks.transformation import KINDS, NetworkConfig, TransformationNetwork
from nststab.video.images import read_picture, write_picture
from tests.conftest import done, psnr

ENGINES: dict[str, tuple[Callable[[TransformationNetwork], Engine], float]] = {  # with the least PSNR in dB
    "torch": (TorchEngine, 90.0),
    "torch, bfloat16": (lambda network: TorchEngine(network, precision="bfloat16"), 30.0),
    "openvino": (OpenVinoEngine, 60.0),
    "onnx": (OnnxEngine, 60.0),
}
STYLES = ("the_great_wave@512", "mosaic@512", "mosaic@1024")


def network(kind: str, recurrent: bool = False, styles: tuple[str, ...] = ()) -> TransformationNetwork:
    torch.manual_seed(0)
    made = TransformationNetwork(NetworkConfig(recurrent, (4, 6, 8), 2, 16, kind, styles))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "normalization" in name:
                value.add_(0.3 * torch.randn(value.shape))
    return made.eval()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("recurrent", "styles"), [(False, STYLES), (True, ())])
def test_it_draws_what_the_network_does_at_any_size(
    engine: str, kind: str, recurrent: bool, styles: tuple[str, ...]
) -> None:
    model = network(kind, recurrent, styles)
    build, least = ENGINES[engine]
    run = build(model)
    assert run.is_recurrent == recurrent
    style = torch.tensor([[0.5, 0.0, 0.5]]) if styles else None
    for height, width in ((32, 40), (33, 47), (5, 70), (1, 1)):
        frame = torch.rand(1, 3, height, width)
        previous = exact = None
        for _ in range(2):
            made = run(frame, previous, style)
            with torch.no_grad():
                exact = model(frame, exact if recurrent else None, style)
            previous = made if recurrent else None
            assert (made.shape, made.dtype) == (frame.shape, torch.float32)
            assert 0 <= made.min() <= made.max() <= 1
            # of a picture of one colour a network normalises nothing but rounding, of which bfloat16 has much
            shown = [preserve_flat(one, frame) if "bfloat16" in engine else one for one in (made, exact)]
            assert -10 * torch.log10((shown[0] - shown[1]).square().mean() + 1e-12) > least


@pytest.mark.parametrize("kind", KINDS)
def test_a_style_is_its_row_and_a_mixture_lies_between(kind: str) -> None:
    """The network with only a style's row draws the same; rows are mixed before they normalise."""
    model, frame = network(kind, styles=STYLES), torch.rand(1, 3, 24, 24)
    alone = network(kind)
    for number in range(len(STYLES)):
        state = {
            name: value[number : number + 1] if "normalization" in name else value
            for name, value in model.state_dict().items()
        }
        alone.load_state_dict(state)
        torch.testing.assert_close(model(frame, style=torch.eye(3)[number : number + 1]), alone(frame))
    half = {name: value[:2].mean(0) if "normalization" in name else value for name, value in model.state_dict().items()}
    alone.load_state_dict(half)  # a row without its style's dimension, as older checkpoints have it
    torch.testing.assert_close(model(frame, style=torch.tensor([[0.5, 0.5, 0]])), alone(frame))
    with pytest.raises(ValueError, match=r"expected weights of styles \(1, 3\), got none"):
        model(frame)
    with pytest.raises(ValueError, match=r"expected weights of styles \(1, 3\), got \(1, 2\)"):
        model(frame, style=torch.ones(1, 2))


def test_what_an_engine_cannot_do_is_told() -> None:
    with pytest.raises(NststabError, match="not in float16"):
        make_engine("openvino", network("paper"), "cpu", "float16")
    with pytest.raises(NststabError, match="in float32 on a processor, not in bfloat16"):
        make_engine("onnx", network("paper"), "cpu", "bfloat16")
    for engine in ("openvino", "onnx"):
        with pytest.raises(NststabError, match=f"the engine {engine} runs on the processor here, not on cuda"):
            make_engine(engine, network("paper"), "cuda")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux' stack for signals")
def test_openvino_leaves_the_stack_for_signals_as_it_was() -> None:
    """Or Ctrl-C after a network is gone ends in a segmentation fault."""
    before = SignalStack.of_thread()
    make_engine("openvino", network("paper"))(torch.rand(1, 3, 32, 40))
    after = SignalStack.of_thread()
    assert (after.address, after.flags, after.size) == (before.address, before.flags, before.size)


def test_openvino_reports_to_nobody() -> None:
    """Its package for usage data stays out of reach, in a process of its own that sees it first here."""
    code = "from nststab.engines.openvino_engine import imported_openvino; import sys; imported_openvino()\n"
    code += "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_without_its_package_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    told = (
        ("openvino", "openvino", "openvino"),
        *(("onnx", one, r"'nststab\[onnx\]'") for one in ("onnx", "onnxruntime")),
    )
    for engine, module, package in told:
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(NststabError, match=f"pip install {package}"):
                make_engine(engine, network("paper"))  # type: ignore[arg-type]


def test_the_command_and_the_painter_take_it(tmp_path: Path) -> None:
    write_picture(tmp_path / "in.png", torch.rand(1, 3, 40, 48, generator=torch.Generator().manual_seed(0)))
    outputs = []
    for engine in ("torch", "openvino", "onnx"):
        outputs.append(tmp_path / f"{engine}.png")
        given = ["stylize", str(tmp_path / "in.png"), "-o", str(outputs[-1]), "--style", "mosaic", "--engine", engine]
        done(CliRunner().invoke(group, [*given, "--precision", "float32"]))
    for path in outputs[1:]:
        assert psnr(read_picture(outputs[0]).rgb, read_picture(path).rgb) > 50
    frame = (read_picture(tmp_path / "in.png").rgb[0].permute(1, 2, 0) * 255).round().byte().numpy()
    drawn = nststab.Painter("mosaic", engine="openvino", precision="float32")(frame)
    stored = (read_picture(outputs[1]).rgb[0].permute(1, 2, 0) * 255).round().byte().numpy()
    assert (drawn == stored).all()
    with pytest.raises(SettingError, match="engine has no effect on gatys"):
        nststab.stylize(tmp_path / "in.png", tmp_path / "no.png", style="mosaic", method="gatys", engine="openvino")


def test_auto_is_openvino_on_a_processor_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BEST_ENGINE(torch.device("cpu"), "float32") == "openvino"
    assert BEST_ENGINE(torch.device("cuda"), "float32") == BEST_ENGINE(torch.device("cpu"), "float16") == "torch"
    monkeypatch.setattr("nststab.methods.build.find_spec", lambda _name: None)
    assert BEST_ENGINE(torch.device("cpu"), "float32") == "torch"
    monkeypatch.setattr("nststab.methods.build.best_engine", lambda *_: "openvino")
    assert machine("cpu", "float32").engine == "openvino"
    assert machine("cpu", "float32", "torch").engine == "torch"
