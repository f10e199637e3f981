"""Construction: what the options become, from layers and blended styles to several passes."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from nststab.baselines.gatys import Gatys
from nststab.baselines.settings import RuderSettings
from nststab.cli import group
from nststab.errors import NststabError, SettingError
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.methods.build import (
    Machine,
    build,
    later_iterations,
    scaled_losses,
    start_picture,
)
from nststab.methods.feed_forward import FeedForward
from nststab.methods.settings import LossChoice, MethodSettings, OptimizationSettings, PassSettings
from nststab.networks.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_target,
)
from nststab.networks.perceptual import layers_of, perceptual_network
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.settings import Precision
from nststab.styles.shipped import find_style
from nststab.styles.source import Style, chosen_style, style_source
from nststab.video.images import read_picture, resize, write_picture
from tests.conftest import stylized

CPU = torch.device("cpu")
MACHINE = Machine(CPU, "float32")
VGG19 = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)  # to conv5_1


def chosen_by(loss: Mapping[str, Any] = {}, **gatys: Any) -> MethodSettings:
    return MethodSettings(LossChoice(**loss), OptimizationSettings(**gatys))


def perceptual_loss(style: Style, settings: MethodSettings, longest_side: int, device: torch.device) -> PerceptualLoss:
    return scaled_losses(style, settings, longest_side, Machine(device, "float32"))[-1]


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
    loss = perceptual_loss(style_source(str(picture)), chosen_by(vgg_weights=vgg19), 32, CPU)
    assert loss.settings.content_layers == ("relu4_2",)
    assert loss.settings.style_layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def test_the_bundled_network_keeps_the_layers_of_the_trained_styles() -> None:
    assert layers_of(perceptual_network(CPU)) == {}


def test_chosen_layers_win(vgg19: Path, picture: Path) -> None:
    chosen = {"content_layers": ("relu3_1",), "style_layers": ("relu1_2", "relu2_2")}
    loss = perceptual_loss(style_source(str(picture)), chosen_by(vgg_weights=vgg19, loss=chosen), 32, CPU)
    assert (loss.settings.content_layers, loss.settings.style_layers) == (("relu3_1",), ("relu1_2", "relu2_2"))
    shipped = perceptual_loss(style_source("the_great_wave"), chosen_by(loss=chosen), 32, CPU)
    assert shipped.settings.style_layers == ("relu1_2", "relu2_2")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--set loss.style_layers=conv1_1", "loss.style_layers: 'conv1_1' is not one of its values"),
        ("--set loss.content_layers=relu5_1", "these weights have no layer relu5_1; they reach relu1_1 to relu4_3"),
    ],
)
def test_a_layer_that_is_not_there_is_named(picture: Path, option: str, message: str) -> None:
    arguments = ["optimize", str(picture), str(picture), "-o", str(picture.with_name("out.png")), *option.split()]
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code != 0
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def grams(style: Style, options: MethodSettings | None = None) -> dict[str, Tensor]:
    network = perceptual_network(CPU, (options or MethodSettings()).gatys)
    target = style.target(network, ("relu1_2", "relu3_3"), 32)
    assert isinstance(target, Mapping)
    return dict(target)


def test_a_folder_that_hides_a_shipped_style_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(find_style("the_great_wave").folder, tmp_path / "mosaic")
    monkeypatch.chdir(tmp_path)
    for text in ("./mosaic", "mosaic/", "the_great_wave"):
        style_source(text)
    assert not caplog.messages
    assert style_source("mosaic").folder == Path("mosaic")
    assert caplog.messages == ["the style mosaic is the folder of that name here, not the shipped one"]


def test_styles_are_blended_by_their_parts(picture: Path) -> None:
    other = picture.with_name("other.png")
    write_picture(other, torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) ** 3)
    first, second = (grams(style_source(str(path))) for path in (picture, other))
    blended = grams(chosen_style([str(picture), str(other)], [3, 7]))
    halves = grams(chosen_style([str(picture), str(other)]))
    for layer in ("relu1_2", "relu3_3"):
        torch.testing.assert_close(blended[layer], 0.3 * first[layer] + 0.7 * second[layer])
        torch.testing.assert_close(halves[layer], (first[layer] + second[layer]) / 2)


def test_gram_targets_of_max_pooling_do_not_serve_average_pooling() -> None:
    checkpoint = str(find_style("the_great_wave").checkpoint("independent"))
    with pytest.raises(ValueError, match=r"Gram targets of another .*gatys\.pooling\); give the style's picture"):
        grams(style_source(checkpoint), chosen_by(pooling="average"))


@pytest.mark.parametrize(
    "options",
    [chosen_by(pooling="average"), chosen_by(loss={"style_layers": ("relu1_1", "relu3_1")})],
)
def test_a_shipped_style_whose_targets_do_not_serve_is_taken_from_its_picture(options: MethodSettings) -> None:
    drawn = perceptual_loss(style_source(str(find_style("the_great_wave").image)), options, 32, CPU)
    shipped = perceptual_loss(style_source("the_great_wave"), options, 32, CPU)
    assert shipped.settings == drawn.settings
    assert shipped._style.keys() == drawn._style.keys()
    for layer, target in drawn._style.items():
        torch.testing.assert_close(shipped._style[layer], target)


def test_an_optimisation_has_targets_of_its_own_padding_at_the_size_of_the_kept_ones() -> None:
    """Kept targets hold the edge that VGG's zeros are, which the painting itself does not have then."""
    where = Machine(CPU, "float32")
    (loss,) = scaled_losses(style_source("the_great_wave"), MethodSettings(), 32, where)
    painting = resize(read_picture(find_style("the_great_wave").image or Path()).rgb, 512)
    assert float(loss(painting, loss.content_targets(painting))["style"]) < 1e-6
    (measuring,) = scaled_losses(style_source("the_great_wave"), MethodSettings(), 32, where, padding="zeros")
    assert float(measuring(painting, measuring.content_targets(painting))["style"]) < 1e-4


