"""What the wheel carries: styles by name, their cards and checkpoints, the clip of the demo."""

import json
import zlib
from pathlib import Path

import pytest
import torch

from nststab.losses import LossSettings
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_target, save_checkpoint
from nststab.networks.perceptual import perceptual_network
from nststab.networks.transformation import TransformationNetwork
from nststab.styles import shipped as assets
from nststab.styles.shipped import Style, UnknownStyle, find_style, style_in, styles
from nststab.styles.trace_line import LAYERS
from nststab.video.images import read_picture
from tests.conftest import TINY, TINY_RECURRENT

CARD = {"artist", "year", "rights", "data", "settings", "command", "losses", "figures", "gram_trace"}


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with three styles and a folder that is none."""
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path)
    for name in ("the_great_wave", "the_scream", "udnie"):
        folder = tmp_path / "styles" / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps({"artist": f"the artist of {name} \N{SNOWMAN}"}), "utf-8")
    (tmp_path / "styles" / "unfinished").mkdir()
    return tmp_path / "styles"


def test_styles_are_the_folders_with_a_card(shelf: Path) -> None:
    assert [style.name for style in styles()] == ["the_great_wave", "the_scream", "udnie"]
    assert find_style("udnie") == Style("udnie", shelf / "udnie")
    assert find_style("udnie").card["artist"] == "the artist of udnie \N{SNOWMAN}"


@pytest.mark.parametrize(
    ("misspelt", "answer"),
    [
        ("the_great_wav", "did you mean the_great_wave"),
        ("great wave", "did you mean the_great_wave"),
        ("scream", "did you mean the_scream"),
        ("undie", "did you mean udnie"),
        ("xyz", "there are: the_great_wave, the_scream, udnie"),
        ("", "there are: the_great_wave, the_scream, udnie"),
        ("unfinished", "no style is named 'unfinished'"),
    ],
)
@pytest.mark.usefixtures("shelf")
def test_an_unknown_style_is_answered_with_the_nearest(misspelt: str, answer: str) -> None:
    with pytest.raises(UnknownStyle, match=answer):
        find_style(misspelt)


def test_a_style_knows_its_methods_and_picture(shelf: Path) -> None:
    torch.manual_seed(0)
    style = find_style("udnie")
    assert not style.methods
    assert style.image is None
    for method in ("recurrent", "independent"):
        config = TINY_RECURRENT if method == "recurrent" else TINY
        save_checkpoint(style.checkpoint(method), Checkpoint(TransformationNetwork(config)))
        assert load_checkpoint(style.checkpoint(method)).network.config == config
    (shelf / "udnie" / "image.jpg").write_bytes(b"")
    assert style.methods == ("independent", "recurrent")
    assert style.image == shelf / "udnie" / "image.jpg"
    assert style.target == shelf / "udnie" / "target.safetensors"


def test_a_folder_with_a_network_or_targets_is_a_style(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("recurrent.safetensors", "target.safetensors"):
        folder = shelf / name.split(".")[0]
        folder.mkdir()
        assert style_in(folder) is None
        (folder / name).touch()
        assert style_in(folder) == Style(folder.name, folder)
    monkeypatch.chdir(folder)
    assert style_in(Path(".")) == Style(folder.name, Path("."))


def test_a_card_may_be_missing_and_a_damaged_one_is_named(shelf: Path) -> None:
    style = Style("mine", shelf / "unfinished")
    assert style.card == {}
    for content in ("{", "[]", '"text"'):
        (style.folder / "card.json").write_text(content)
        with pytest.raises(ValueError, match=r"^[^\n]*unfinished/card\.json[^\n]*$"):
            _ = style.card


# What is shipped


@pytest.mark.parametrize("style", styles(), ids=lambda style: style.name)
def test_a_shipped_style_has_a_complete_card(style: Style) -> None:
    assert set(style.card) >= CARD
    assert all(style.card[field] for field in CARD)
    assert float(style.card["gram_trace"]["relu1_1"]) > 0
    assert set(style.methods) == {"independent", "recurrent"}
    thumbnail = style.folder / "thumbnail.jpg"
    assert (style.image is None) == (not thumbnail.exists())
    for picture, longest in ((style.image, 928), (thumbnail, 128)) if style.image else ():
        assert picture is not None
        assert max(read_picture(picture).rgb.shape) <= longest


@pytest.mark.parametrize("style", styles(), ids=lambda style: style.name)
def test_shipped_targets_serve_the_losses_and_without_a_picture_the_traces(style: Style) -> None:
    target, training = load_target(style.target)
    assert set(target) >= {*LossSettings().style_layers, *(LAYERS if style.image is None else ())}
    assert training["perceptual"] == perceptual_network(torch.device("cpu")).fingerprint
    assert training["style_size"] > 0
    for gram in target.values():
        assert torch.allclose(gram, gram.mT)
        assert gram.diagonal(dim1=1, dim2=2).min() >= 0
    for layer in set(LAYERS) & set(target):
        trace = float(target[layer].diagonal(dim1=1, dim2=2).sum())
        as_told = 0.01 if training["style_size"] == 512 else 0.15  # the size that cards tell the trace at
        assert trace == pytest.approx(style.card["gram_trace"][layer], rel=as_told)


@pytest.mark.parametrize("method", ["independent", "recurrent"])
@pytest.mark.parametrize("style", styles(), ids=lambda style: style.name)
def test_a_shipped_checkpoint_draws(style: Style, method: str) -> None:
    path = style.checkpoint(method)
    assert len(zlib.compress(path.read_bytes())) <= 1.3e6  # 95 levels a weight
    checkpoint = load_checkpoint(path)
    assert checkpoint.network.config.recurrent == (method == "recurrent")
    assert not checkpoint.style  # both networks share target.safetensors
    assert checkpoint.training["settings"]["steps"] > 0
    with torch.no_grad():
        picture = checkpoint.network(torch.rand(1, 3, 32, 32))
    assert picture.isfinite().all()
    assert picture.std() > 0.02  # not one colour
