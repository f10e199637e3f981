"""compare and score as functions, with methods of one's own beside ours."""

import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import nststab
from nststab.errors import NststabError, SettingError
from nststab.experiments.cast import Cast
from nststab.experiments.settings import Table1Settings
from nststab.frames import Frame
from nststab.measure.settings import ScoreSettings
from nststab.methods.plugin import load_stylizer
from nststab.methods.settings import OptimizationSettings
from nststab.tasks.compare import plan_compare
from nststab.tasks.settings import CompareSettings
from nststab.tasks.stylize import plan_stylize
from nststab.video.clip import open_clip
from nststab.video.images import write_picture
from tests.conftest import cli, done, pan, save_frames, texture, tiny_state_dict

VGG = Path("vgg.safetensors")
PLUGIN = """
def negative(frames):
    for frame in frames:
        yield frame.with_rgb(1 - frame.rgb)

def short(frames):
    yield from list(frames)[:-1]

def small(frames):
    return (frame.with_rgb(frame.rgb[..., 1:, :]) for frame in frames)

def wide(frames):
    return (frame.with_rgb(2 * frame.rgb + 1) for frame in frames)

def doubles(frames):
    return (frame.with_rgb(frame.rgb.double()) for frame in frames)

def nothing(frames):
    return None

def twice(frames):
    for frame in frames:
        yield frame
        yield frame

def late(frames):
    frames = list(frames)
    return iter([frames[1], frames[0], *frames[2:]])

def numbers(frames):
    return iter([1, 2, 3])

number = 3
"""


def negative(frames: Iterable[Frame]) -> Iterator[Frame]:
    return (frame.with_rgb(1 - frame.rgb) for frame in frames)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip of five pictures, a style, a tiny network and a module of methods."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "painters", raising=False)
    save_file(tiny_state_dict(), VGG)
    save_frames("clip", pan(5, 40, 48))
    write_picture(Path("style.png"), texture(40, 60).flip(-1))
    Path("painters.py").write_text(PLUGIN)
    return tmp_path


def compare(**options: Any) -> Any:
    settings = CompareSettings(gatys=OptimizationSettings(vgg_weights=VGG))
    return nststab.compare("clip", "out/", style="style.png", settings=settings, device="cpu", **options)


def test_a_method_of_one_s_own_is_measured_from_python_and_from_the_command_line() -> None:
    found = compare(methods=(), stylizers={"mine": negative})
    assert list(found.rows) == ["input", "mine"]
    own, mine = found.rows.values()
    assert mine.ssim == pytest.approx(own.ssim, abs=0.02)  # a negative is as steady as its content
    assert mine.content_loss > own.content_loss == 0
    assert found.json()["rows"]["mine"]["psnr"] == mine.psnr
    assert "| mine |" in found.markdown()
    pages = list(open_clip("out").frames())
    assert len(pages) == found.frames == 5
    given = "compare clip -o other/ --style style.png --methods painters:negative --vgg-weights vgg.safetensors"
    result = done(cli(given))
    figures = [line.split()[1:] for line in found.table().splitlines()[3:]]
    assert [line.split()[1:] for line in result.stdout.splitlines()[3:]] == figures


def test_a_style_that_only_its_network_draws_is_compared_without_style_loss(caplog: pytest.LogCaptureFixture) -> None:
    settings = CompareSettings(gatys=OptimizationSettings(vgg_weights=VGG))
    options: Any = {"methods": (), "stylizers": {"mine": negative}, "settings": settings, "device": "cpu"}
    found = nststab.compare("clip", "candy/", style="candy", **options).rows["mine"]
    assert "the style loss is not measured: candy carries no Gram targets" in caplog.text
    known = compare(methods=(), stylizers={"mine": negative}).rows["mine"]
    assert math.isnan(found.style_loss)
    assert not math.isnan(known.style_loss)
    assert found.content_loss == pytest.approx(known.content_loss, rel=1e-6)
    losses = Cast.of(["candy"], (), {"mine": negative}, Table1Settings(vgg_weights=VGG), "cpu").losses("candy", 48)
    terms = losses(torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 48))  # of all experiments
    assert math.isnan(terms["style"])
    assert terms["content"] > 0
    with pytest.raises(NststabError, match="candy carries no Gram targets"):
        nststab.score("clip", ["clip"], style="candy", settings=ScoreSettings(vgg_weights=VGG), device="cpu")