@pytest.fixture
def unpictured(tmp_path: Path) -> Path:
    """The folder of a style whose picture may not be shipped."""
    wave = find_style("the_great_wave")
    folder = tmp_path / "unfree"
    folder.mkdir()
    for file in (wave.checkpoint("independent"), wave.target):
        (folder / file.name).symlink_to(file)
    return folder


def test_kept_targets_stand_for_the_picture(unpictured: Path) -> None:
    picture = read_picture(find_style("the_great_wave").image or Path()).rgb
    drawn = style_target(perceptual_network(CPU), resize(picture, 512), ("relu1_2", "relu3_3"))
    for text in (unpictured, unpictured / "independent.safetensors"):
        kept = grams(style_source(str(text)))
        assert kept.keys() == drawn.keys()
        for layer, gram in drawn.items():
            assert (kept[layer] - gram).norm() < 1e-3 * gram.norm()


def test_a_style_without_targets_is_taken_from_the_picture_beside_it(tmp_path: Path, picture: Path) -> None:
    """Also where there is no independent network, whose checkpoint might have them."""
    folder = tmp_path / "mine"
    folder.mkdir()
    network = TransformationNetwork(NetworkConfig(True, (4, 6, 8), 0))
    save_checkpoint(folder / "recurrent.safetensors", Checkpoint(network))
    with pytest.raises(ValueError, match="mine carries no Gram targets; give the style's picture instead"):
        grams(style_source(str(folder)))
    write_picture(folder / "image.png", read_picture(picture).rgb)
    drawn, beside = grams(style_source(str(picture))), grams(style_source(str(folder)))
    assert all(torch.equal(beside[layer], gram) for layer, gram in drawn.items())


def test_targets_alone_are_a_style_for_the_optimizers(tmp_path: Path) -> None:
    save_target(tmp_path / "target.safetensors", {"relu1_2": torch.eye(64)[None]}, {})
    source = style_source(str(tmp_path))
    assert set(source.target(perceptual_network(CPU), ("relu1_2",), 32)) == {"relu1_2"}
    with pytest.raises(SettingError, match="has no network for the method independent"):
        source.trained("independent")


