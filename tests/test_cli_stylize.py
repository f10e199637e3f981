"""nststab stylize, optimize, compare and demo, run as a user would, on tiny clips with tiny random networks."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import Tensor

from nststab.methods import build
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint
from nststab.styles import shipped as assets
from nststab.video.clip import open_clip
from nststab.video.images import read_picture, write_picture
from tests.conftest import (
    Run,
    cli,
    contents,
    frames_of,
    save_clip,
    save_frames,
    save_networks,
    save_vgg,
    stylized,
    texture,
    told,
)

VGG = "--vgg-weights vgg.safetensors"
INDEPENDENT = "--style independent.safetensors --method independent --precision float32"
RECURRENT = "--style recurrent.safetensors --precision float32"
RUDER = f"--style style.png --method ruder --iterations 2,1 {VGG}"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `nststab ...` beside networks, pictures, `film` of three 32x24 pictures and the same as `clip.mp4`."""
    monkeypatch.chdir(tmp_path)
    save_vgg(tmp_path)
    save_networks(tmp_path, texture(32, 32, 1))
    write_picture(Path("photo.png"), texture(24, 32))
    write_picture(Path("style.png"), texture(32, 32, 1))
    film = [texture(24, 40)[..., 2 * number : 2 * number + 32] for number in range(3)]
    save_frames("film", film, "{}.png")
    save_clip("clip.mp4", film)
    yield cli
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


def done(result: Result) -> Result:
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    return result


def rounded(frame: Tensor) -> Tensor:
    return (frame * 255).round() / 255


@pytest.mark.parametrize(("name", "options"), [("independent", INDEPENDENT), ("recurrent", RECURRENT)])
def test_a_folder_becomes_what_the_network_makes_of_it(run: Run, name: str, options: str) -> None:
    result = done(run(f"stylize film -o out/ {options}"))
    assert result.stderr == "out/: 3 frames, 32x24\n"
    assert list(contents("out")) == [f"frame_00000{number}.png" for number in (1, 2, 3)]
    expected = stylized(FeedForward(load_checkpoint(Path(f"{name}.safetensors")).network), frames_of("film"))
    for got, frame in zip(frames_of("out"), expected, strict=True):
        assert (got - rounded(frame)).abs().max() <= 1.01 / 255


def test_a_cut_starts_anew_unless_told_otherwise(run: Run) -> None:
    Path("two").mkdir()
    write_picture(Path("two/1.png"), texture(24, 32, 3) * 0.4)
    write_picture(Path("two/2.png"), texture(24, 32, 5) * 0.4 + 0.6)
    shutil.copytree("two", "one")
    Path("one/1.png").unlink()
    done(run(f"stylize two -o cut/ {RECURRENT}"))
    done(run(f"stylize two -o whole/ {RECURRENT} --no-cuts"))
    done(run(f"stylize one -o alone/ {RECURRENT}"))
    assert contents("cut")["frame_000002.png"] == contents("alone")["frame_000001.png"]
    assert contents("whole")["frame_000002.png"] != contents("alone")["frame_000001.png"]


def test_nothing_is_overwritten_without_y(run: Run) -> None:
    Path("out.png").write_text("keep me")
    Path("out").mkdir()
    Path("out/mine.txt").write_text("keep me")
    for output in ("out.png", "out/"):
        for command in (f"stylize photo.png {INDEPENDENT}", f"optimize photo.png style.png --iterations 1 {VGG}"):
            refused = run(f"{command} -o {output}")
            assert refused.exit_code == 2
            assert refused.stderr.splitlines()[-1] == f"Error: {Path(output)} exists; say -y to overwrite it"
    assert Path("out.png").read_text() == "keep me"
    assert list(contents("out")) == ["mine.txt"]
    done(run(f"stylize photo.png -o out.png {INDEPENDENT} -y"))
    done(run(f"stylize photo.png -o out/ {INDEPENDENT} --yes"))
    assert read_picture(Path("out.png")).rgb.shape == (1, 3, 24, 32)
    assert list(contents("out")) == ["frame_000001.png", "mine.txt"]


def test_quiet_is_silent_and_verbose_says_more(run: Run) -> None:
    for arguments in (f"-q stylize film -o a.mp4 {RECURRENT} --size 31", f"stylize film -o b/ {RECURRENT} --quiet"):
        assert done(run(arguments)).stderr == ""
    spoken = done(run(f"stylize film -o c/ {RECURRENT} -v")).stderr.splitlines()
    assert spoken[0].startswith("computing on cpu")
    assert spoken[1] == "recurrent in float32 by torch"
    assert spoken[2].startswith("3 frames in ")


