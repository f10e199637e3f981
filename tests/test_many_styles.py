"""Styles of a network of many: by name from the shipped one or a file, mixed, with strokes, and at any strength."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nststab
from nststab.color import preserve_flat
from nststab.engines.torch_engine import TorchEngine
from nststab.errors import NststabError, SettingError
from nststab.frames import Frame
from nststab.methods.build import build, machine
from nststab.methods.feed_forward import Painting, paint
from nststab.methods.painter import Painter
from nststab.methods.settings import MethodSettings
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.networks.rows import PHOTOGRAPH, Look
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.settings import at, curve
from nststab.styles.card import light_card_of
from nststab.styles.shipped import find_style, light_network, light_picture, light_styles, styles
from nststab.styles.source import chosen_style, style_source
from nststab.tasks.settings import StylizeSettings
from nststab.tasks.stylize import plan_stylize
from nststab.video.images import from_uint8, read_picture, to_uint8, write_picture
from tests.conftest import done, rand, save_frames

ROWS = ("wave@256", "wave@512", "scream@256", "scream@512", PHOTOGRAPH)


@pytest.fixture
def frame() -> Tensor:
    return from_uint8(np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8))


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(saved(tmp_path / "many.safetensors", recurrent=True))


def saved(path: Path, recurrent: bool = False, rows: tuple[str, ...] = ROWS) -> Path:
    torch.manual_seed(0)
    network = TransformationNetwork(NetworkConfig(recurrent, (2, 4, 8), 1, 4, "light", rows))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if ".normalization." in name:
                value.add_(0.5 * torch.randn_like(value))
    save_checkpoint(path, Checkpoint(network))
    return path


def test_a_shipped_style_of_the_light_network_goes_by_its_name(frame: Tensor) -> None:
    network = load_checkpoint(light_network("independent")).network
    assert len(light_styles()) >= 16
    for text, name in (("candy", "candy"), ("light/starry_night", "starry_night")):
        weights = Look({name: 1}, 0.5).weights(network.config.styles)
        assert weights.tolist().index(1) == network.config.styles.index(f"{name}@512")
        made = style_source(text).trained("independent", stroke=0.5).network
        torch.testing.assert_close(made(frame), network(frame, None, weights[None]))
    own = style_source("starry_night").trained("independent").network
    assert own.config == load_checkpoint(find_style("starry_night").checkpoint("independent")).network.config


@pytest.mark.parametrize("method", ["independent", "recurrent"])
@pytest.mark.parametrize("style", ["mosaic", "rain_princess"])
def test_the_shipped_light_networks_draw_no_border(style: str, method: str) -> None:
    """By a wider margin the outer four pixels change by 6 to 10.5 levels; of those that drew one by 11.3 to 16."""
    network = style_source(f"light/{style}").trained(method, stroke=0.5).network
    wide = TransformationNetwork(replace(network.config, margin=48))
    wide.load_state_dict(network.state_dict())
    pictures = F.interpolate(rand(4, 3, 12, 16), (96, 128), mode="bicubic").clamp(0, 1)
    with torch.no_grad():
        change = torch.cat([network(one) - wide(one) for one in pictures.chunk(4)]).abs().mean((0, 1))
    outer = F.pad(torch.zeros(88, 120), (4,) * 4, value=1).bool()
    assert 255 * float(change[outer].mean()) < 11


def test_styles_of_one_network_are_mixed(frame: Tensor, file: str) -> None:
    network = load_checkpoint(Path(file)).network
    texts = f"{file}:wave,{file}:scream"
    mixed = chosen_style(texts, (3, 1)).trained("recurrent", stroke=2).network
    weights = torch.tensor([[0, 0.75, 0, 0.25, 0]])
    torch.testing.assert_close(mixed(frame), network(frame, None, weights))


@pytest.mark.parametrize(
    ("text", "method", "stroke", "message"),
    [
        ("FILE", "recurrent", None, "holds the styles wave, scream; say FILE:NAME"),
        ("FILE:wav", "recurrent", None, "the network has no style 'wav'; did you mean wave"),
        ("FILE:wave", "independent", None, "is a network for the method recurrent, not independent"),
        ("light/candy,FILE:wave", "independent", None, "mixes styles of one network, and light/candy,FILE:wave are of"),
        ("candys", "recurrent", None, "no style is named 'candys'; did you mean candy"),
        ("light/candys", "recurrent", None, "no style is named 'light/candys'; did you mean light/candy"),
        ("starry_night", "recurrent", 1.0, "stroke has no effect on starry_night.*light/starry_night has"),
        ("light/candy,p.png", "independent", None, "the style p.png does not exist"),
    ],
)
def test_what_a_network_of_many_has_not_is_refused(
    text: str, method: str, stroke: float | None, message: str, file: str
) -> None:
    with pytest.raises(SettingError, match=message.replace("FILE", file)):
        chosen_style(text.replace("FILE", file)).trained(method, stroke)


def test_a_picture_is_not_mixed_by_a_network(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", torch.rand(1, 3, 8, 8))
    with pytest.raises(SettingError, match=r"needs a trained style, .*a.png is a picture"):
        chosen_style(["candy", tmp_path / "a.png"]).trained("independent")


def test_the_weights_are_as_many_as_the_styles() -> None:
    with pytest.raises(SettingError, match="style_weights has 3 numbers for 2 styles"):
        chosen_style("light/candy,light/udnie", (1, 2, 3))


# strength


def stylized(file: str, frames: list[Frame], **settings: Any) -> list[Tensor]:
    chosen = MethodSettings(**settings)
    made = build("recurrent", style_source(f"{file}:wave"), chosen, longest_side=30, machine=machine("cpu", "float32"))
    return [one.rgb for one in made(frames)]


def test_strength_goes_from_the_photograph_to_the_style(frame: Tensor, file: str) -> None:
    frames = [Frame(frame, number) for number in range(2)]
    full = stylized(file, frames)
    assert all(torch.equal(one, frame) for one in stylized(file, frames, strength=curve(0)))
    assert all(
        torch.equal(one, other) for one, other in zip(stylized(file, frames, strength=curve(1)), full, strict=True)
    )
    distances = [
        float((stylized(file, frames, strength=curve(share))[-1] - full[-1]).abs().mean()) for share in (0.1, 0.5, 0.9)
    ]
    assert sorted(distances, reverse=True) == distances
    near = stylized(file, frames, strength=curve(1e-6))
    assert all(torch.allclose(one, frame, atol=1e-4) for one in near)


def test_between_the_rows_are_mixed_and_what_the_photograph_lacks_is_added(frame: Tensor, file: str) -> None:
    network = load_checkpoint(Path(file)).network
    style, photograph = Look({"wave": 1}).weights(ROWS), torch.tensor([0.0, 0, 0, 0, 1])
    engine = TorchEngine(network)
    ((painted, previous),) = paint(engine, Painting(frame, None, torch.stack((style, photograph)), 0.25))
    mixed = network(frame, None, (0.25 * style + 0.75 * photograph)[None])
    plain = network(frame, None, photograph[None])
    expected = preserve_flat(mixed, frame) + 0.75 * (frame - preserve_flat(plain, frame))
    torch.testing.assert_close(painted, expected.clamp(0, 1).detach())
    assert previous is not None
    torch.testing.assert_close(previous, torch.cat((mixed, plain)).detach())
    ((again, _),) = paint(engine, Painting(frame, previous, torch.stack((style, photograph)), 0.25))
    following = network(frame, mixed, (0.25 * style + 0.75 * photograph)[None])
    plain = network(frame, plain, photograph[None])
    expected = preserve_flat(following, frame) + 0.75 * (frame - preserve_flat(plain, frame))
    torch.testing.assert_close(again, expected.clamp(0, 1).detach())


def test_strength_follows_a_curve_over_the_times_of_the_frames(frame: Tensor, file: str) -> None:
    from fractions import Fraction

    times = [Fraction(number, 2) for number in range(5)]
    frames = [Frame(frame, number, time) for number, time in enumerate(times)]
    grown = stylized(file, frames, strength=curve("0.5:0,1.5:1"))
    assert torch.equal(grown[0], frame)
    assert torch.equal(grown[1], frame)
    assert torch.equal(grown[3], stylized(file, [frames[0]])[0]) is False  # it remembers what it drew before
    assert 0 < float((grown[2] - frame).abs().mean()) < float((grown[3] - frame).abs().mean())
    with pytest.raises(NststabError, match="strength: a curve needs frames that have times"):
        stylized(file, [Frame(frame)], strength=curve("0:0,1:1"))


def test_a_plan_of_a_curve_counts_two_runs_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    style = saved(tmp_path / "one.safetensors", recurrent=True, rows=("wave@512", PHOTOGRAPH))
    save_frames(tmp_path / "clip", torch.rand(2, 3, 24, 30))
    runs: list[int] = []
    run = TorchEngine.__call__

    def counted(self: TorchEngine, *given: Tensor | None) -> Tensor:
        runs.append(1)
        return run(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(TorchEngine, "__call__", counted)
    counts = []
    for strength in ([(0, 1)], [(0, 0), (1, 1)]):
        runs.clear()
        plan_stylize(tmp_path / "clip", f"{tmp_path}/out/", style=str(style), strength=strength, engine="torch", fps=25)
        counts.append(len(runs))
    assert counts[1] == 2 * counts[0] > 0


def test_a_network_without_the_photograph_has_no_strength(tmp_path: Path) -> None:
    file = str(saved(tmp_path / "one.safetensors", True, ("wave@256",)))
    with pytest.raises(SettingError, match=r"strength has no effect on .*, whose network draws no photograph"):
        style_source(file).trained("recurrent", photograph=True)
    assert len(style_source(file).trained("recurrent").network.config.styles) == 1


def test_curves_are_linear_between_their_points_and_level_beyond() -> None:
    rising = curve("1:0,3:0.5,4:0.25")
    assert [at(rising, time) for time in (0, 1, 2, 3, 3.5, 4, 9)] == [0, 0, 0.25, 0.5, 0.375, 0.25, 0.25]
    assert curve(0.5) == curve("0.5") == ((0.0, 0.5),)
    assert curve([(0, 1), (2, 0.5)]) == curve("0:1,2:0.5")
    for wrong in ("", "a", "0:1,0:2", "2:0,1:1", "0:1:2", "nan:1", None, [(0, 1, 2)]):
        with pytest.raises(ValueError, match="expected a number, or TIME:VALUE"):
            curve(wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="strength: expected at least 0 and at most 1, got 2"):
        MethodSettings(strength=curve("0:0,1:2"))


def test_only_networks_have_strokes_and_strength() -> None:
    for settings in (MethodSettings(stroke=1.0), MethodSettings(strength=curve(0.5))):
        with pytest.raises(SettingError, match="has no effect on gatys, ruder"):
            settings.check(("gatys", "ruder"))
        settings.check(("gatys", "independent"))


# a painter


def test_a_painter_mixes_anew_for_every_frame(file: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    painter = Painter([f"{file}:wave", f"{file}:scream"], device="cpu", precision="float32", style_weights=(1, 0))
    alone = Painter(f"{file}:wave", device="cpu", precision="float32")
    assert np.array_equal(painter(picture), alone(picture))
    painter.weights, painter.stroke = (1, 3), 2.0
    network = load_checkpoint(Path(file)).network.eval()
    content = from_uint8(picture)
    with torch.no_grad():
        first = network(content, None, torch.tensor([[1.0, 0, 0, 0, 0]]))  # as large as the frame
        second = network(content, first, torch.tensor([[0, 0.25, 0, 0.75, 0]]))
    assert np.array_equal(painter(picture), to_uint8(preserve_flat(second, content)))
    painter.strength = 0.0
    assert np.array_equal(painter(picture), picture)
    painter.weights = (1,)
    with pytest.raises(SettingError, match="style_weights has 1 numbers for 2 styles"):
        painter(picture)
    painter.weights, painter.stroke = (1, 1), 3.0
    with pytest.raises(SettingError, match=r"stroke: expected at least 0.5 and at most 2, got 3"):
        painter(picture)


def test_a_painter_of_one_style_says_what_it_has_not() -> None:
    painter = Painter("the_great_wave", device="cpu", precision="float32", strength=0.5)
    with pytest.raises(SettingError, match="stroke and strength have no effect on the_great_wave"):
        painter(np.zeros((24, 24, 3), np.uint8))


@pytest.mark.parametrize("name", light_styles())
def test_every_light_style_that_may_be_shipped_has_its_picture_and_so_gram_targets(name: str) -> None:
    source, facts = style_source(f"light/{name}"), dict(light_card_of(name).facts)
    free = facts["rights"].startswith("public domain")
    assert (light_picture(name) is not None) == free == source.scalable
    if free or name in [one.name for one in styles()]:
        target = source.target(perceptual_network(torch.device("cpu")), ("relu1_2",), 64)
        assert target["relu1_2"].shape == (1, 64, 64)


def test_the_command_shows_the_card_of_every_light_style() -> None:
    from click.testing import CliRunner

    from nststab.cli import group

    for name in light_styles():
        shown = done(CliRunner().invoke(group, ["styles", f"light/{name}"]))
        assert "light_independent.safetensors" in shown.stdout


# a working size


def test_the_strength_counts_at_the_size_of_the_clip(tmp_path: Path, file: str) -> None:
    """Strength 0 is the input to the bit and little strength little change, however small the network paints."""
    write_picture(tmp_path / "in.png", torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(0)))
    given = read_picture(tmp_path / "in.png").rgb
    picture = to_uint8(given)

    def change(strength: float) -> float:
        out = tmp_path / f"{strength}.png"
        settings = StylizeSettings(work_size=32, precision="float32")
        nststab.stylize(tmp_path / "in.png", out, style=f"{file}:wave", strength=strength, settings=settings)
        made = read_picture(out).rgb
        painter = Painter(f"{file}:wave", precision="float32", strength=strength, work_size=32)
        assert np.abs(painter(picture).astype(int) - to_uint8(made)).max() <= 1  # of mixed rows, or mixed as it paints
        return float((made - given).abs().mean())

    assert change(0.0) == 0
    assert change(0.01) < 0.01 < 0.1 < change(1.0)


def test_a_strength_that_is_none_is_a_setting_error(tmp_path: Path, file: str) -> None:
    write_picture(tmp_path / "in.png", torch.rand(1, 3, 16, 16))
    with pytest.raises(SettingError, match="strength: expected a number, or TIME:VALUE"):
        nststab.stylize(tmp_path / "in.png", tmp_path / "o.png", style=f"{file}:wave", strength="x")  # type: ignore[arg-type]


def test_a_file_has_networks_of_its_own_kind_only(file: str) -> None:
    assert style_source(f"{file}:wave").has("recurrent")
    assert not style_source(f"{file}:wave").has("independent")
    assert style_source("light/candy").has("independent")
