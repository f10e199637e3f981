"""Construction: which layers a network's losses look at."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from nststab.cli import group
from nststab.cli.build import OptimizerOptions, perceptual_loss
from nststab.cli.perceptual import layers_of, perceptual_network
from nststab.cli.style_source import style_source
from nststab.images import write_picture

CPU = torch.device("cpu")
VGG19 = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)  # to conv5_1


@pytest.fixture
def vgg19(tmp_path: Path) -> Path:
    """A tiny random network of VGG-19's plan, down to relu5_1."""
    state: dict[str, Tensor] = {}
    for index in VGG19:
        state[f"features.{index}.weight"] = torch.randn(4, 4 if index else 3, 3, 3)
        state[f"features.{index}.bias"] = torch.zeros(4)
    path = tmp_path / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    write_picture(path, torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return path


def test_vgg19_is_used_as_gatys_did(vgg19: Path, picture: Path) -> None:
    loss = perceptual_loss(style_source(str(picture)), OptimizerOptions(vgg_weights=vgg19), 32, CPU)
    assert loss.settings.content_layers == ("relu4_2",)
    assert loss.settings.style_layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def test_the_bundled_network_keeps_the_layers_of_the_trained_styles() -> None:
    assert layers_of(perceptual_network(None, CPU)) == {}


def test_chosen_layers_win(vgg19: Path, picture: Path) -> None:
    chosen = {"content_layers": ("relu3_1",), "style_layers": ("relu1_2", "relu2_2")}
    loss = perceptual_loss(style_source(str(picture)), OptimizerOptions(loss=chosen, vgg_weights=vgg19), 32, CPU)
    assert (loss.settings.content_layers, loss.settings.style_layers) == (("relu3_1",), ("relu1_2", "relu2_2"))
    shipped = perceptual_loss(style_source("the_great_wave"), OptimizerOptions(loss=chosen), 32, CPU)
    assert shipped.settings.style_layers == ("relu1_2", "relu2_2")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--style-layers conv1_1", "'conv1_1': expected layers relu1_1 to relu5_4"),
        ("--content-layers relu5_1", "these weights have no layer relu5_1; they reach relu1_1 to relu4_3"),
    ],
)
def test_a_layer_that_is_not_there_is_named(picture: Path, option: str, message: str) -> None:
    arguments = ["optimize", str(picture), str(picture), "-o", str(picture.with_name("out.png")), *option.split()]
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