def test_the_optimizers_get_what_was_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []

    def ruder(*arguments: Any) -> Callable[[Iterable[Tensor]], Iterator[Tensor]]:
        said.extend(arguments)
        return lambda frames: iter(frames)

    monkeypatch.setattr(build, "Ruder", ruder)
    options = (
        "--iterations 7,3 --content-weight 2 --style-weight 3 --set loss.tv_weight=4 --temporal-weight 5 "
        "--set gatys.optimizer=adam --init style.png --seed 6"
    )
    write_picture(Path("style.png"), texture(12, 16))
    done(run(f"stylize film -o out/ --method ruder --style style.png {options} {VGG}"))
    gatys, _, settings = said
    loss, loop = gatys.loss, gatys.settings
    assert (loss.settings.content_weight, loss.settings.style_weight, loss.settings.tv_weight) == (2, 3, 4)
    assert (loop.iterations, settings.later_iterations, settings.temporal_weight) == (7, 3, 5)
    assert (loop.optimizer, loop.seed) == ("adam", 6)
    assert gatys.start(torch.zeros(1, 3, 24, 32)).shape == (1, 3, 24, 32)  # scaled to the content's size


def test_optimize_is_gatys_for_a_picture_and_ruder_for_a_clip(run: Run) -> None:
    style = f"style.png {VGG}"
    done(run(f"optimize photo.png {style} --iterations 2 -o a.png"))
    done(run(f"stylize photo.png --style {style} --method gatys --iterations 2 -o b.png"))
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    done(run(f"optimize film {style} --iterations 2,1 -o a/"))
    done(run(f"stylize film --style {style} --method ruder --iterations 2,1 -o b/"))
    assert contents("a") == contents("b")
    done(run(f"optimize film {style} --iterations 2 --no-temporal -o c/"))
    done(run(f"stylize film --style {style} --method gatys --iterations 2 -o d/"))
    assert contents("c") == contents("d")
    assert contents("a") != contents("c")


def table(result: Result) -> dict[str, list[str]]:
    """Rows of a table on stdout by their first cell."""
    return {row[0]: row[1:] for row in map(str.split, result.stdout.splitlines()[3:])}


@pytest.mark.parametrize(("flag", "said"), [("", "out.mp4: 3 frames\n"), ("-q", "")])
def test_compare_renders_the_methods_and_prints_their_figures(run: Run, flag: str, said: str) -> None:
    result = run(
        f"compare clip.mp4 -o out.mp4 --style independent.safetensors --methods ruder,independent "
        f"--iterations 20,10 {VGG} {flag}"
    )
    assert (result.exit_code, result.stderr) == (0, said)
    rows = table(result)
    assert list(rows) == ["input", "ruder", "independent"]
    assert result.stdout.splitlines()[1].split() == ["dB", "SSIM", "flicker", "loss", "loss"]
    assert float(rows["input"][4]) == 0
    assert float(rows["ruder"][3]) < float(rows["input"][3])
    made = open_clip(Path("out.mp4"))
    assert made.width >= 3 * 32
    assert len(list(made.frames())) == 3


def test_compare_of_a_picture_has_losses_only(run: Run) -> None:
    result = run(f"compare photo.png -o out.png --style style.png --methods gatys --iterations 1 {VGG}")
    assert (result.exit_code, result.stderr) == (0, "out.png: 1 frame\n")
    assert table(result)["gatys"][:3] == ["-", "-", "-"]


def test_shipped_styles_go_by_their_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    monkeypatch.setattr(assets, "_PACKAGE", package)
    folder = package / "styles" / "the_great_wave"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({}))
    save_networks(folder, texture(32, 32, 1))
    (package / "clips").mkdir()
    shutil.copy("clip.mp4", package / "clips" / "big_buck_bunny.mp4")
    result = done(run("demo"))
    assert result.stderr.splitlines() == ["demo.mp4: 3 frames, 32x24", f"stylized: {tmp_path / 'demo.mp4'}"]
    assert run("demo").exit_code == 2
    assert done(run("demo -y -q")).stderr == ""
    for method in ("recurrent", "independent", "gatys --iterations 1 " + VGG, "ruder --iterations 1,1 " + VGG):
        done(run(f"stylize film -o {method.split()[0]}/ --style the_great_wave --method {method}"))
    compared = run(f"compare film -o compared/ --style the_great_wave {VGG}")
    assert list(table(compared)) == ["input", "independent", "recurrent"]


def test_the_networks_run_without_opencv(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    done(run(f"stylize clip.mp4 -o a.mp4 {RECURRENT}"))
    done(run(f"stylize clip.mp4 -o b.mp4 {INDEPENDENT}"))
    assert "pip install opencv-contrib-python" in told(run(f"stylize clip.mp4 -o out.mp4 {RUDER}"), 1)
    assert not Path("out.mp4").exists()


def test_folders_work_without_av(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nststab.video.reader", "nststab.video.writer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    done(run(f"stylize film -o out/ {RECURRENT}"))
    done(run(f"stylize photo.png -o out.png {INDEPENDENT}"))
    for arguments in (f"clip.mp4 -o other/ {RECURRENT}", f"film -o out.mp4 {RECURRENT}"):
        refused = run(f"stylize {arguments}")
        assert refused.exit_code == 1
        assert refused.stderr.splitlines() == [
            "Error: video files need the package av (PyAV); pictures and folders of them work without it"
        ]
    assert not Path("other").exists()
    assert not Path("out.mp4").exists()
