"""A network in strips of a picture gives what it gives for the whole, and takes no more memory than it may."""

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import nststab
from nststab import color
from nststab.cli import group
from nststab.engines import torch_engine
from nststab.errors import SettingError
from nststab.networks.strips import StripNetwork
from nststab.networks.transformation import Kind, NetworkConfig, TransformationNetwork
from nststab.tasks.settings import StylizeSettings, parse_bytes
from nststab.video.images import read_picture, write_picture


def network(kind: Kind, recurrent: bool = False, styles: tuple[str, ...] = ()) -> TransformationNetwork:
    torch.manual_seed(0)
    made = TransformationNetwork(NetworkConfig(recurrent, (8, 12, 16), blocks=2, margin=16, kind=kind, styles=styles))
    for weights in made.parameters():
        nn.init.normal_(weights, std=0.3)
    return made.eval()


@pytest.mark.parametrize("kind", ["paper", "light"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 37), (130, 9)])
@pytest.mark.parametrize(("recurrent", "styles"), [(False, ()), (True, ("one", "other"))])
def test_strips_give_the_result_of_the_whole(
    kind: Kind, height: int, width: int, recurrent: bool, styles: tuple[str, ...], tmp_path: Path
) -> None:
    model = network(kind, recurrent, styles)
    frame, before = torch.rand(2, 1, 3, height, width)
    previous = before if recurrent and width > 40 else None  # else the first frame of a shot
    style = torch.tensor([[0.3, 0.7]]) if styles else None
    with torch.no_grad():
        whole = model(frame, previous, style)
    strips = StripNetwork(model, room=0, folder=tmp_path)  # eight rows at a time
    assert torch.allclose(strips(frame, previous, style), whole, atol=1e-5)
    assert not list(tmp_path.iterdir())


def test_arithmetic_of_16_bits(tmp_path: Path) -> None:
    model, frame = network("paper"), torch.rand(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = model(frame)
    made = StripNetwork(model, 0, tmp_path, torch.autocast("cpu", torch.bfloat16))(frame)
    assert -10 * float((made - whole).square().mean().log10()) > 40  # dB


def test_strips_of_what_is_dark_or_flat_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    content, stylized = torch.rand(2, 2, 3, 60, 40)
    content[:, :, :25] = 0
    content[1] *= 0.1

    def kept() -> Tensor:
        return color.preserve_flat(stylized, content)

    whole = kept()
    monkeypatch.setattr(color, "_STRIP", 40 * 7)
    assert torch.allclose(kept(), whole, atol=1e-6)


def test_a_picture_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(Path("in.png"), torch.rand(1, 3, 64, 64))
    monkeypatch.setattr(torch_engine, "_WHOLE", 1e12)  # else so small a picture is stylized as a whole
    command = "stylize in.png -o strips.png --style mosaic --method independent --precision float32 --memory"
    done = CliRunner().invoke(group, [*command.split(), "64G"])
    assert done.exit_code == 0, done.output
    nststab.stylize("in.png", "whole.png", style="mosaic", method="independent", precision="float32", engine="torch")
    made, whole = (read_picture(Path(f"{name}.png")).rgb for name in ("strips", "whole"))
    assert float((made - whole).abs().max()) < 1.5 / 255
    refused = CliRunner().invoke(group, [*command.split(), "20M", "-y"])
    assert refused.exit_code == 2
    assert refused.output.startswith("Error: --memory: a frame of 64x64 pixels needs ")


def test_memory_that_nobody_keeps_to_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "in.png", torch.rand(1, 3, 32, 32))
    refused: list[dict[str, Any]] = [{"stylizer": iter}, {"style": "mosaic", "engine": "openvino"}]
    for options in refused:
        with pytest.raises(SettingError, match="memory has no effect on"):
            nststab.stylize(tmp_path / "in.png", tmp_path / "out.png", memory=2**32, **options)


@pytest.mark.parametrize(("text", "count"), [("4G", 2**32), ("800M", 800 * 2**20), ("1.5GiB", 3 * 2**29), ("7", 7)])
def test_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1G", "4 apples"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(SettingError, match="memory: expected a number of bytes, such as 4G or 800M"):
        StylizeSettings().with_text("memory", text)