def test_stylize_takes_it_without_a_style_and_checks_it() -> None:
    made = nststab.stylize("clip", "out/", stylizer=negative)
    assert (made.frames, made.width, made.height) == (5, 48, 40)
    done(cli("stylize clip -o other/ --method painters:negative"))
    clips = [[frame.rgb for frame in open_clip(name).frames()] for name in ("clip", "out", "other")]
    for before, python, command in zip(*clips, strict=True):
        assert torch.allclose(python, 1 - before, atol=1e-6)
        assert torch.equal(python, command)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"style": "mosaic", "stylizer": negative}, "style has no effect on negative"),
        (
            {"method": "painters:negative", "preserve_color": True, "style": "mosaic"},
            "style has no effect on painters",
        ),
        ({"stylizer": negative, "settings": CompareSettings(gatys=OptimizationSettings(scales=2))}, "gatys.scales has"),
        ({"method": "painters:short"}, "the stylizer stopped after 4 frames, before the clip's end"),
        ({"method": "painters:small"}, "painters:small: expected a frame of"),
        ({"stylizer": 3}, "int: expected something to call, got an int"),
        ({"stylizer": negative, "device": "cpu"}, "device has no effect on negative"),
        ({"method": "painters:negative", "precision": "float32"}, "precision has no effect on painters:negative"),
        ({"style": 5}, "style: expected a name or a path, got 5"),
        ({"style": ["mosaic", None], "method": "gatys"}, "style: expected a name or a path, got None"),
        ({"style": "mosaic", "settings": {"size": 3}}, r"settings: expected StylizeSettings, got {'size': 3}"),
        ({"style": "mosaic", "settings": {}}, "settings: expected StylizeSettings, got {}"),
        ({"method": "gatys"}, "style: none was given; there are composition_xiv, mosaic"),
    ]
    for number, (options, message) in enumerate(refused):
        with pytest.raises(NststabError, match=message):
            nststab.stylize("clip", f"refused_{number}/", **options)
    with pytest.raises(SettingError, match="of painters:negative nothing is known"):
        plan_stylize("clip", "third/", method="painters:negative")
    with pytest.raises(SettingError, match="of painters:negative nothing is known that could be planned"):
        plan_compare("clip", "third/", style="mosaic", methods=["painters:negative"])


def test_a_report_shows_it_beside_the_input() -> None:
    compare(methods=("painters:negative",), stylizers={"mine": negative}, html="report.html")
    page = Path("report.html").read_text()
    assert '"name":"painters:negative","series":1' in page
    assert '"name":"mine","series":2' in page
    assert "nststab.compare, " in page


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:paint", "nowhere:paint: there is no module nowhere, neither installed nor in "),
        ("painters:paint", "painters:paint: painters has no paint"),
        ("painters:number", "painters:number: expected something to call, got an int"),
        ("painters:", "expected something of one's own as module:callable"),
        ("painters:short", "painters:short ends after 4 frames, before the input"),
        ("painters:small", r"painters:small: expected a frame of \(1, 3, 40, 48\), got \(1, 3, 39, 48\)"),
        ("painters:wide", r"painters:wide: expected values in \[0, 1\], got 1"),
        ("painters:doubles", r"painters:doubles: expected float32 in \[0, 1\], got float64"),
        ("painters:nothing", "painters:nothing: expected an iterator of frames, got None"),
        ("painters:numbers", "painters:numbers: expected frames, with_rgb of its own, got an int"),
        ("painters:twice", "painters:twice: gave more frames than it took"),
        ("painters:late", "painters:late: expected frame 0, with_rgb of its own, got 1"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_a_line(name: str, message: str) -> None:
    with pytest.raises(NststabError, match=message):
        compare(methods=(name,))


def test_an_error_inside_the_module_is_its_own() -> None:
    Path("broken.py").write_text("import nowhere_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        load_stylizer("broken:paint")


def test_the_input_s_name_is_taken() -> None:
    with pytest.raises(SettingError, match="'input' is the name of the input"):
        compare(methods=(), stylizers={"input": negative})


def test_scores_are_objects() -> None:
    compare(methods=(), stylizers={"mine": negative})
    settings = ScoreSettings(vgg_weights=VGG, gaps=(1, 2))
    scores = nststab.score("clip", ["clip"], settings=settings, device="cpu")
    (clip,) = scores.clips
    assert (clip.rank, clip.name, scores.frames, scores.shots) == (None, "clip", 5, 1)  # without style none has a rank
    assert clip.score.stability.ssim == scores.input.stability.ssim
    assert scores.json()["clips"][0]["warp_errors"].keys() == {"1", "2"}
    assert scores.table().splitlines()[-1].split()[0] == "clip"
    ssim = clip.score.stability.ssim
    assert list(clip.failures({"ssim": ssim}, {"content_loss": 0})) == []
    assert list(clip.failures({"ssim": 1.5}, {})) == [f"clip: ssim {ssim:.4g} is under 1.5"]
    assert list(clip.failures({}, {"style_loss": 1})) == ["clip: style_loss could not be measured, the limit is 1"]
    with pytest.raises(SettingError, match="clip is given twice"):
        nststab.score("clip", ["clip", "clip"])


def test_importing_nststab_waits_for_nothing() -> None:
    code = "import sys, nststab; print('torch' in sys.modules, 'click' in sys.modules, 'score' in dir(nststab))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
        "True",
    ]
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = nststab.paint
