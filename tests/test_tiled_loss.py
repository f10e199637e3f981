"""The loss in tiles is that of the whole picture, and so is its gradient."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import nststab
from nststab import losses
from nststab.errors import SettingError
from nststab.losses import LossSettings, PerceptualLoss, gram, style_target
from nststab.methods.settings import OptimizationSettings
from nststab.tasks.settings import StylizeSettings
from nststab.tiled_loss import TiledLoss
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_picture, write_picture
from tests.conftest import moving_picture, rand

SHORT = StylizeSettings(gatys=OptimizationSettings(iterations=(4,)))
SETTINGS = LossSettings(content_weight=2.0, style_weight=3.0, tv_weight=0.5)


def gradient(loss: PerceptualLoss, content: Tensor, picture: Tensor) -> tuple[dict[str, float], Tensor]:
    pixels = picture.clone().requires_grad_()
    terms = loss(pixels, loss.content_targets(content))
    (found,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), pixels)
    return {name: value.item() for name, value in terms.items()}, found


@pytest.mark.parametrize(("height", "width", "side"), [(64, 64, 32), (203, 170, 64), (150, 45, 8)])
@pytest.mark.parametrize("scaling", ["energy", "paper"])
def test_tiles_give_terms_and_gradient_of_the_whole(
    tiny_vgg: PerceptualNetwork, height: int, width: int, side: int, scaling: losses.Scaling
) -> None:
    settings = LossSettings(**{**vars(SETTINGS), "scaling": scaling})
    content, picture = rand(1, 3, height, width, seed=1), rand(1, 3, height, width, seed=2)
    style = style_target(tiny_vgg, rand(1, 3, 96, 80, seed=3), settings.style_layers)
    whole = gradient(PerceptualLoss(tiny_vgg, style, settings), content, picture)
    tiled = TiledLoss(tiny_vgg, style, settings, None, memory=1, pictures=0)
    tiled.side = side
    terms, found = gradient(tiled, content, picture)
    assert terms == pytest.approx(whole[0], rel=1e-5)
    assert torch.allclose(found, whole[1], atol=1e-4 * float(whole[1].abs().max()))


def test_a_large_style_picture_has_the_gram_matrices_of_the_whole(
    tiny_vgg: PerceptualNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, layers = rand(1, 3, 150, 203, seed=1), ("relu1_2", "relu4_3")
    monkeypatch.setattr(losses, "_TILE", 64)
    with torch.no_grad():
        features = tiny_vgg(picture, layers)
    for layer, found in style_target(tiny_vgg, picture, layers).items():
        assert torch.allclose(found, gram(features[layer]), rtol=1e-4, atol=1e-9)


def test_a_feature_sees_no_further_than_it_reaches(tiny_vgg: PerceptualNetwork) -> None:
    step, around = tiny_vgg.reach(["relu4_3"])
    assert (step, around) == (8, 56)
    picture = rand(1, 3, 160, 160, seed=1).requires_grad_()
    (seen,) = torch.autograd.grad(tiny_vgg(picture, ["relu4_3"])["relu4_3"][0, :, 10, 10].sum(), picture)
    rows = seen[0].abs().sum((0, 2)).nonzero().flatten()
    assert 80 - around <= int(rows[0])
    assert int(rows[-1]) < 88 + around


@pytest.mark.usefixtures("averaging_vgg")
def test_memory_bounds_an_optimisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("content", "style")):
        write_picture(tmp_path / f"{name}.png", moving_picture(number, 64, 64))
    sides: list[int] = []

    def small(_: TiledLoss, __: Tensor) -> int:
        sides.append(32)
        return 32

    def made(name: str, memory: int | None = None) -> Tensor:
        nststab.optimize(
            tmp_path / "content.png", tmp_path / "style.png", tmp_path / name, settings=SHORT, memory=memory
        )
        return read_picture(tmp_path / name).rgb

    with pytest.raises(SettingError, match="memory: a picture of 64x64 pixels needs"):
        made("none.png", memory=1000)
    monkeypatch.setattr(TiledLoss, "_fitting", small)
    whole, tiled = made("whole.png"), made("tiled.png", memory=2**40)
    assert (sides, float((whole - tiled).abs().max()) < 3 / 255) == ([32], True)