def test_only_the_layers_that_are_asked_for_are_followed() -> None:
    """The targets of a style that is shipped without its picture also hold the layers of the traces."""
    network = perceptual_network(CPU)
    source = style_source("mosaic")
    assert set(source.target(network, ("relu1_1",), 32)) == {"relu1_1"}
    loss = perceptual_loss(source, chosen_by(), 32, CPU)
    assert loss.settings.style_layers == LossSettings().style_layers


def test_targets_in_their_own_file_go_before_those_in_the_checkpoint(tmp_path: Path) -> None:
    network = TransformationNetwork(NetworkConfig(widths=(4, 6, 8), blocks=0))
    save_checkpoint(tmp_path / "independent.safetensors", Checkpoint(network, {"relu1_2": torch.eye(64)[None]}))
    of_checkpoint = style_source(str(tmp_path)).target(perceptual_network(CPU), ("relu1_2",), 32)
    save_target(tmp_path / "target.safetensors", {"relu1_2": 2 * torch.eye(64)[None]}, {})
    of_file = style_source(str(tmp_path)).target(perceptual_network(CPU), ("relu1_2",), 32)
    assert torch.equal(of_file["relu1_2"], 2 * of_checkpoint["relu1_2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            chosen_by(pooling="average"),
            r"gatys.pooling\), and the picture that others would be .* is not beside them",
        ),
        (chosen_by(style_scale=2), "gatys.style_scale has no effect on .*unfree, which has no picture to scale"),
        (chosen_by(loss={"style_layers": ("relu3_1",)}), "no Gram matrix at relu3_1; it has relu1_2, relu2_2"),
    ],
)
def test_without_its_picture_a_style_says_what_it_cannot(
    unpictured: Path, options: MethodSettings, message: str
) -> None:
    with pytest.raises(NststabError, match=message):
        perceptual_loss(style_source(str(unpictured)), options, 32, CPU)


def test_a_scaled_style_is_taken_from_its_picture() -> None:
    options = chosen_by(style_scale=0.5)
    drawn = perceptual_loss(style_source(str(find_style("the_great_wave").image)), options, 128, CPU)
    shipped = perceptual_loss(style_source("the_great_wave"), options, 128, CPU)
    mixed = perceptual_loss(chosen_style(["the_great_wave", "the_great_wave"]), options, 128, CPU)
    for layer, target in drawn._style.items():
        assert torch.equal(shipped._style[layer], target)
        torch.testing.assert_close(mixed._style[layer], target)


def test_the_style_picture_is_scaled_with_the_scales(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    def spy(*arguments: Any) -> Gatys:
        said.extend(arguments)
        return Gatys(*arguments)

    monkeypatch.setattr("nststab.methods.build.Gatys", spy)
    build("gatys", style_source(str(picture)), chosen_by(scales=3), longest_side=128, machine=MACHINE)
    loss, coarse = said[0], said[6]
    network = perceptual_network(CPU, padding="replicate")
    image = read_picture(picture).rgb
    for made, side in zip((*coarse, loss), (32, 64, 128), strict=True):
        expected = style_target(network, resize(image, side), made.settings.style_layers)
        for layer, target in expected.items():
            torch.testing.assert_close(made._style[layer], target)


@pytest.mark.parametrize(("precision", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float32)])
def test_an_optimisation_computes_in_the_machines_arithmetic(
    picture: Path, precision: Precision, dtype: torch.dtype
) -> None:
    """float16 has not the range for the gradients, and gives way to float32; measurements are in float32 anyway."""
    losses = scaled_losses(style_source(str(picture)), chosen_by(scales=2), 64, Machine(CPU, precision))
    assert [loss.dtype for loss in losses] == [dtype, dtype]
    assert perceptual_loss(style_source(str(picture)), chosen_by(), 64, CPU).dtype == torch.float32


