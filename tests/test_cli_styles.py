"""nststab styles: the table, the cards, and the sheet of one picture in every style."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from nststab.cli import group
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.transformation import TransformationNetwork
from nststab.styles import shipped as assets
from nststab.tasks.preview import FRAMES, labelled
from nststab.video.images import read_picture, resize, write_picture
from tests.conftest import TINY, TINY_RECURRENT, done, save_frames, stylized, told

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[..., Result]
NAMES = ("candy", "udnie")  # in the order of the shelf
FIGURES = {"psnr": 21.4877, "ssim": 0.5812, "n": 7737, "style_loss": None}
CARD: dict[str, Any] = {
    "title": "Udnie",
    "artist": "Francis Picabia",
    "year": 1913,
    "rights": "public domain [1]",
    "data": {"photos": 1548, "what": "photographs", "clips": None},
    "command": ["nststab train image udnie.jpg --photos PHOTOS -o independent.safetensors", "nststab train video"],
    "settings": {"independent": {"loss": {"style_weight": 2.0, "style_layers": ["relu1_2", "relu2_2"]}}},
    "gram_trace": {"relu1_1": 1234.56},
    "figures": {"what": "ten sequences", "command": "nststab evaluate stability", "independent": FIGURES},
}


def save_network(path: Path, recurrent: bool, seed: int) -> None:
    torch.manual_seed(seed)
    network = TransformationNetwork(TINY_RECURRENT if recurrent else TINY)
    save_checkpoint(path, Checkpoint(network))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab styles ...` beside a picture and a clip; `candy` has a bare card, `udnie` a whole one."""
    for seed, name in enumerate(NAMES):
        folder = tmp_path / "package" / "styles" / name
        folder.mkdir(parents=True)
        for recurrent in (False, True):
            save_network(folder / f"{'recurrent' if recurrent else 'independent'}.safetensors", recurrent, seed)
        (folder / "card.json").write_text(json.dumps(CARD if name == "udnie" else {"artist": None, "figures": {}}))
    monkeypatch.setattr(assets, "_PACKAGE", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    write_picture(Path("photo.png"), frame(0))
    save_frames("clip", map(frame, range(FRAMES + 3)), "{:02}.png")
    return lambda *arguments: CliRunner(env={"COLUMNS": "100"}).invoke(group, ["styles", *map(str, arguments)])


def frame(number: int) -> Tensor:
    """A pan over a few colours, without cuts."""
    coarse = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    return (resize(coarse, 64)[..., number : number + 32] * 255).round() / 255


def cells(text: str) -> list[list[str]]:
    """Of the rows below a table's rule; what stands in a row is two blanks apart."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("───"):
            break
    return [re.split(r" {2,}", line.strip()) for line in lines]


# the table


def test_the_table_tells_each_network_s_stability(run: Run) -> None:
    assert cells(done(run()).stdout)[:4] == [
        ["candy", "-", "independent", "-", "-"],
        ["recurrent", "-", "-"],
        ["udnie", "1234.6", "independent", "21.5", "0.58"],
        ["Francis Picabia, 1913", "recurrent", "-", "-"],
    ]


def test_a_style_without_networks_has_a_row(run: Run) -> None:
    for path in Path("package/styles/udnie").glob("*.safetensors"):
        path.unlink()
    assert cells(done(run()).stdout)[2:4] == [["udnie", "1234.6", "-", "-", "-"], ["Francis Picabia, 1913"]]


@pytest.mark.parametrize("arguments", ["", "the_great_wave", "photo.png"])
def test_all_is_readable_on_a_terminal_of_60_columns(tmp_path: Path, arguments: str) -> None:
    """Nothing is cut; only commands and paths, which are to be copied, and a picture's sentences are longer."""
    write_picture(tmp_path / "photo.png", frame(0))
    shown = on_a_terminal(60, tmp_path, "styles", *arguments.split())
    assert "\u2026" not in shown
    lines = shown.splitlines()
    assert any("the_great_wave" in line or "photo.png" in line for line in lines)
    tables = [line for line in lines if not re.match(r"    nststab |files| +/|photo\.png: |Instability is ", line)]
    assert max(map(len, tables)) <= 60


def on_a_terminal(columns: int, folder: Path, *arguments: str) -> str:
    """What a command shows on a terminal, in a process of its own."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, cwd=folder, env=environment):
        os.close(its)
        shown = b""
        with suppress(OSError):  # the terminal is gone when the command has ended
            while part := os.read(ours, 1 << 16):
                shown += part
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_a_damaged_card_is_named(run: Run) -> None:
    Path("package/styles/udnie/card.json").write_text("{")
    result = run()
    assert result.exit_code == 1
    assert "udnie/card.json is damaged" in result.stderr


# the card


def test_a_card_is_told_in_full(run: Run) -> None:
    shown = done(run("udnie")).stdout
    assert shown.startswith("Udnie, Francis Picabia, 1913\n")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for line in (
        "rights public domain [1]",
        "data photos 1548, photographs",
        "loss style weight 2, style layers relu1_2 relu2_2",
        "gram trace relu1_1 1234.56",
        "figures ten sequences",
    ):
        assert line in lines
    for command in (*CARD["command"], CARD["figures"]["command"]):
        assert f"    {command}\n" in shown
    assert cells(shown)[:1] == [["independent", "21.49", "0.5812", "7737", "-"]]
    assert str(Path("package/styles/udnie").resolve()) in shown
    assert "  recurrent.safetensors" in shown


def test_the_stages_of_a_style_are_told_one_by_one(run: Run) -> None:
    """As `train style` writes them, which trains and measures in one command."""
    settings = {"between": [{"settings": {"steps": 5}}, {"settings": {"steps": 7}}], "sizes": [[1, 2], [3]]}
    figures = {"command": "nststab train style", "independent": {"psnr": 20.0}}
    card = {"command": ["nststab train style"], "settings": settings, "data": {"between": []}, "figures": figures}
    Path("package/styles/udnie/card.json").write_text(json.dumps(card))
    lines = [" ".join(line.split()) for line in done(run("udnie")).stdout.splitlines()]
    start = lines.index("settings sizes 1 2 3")
    assert lines[start : start + 5] == ["settings sizes 1 2 3", "between", "1", "settings steps 5", "2"]
    assert lines.count("nststab train style") == 1
    assert lines.count("between") == 1  # of two stages there is none between, which is no line
    assert "data between" not in lines


def test_a_folder_s_card_is_that_of_a_name(run: Run) -> None:
    by_name = done(run("udnie")).stdout
    assert done(run("package/styles/udnie")).stdout == done(run("package/styles/udnie/")).stdout == by_name


def test_a_folder_goes_before_a_name_and_an_output_of_that_name_does_not(run: Run) -> None:
    shipped = done(run("udnie")).stdout
    Path("udnie").mkdir()
    assert done(run("udnie")).stdout == shipped
    save_network(Path("udnie/independent.safetensors"), False, 0)
    assert done(run("udnie")).stdout.startswith("udnie\nfiles")


@pytest.mark.parametrize(
    "card",
    [
        {},
        dict.fromkeys(CARD),
        {"figures": {"independent": {}, "recurrent": None}, "command": []},
        {"figures": "none yet", "settings": [], "seed": [1, [2, 3]], "data": "own"},
        {"figures": {"gatys": {"psnr": "high"}, "note": None}, "losses": {"a": {"b": {"c": 1}}}},
        {"artist": 3, "year": "about 1900", "gram_trace": 5, "command": "one"},
    ],
)
def test_a_card_may_lack_anything(run: Run, card: dict[str, Any]) -> None:
    Path("package/styles/udnie/card.json").write_text(json.dumps(card))
    assert "  independent.safetensors" in done(run("udnie")).stdout
    assert "\nudnie " in done(run()).stdout


def test_every_shipped_card_can_be_told() -> None:
    for style in assets.styles():
        shown = done(CliRunner().invoke(group, ["styles", style.name])).stdout
        assert style.card["artist"] in shown.splitlines()[0]
        assert all(f"    {command}\n" in shown for command in style.card["command"])
        assert {"independent", "recurrent"} <= {row[0] for row in cells(shown)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["udni"], "no style is named 'udni'; did you mean udnie?"),
        (["xyzzy"], "there are: candy, udnie (nststab styles shows them; a picture's or checkpoint's path works too)"),
        (["phto.png"], "the style phto.png does not exist; did you mean photo.png?"),
        (["clip/"], "the style clip/ is a folder that holds no trained style"),
        (["clip"], "the folder clip holds no trained style, and no style is named 'clip'"),
        (["candy", "udni"], "no style is named 'udni'"),
        (["--size", "64"], "--size has no effect without --sheet"),
        (["udnie", "--device", "cpu"], "--device has no effect without --sheet"),
        (["--sheet", "out.png"], "--sheet takes one INPUT, got 0"),
        (["--sheet", "out.png", "photo.png", "clip"], "--sheet takes one INPUT, got 2"),
        (["--sheet", "out.mp4", "photo.png"], "expected a picture (.bmp, "),
        (["--sheet", "out.png", "phto.png"], "Path 'phto.png' does not exist; did you mean photo.png?"),
        (["--sheet", "clip/00.png", "photo.png"], "clip/00.png exists; say -y to overwrite it"),
        (["--sheet", "photo.png", "photo.png", "-y"], "photo.png is read by this command; write to another name"),
    ],
)
def test_wrong_usage_is_answered(run: Run, arguments: list[str], message: str) -> None:
    assert message in told(run(*arguments))


# the sheet


def sheet(last: Tensor, frames: list[Tensor], method: str, names: tuple[str, ...] = NAMES) -> Tensor:
    """The sheet of all styles, as it is read back."""
    stylizers = [FeedForward(load_checkpoint(assets.find_style(name).checkpoint(method)).network) for name in names]
    drawn = [list(stylized(stylizer, frames))[-1] for stylizer in stylizers]
    write_picture(Path("expected.png"), labelled([last, *drawn], ["input", *names]))
    return read_picture(Path("expected.png")).rgb


def test_a_picture_is_drawn_by_the_independent_networks(run: Run) -> None:
    result = done(run("--sheet", "out.png", "photo.png", "--precision", "float32"))
    assert result.stderr == "out.png: candy, udnie\n"
    assert torch.equal(read_picture(Path("out.png")).rgb, sheet(frame(0), [frame(0)], "independent"))


def test_a_clip_is_drawn_by_the_recurrent_networks_after_some_frames(run: Run) -> None:
    done(run("--sheet", "out.png", "clip", "--precision", "float32"))
    frames = [frame(number) for number in range(FRAMES)]
    assert torch.equal(read_picture(Path("out.png")).rgb, sheet(frames[-1], frames, "recurrent"))
    assert not torch.equal(read_picture(Path("out.png")).rgb, sheet(frames[-1], frames[-1:], "recurrent"))


def test_a_cut_ends_the_frames_of_a_sheet(run: Run) -> None:
    for number in range(5, FRAMES + 3):
        write_picture(Path(f"clip/{number:02}.png"), 1 - frame(number))
    done(run("--sheet", "out.png", "clip", "--precision", "float32"))
    frames = [frame(number) for number in range(5)]
    assert torch.equal(read_picture(Path("out.png")).rgb, sheet(frames[-1], frames, "recurrent"))


def test_large_frames_are_scaled_down_and_small_ones_not_up(run: Run) -> None:
    done(run("--sheet", "out.png", "photo.png", "--size", 16, "--precision", "float32"))
    small = resize(frame(0), 16)
    assert torch.equal(read_picture(Path("out.png")).rgb, sheet(small, [small], "independent"))
    done(run("--sheet", "out.png", "photo.png", "--size", 64, "--precision", "float32", "-y"))
    assert torch.equal(read_picture(Path("out.png")).rgb, sheet(frame(0), [frame(0)], "independent"))


def test_a_style_without_the_network_is_left_out_and_named(run: Run) -> None:
    Path("package/styles/candy/recurrent.safetensors").unlink()
    result = done(run("--sheet", "out.png", "clip", "--precision", "float32"))
    assert result.stderr == "note: candy is left out, it has no recurrent network\nout.png: udnie\n"
    Path("package/styles/udnie/recurrent.safetensors").unlink()
    result = run("--sheet", "out.png", "clip", "-y", "-q")
    assert (result.exit_code, result.stderr) == (1, "Error: no style with a recurrent network is shipped\n")


def test_each_panel_stands_under_its_own_name() -> None:
    """Another label changes pixels above its panel only, another picture those below its label."""
    first, second = torch.full((1, 3, 60, 80), 0.25), torch.full((1, 3, 60, 80), 0.75)
    before, after = labelled([first, second], ["a", "b"]), labelled([first, second], ["a", "W"])
    changed = (before != after).any(dim=1)[0].nonzero()
    assert changed[:, 0].max() < before.shape[-2] - 60
    assert changed[:, 1].min() > 80
    assert int((before == 0.25).all(dim=1).sum()) == int((before == 0.75).all(dim=1).sum()) == 60 * 80