def test_init_by_a_trained_style_begins_with_its_picture() -> None:
    frame = torch.rand(1, 3, 32, 32)
    network = load_checkpoint(find_style("the_great_wave").checkpoint("independent")).network
    start = start_picture("style:the_great_wave", 32, MACHINE)
    assert start is not None
    torch.testing.assert_close(start(frame), next(stylized(FeedForward(network), [frame])))
    with pytest.raises(SettingError, match="no style is named 'the_grate_wave'; did you mean the_great_wave"):
        start_picture("style:the_grate_wave", 32, MACHINE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("a.png b.png --style-weights 3", "has 1 numbers for 2 styles"),
        ("a.png b.png --style-weights 0,0", "expected a weight above 0"),
        ("a.png b.png --style-weights 1,-1", "-1"),
        ("a.png --passes 3 --set ruder.long_term=1,2", "ruder.long_term has no effect with several --passes"),
        ("a.png --set ruder.temporal_from=3", "ruder.temporal_from has no effect without several --passes"),
        ("a.png --set ruder.temporal_from=4 --passes 3", "ruder.temporal_from is over the last of the 3 --passes"),
        ("a.png --set ruder.long_term=2,4", "expected numbers that rise from 1, as in 1,2,4"),
        ("a.png --set ruder.long_term=1,4,2", "expected numbers that rise from 1, as in 1,2,4"),
    ],
)
def test_wrong_use_ends_in_one_line(picture: Path, options: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(picture.parent)
    for name in ("a.png", "b.png", "film/1.png", "film/2.png"):
        Path(name).parent.mkdir(exist_ok=True)
        write_picture(Path(name), torch.rand(1, 3, 16, 16))
    result = CliRunner().invoke(group, ["optimize", "film", *options.split(), "-o", "out/"])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize("options", ["", "--init init.png", "--vgg-weights vgg19.pth"])
def test_what_is_read_is_not_written_over(
    picture: Path, vgg19: Path, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("init.png").write_bytes(picture.read_bytes())
    style = "init.png" if not options else "picture.png"
    Path("content.png").write_bytes(picture.read_bytes())
    output = options.split()[-1] if options.endswith("png") else "init.png" if not options else "vgg19.png"
    if output == "vgg19.png":
        Path(output).symlink_to(vgg19)
    result = CliRunner().invoke(group, ["optimize", "content.png", style, "-o", output, "-y", *options.split()])
    assert result.exit_code == 2
    assert f"{output} is read by this command" in result.stderr


def test_one_number_of_iterations_holds_for_all_frames() -> None:
    def later(*iterations: int, passes: int = 1) -> int:
        return later_iterations(
            MethodSettings(gatys=OptimizationSettings(iterations=iterations), ruder=PassSettings(passes=passes))
        )

    assert later(4) == 4
    assert later(1000) == RuderSettings().later_iterations
    assert later(1000, 30) == 30
    assert later(7, passes=3) == 7


def test_a_start_picture_may_part_from_the_frame_by_a_rounded_pixel(tmp_path: Path) -> None:
    path = tmp_path / "start.png"
    write_picture(path, torch.rand(1, 3, 53, 96))  # of 928x514, scaled
    start = start_picture(str(path), 500, MACHINE)
    assert start is not None
    assert start(torch.rand(1, 3, 277, 500)).shape == (1, 3, 277, 500)
    assert start(torch.rand(1, 3, 300, 500)).shape == (1, 3, 276, 500)  # another shape: Gatys refuses it


def test_a_style_is_told_apart_by_the_network_that_a_method_runs(tmp_path: Path) -> None:
    """Its frames must not go on with those of a network that was trained meanwhile."""
    shutil.copytree(find_style("the_great_wave").folder, tmp_path / "mine")
    source, other = style_source(tmp_path / "mine"), find_style("mosaic")
    before = {method: source.identity((method,)) for method in ("recurrent", "independent", "gatys")}
    shutil.copy(other.checkpoint("recurrent"), tmp_path / "mine/recurrent.safetensors")
    after = {method: source.identity((method,)) for method in before}
    assert {method for method in before if before[method] != after[method]} == {"recurrent"}
