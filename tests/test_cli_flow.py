"""nststab flow estimate and nststab flow mask, run as a user would."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nststab.cli import group
from nststab.flow import estimators
from nststab.flow.colors import flow_colors
from nststab.flow.estimators import deepflow
from nststab.flow.files import read_flo, read_mask, write_flo
from nststab.video.images import read_picture, write_picture
from nststab.warp import reliability
from tests.conftest import Run, pan, save_frames


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab ...` beside a folder `film` of three 32x24 pictures."""
    monkeypatch.chdir(tmp_path)
    save_frames("film", pan(3, 24, 32), "{}.png")
    return lambda *arguments: CliRunner().invoke(group, ["flow", *arguments])


def files(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


EXPECTED = [
    "backward_2_1.flo",
    "backward_3_2.flo",
    "forward_1_2.flo",
    "forward_2_3.flo",
    "reliable_1_2.pgm",
    "reliable_2_1.pgm",
    "reliable_2_3.pgm",
    "reliable_3_2.pgm",
]


def test_estimate_writes_flows_and_masks_under_ruders_names(run: Run) -> None:
    result = run("estimate", "film", "-o", "flow")
    assert (result.exit_code, result.stdout) == (0, "")
    assert files("flow") == EXPECTED
    first, second = (read_picture(Path(f"film/{number}.png")).rgb for number in (0, 1))
    forward, backward = read_flo(Path("flow/forward_1_2.flo")), read_flo(Path("flow/backward_2_1.flo"))
    assert torch.equal(forward, deepflow(first, second))
    assert torch.equal(backward, deepflow(second, first))
    for name, mask in (("1_2", reliability(forward, backward)), ("2_1", reliability(backward, forward))):
        assert (read_mask(Path(f"flow/reliable_{name}.pgm")) - mask).abs().max() <= 1 / 255


def test_mask_gives_what_estimate_wrote(run: Run) -> None:
    run("estimate", "film", "-o", "flow")
    for there, back in (("1_2", "2_1"), ("2_1", "1_2")):
        names = {"1_2": "flow/forward_1_2.flo", "2_1": "flow/backward_2_1.flo"}
        assert run("mask", names[there], names[back], "-o", f"{there}.pgm").exit_code == 0
        assert Path(f"{there}.pgm").read_bytes() == Path(f"flow/reliable_{there}.pgm").read_bytes()


@pytest.mark.parametrize("option", [(), ("--flow-cache", "cache/flow")])
def test_a_second_run_reads_the_cache(run: Run, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("default").absolute()))
    assert run("estimate", "film", "-o", "a", *option).exit_code == 0
    assert len(list(Path(*option[1:] or ("default", "nststab", "flow")).glob("*.flo"))) == len(EXPECTED) / 2
    monkeypatch.setattr(estimators, "ESTIMATORS", {"deepflow": lambda *_: pytest.fail("computed again")})
    assert run("estimate", "film", "-o", "b", *option).exit_code == 0
    assert all(Path("a", name).read_bytes() == Path("b", name).read_bytes() for name in EXPECTED)


def test_an_existing_result_is_replaced_only_when_asked(run: Run) -> None:
    Path("flow").mkdir()
    assert run("estimate", "film", "-o", "flow").exit_code == 0
    for name in ("forward_7_8.flo", "notes.txt"):
        Path("flow", name).write_text("of an earlier, longer clip")
    refused = run("estimate", "film", "-o", "flow")
    assert refused.exit_code == 2
    assert "flow exists; say -y to overwrite it" in refused.stderr
    assert run("estimate", "film", "-o", "flow", "-y").exit_code == 0
    assert files("flow") == sorted([*EXPECTED, "notes.txt"])


def test_an_existing_mask_is_replaced_only_when_asked(run: Run) -> None:
    write_flo(Path("a.flo"), torch.zeros(1, 2, 8, 8))
    Path("mask.pgm").write_text("keep me")
    refused = run("mask", "a.flo", "a.flo", "-o", "mask.pgm")
    assert (refused.exit_code, Path("mask.pgm").read_text()) == (2, "keep me")
    assert run("mask", "a.flo", "a.flo", "-o", "mask.pgm", "-y").exit_code == 0
    assert np.array_equal(read_mask(Path("mask.pgm"))[0, 0, :5, :5], np.ones((5, 5)))


def lone_picture() -> None:
    for name in ("1.png", "2.png"):
        Path("film", name).unlink()


def two_sizes() -> None:
    write_picture(Path("film/1.png"), torch.rand(1, 3, 8, 8))


def bad_flows() -> None:
    write_flo(Path("a.flo"), torch.zeros(1, 2, 8, 8))
    write_flo(Path("b.flo"), torch.zeros(1, 2, 8, 9))
    Path("text.flo").write_text("this is no flow at all")


@pytest.mark.parametrize(
    ("prepare", "arguments", "code", "message"),
    [
        (lone_picture, "estimate film -o out", 1, "expected at least two frames, got one"),
        (two_sizes, "estimate film -o out", 1, "film"),
        (bad_flows, "estimate film -o a.flo/", 2, "a.flo exists"),
        (bad_flows, "estimate film -o a.flo -y", 1, "a.flo is a file"),
        (bad_flows, "estimate film -o out --size 0", 2, "--size"),
        (bad_flows, "estimate text.flo -o out", 1, "text.flo"),
        (bad_flows, "mask a.flo b.flo -o out.pgm", 1, "two flows of one shape"),
        (bad_flows, "mask a.flo text.flo -o out.pgm", 1, "text.flo is no .flo file"),
        (bad_flows, "mask a.flo a.flo -o out.png", 2, "ends in .pgm"),
        (bad_flows, "mask a.flo a.flo -o out/mask.pgm", 2, "out: the folder to write to does not exist"),
    ],
)
def test_bad_input_ends_in_one_line(
    run: Run, prepare: Callable[[], None], arguments: str, code: int, message: str
) -> None:
    prepare()
    result = run(*arguments.split())
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output
    assert not list(Path().glob("out*"))
    assert not [path for path in Path().rglob("*") if path.name.startswith(".")]


def test_show_paints_a_flow(run: Run) -> None:
    write_flo(Path("right.flo"), torch.tensor([4.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5))
    result = run("show", "right.flo", "-o", "right.png")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "right.png: the full colours are motions of 4.00 pixels\n"
    assert torch.equal(read_picture(Path("right.png")).rgb, flow_colors(read_flo(Path("right.flo"))))
    assert run("show", "right.flo", "-o", "right.png").exit_code == 2
    assert run("show", "right.flo", "-o", "right.png", "--max", "8", "-y").exit_code == 0
    assert (read_picture(Path("right.png")).rgb[0, :, 0, 0] * 255).round().tolist() == [255, 127, 127]


def test_show_paints_a_folder_with_one_maximum(run: Run) -> None:
    Path("flows").mkdir()
    for name, motion in (("slow", 1.0), ("fast", 4.0), ("none", 0.0)):
        write_flo(Path(f"flows/{name}.flo"), torch.tensor([motion, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5))
    Path("flows/reliable_1_2.pgm").touch()
    assert run("show", "flows", "-o", "shown/").exit_code == 0
    assert files("shown") == ["fast.png", "none.png", "slow.png"]
    colors = {path.stem: read_picture(path).rgb[0, :, 0, 0] * 255 for path in Path("shown").iterdir()}
    assert [colors[name].round()[1].item() for name in ("fast", "slow", "none")] == [0, 191, 255]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("show text.flo -o out.png", 1, "text.flo is no .flo file"),
        ("show a.flo -o out.flo", 2, "expected a picture's name, such as flow.png, got out.flo"),
        ("show a.flo -o film", 2, "film exists"),
        ("show a.flo -o out.png --max 0", 2, "--max"),
        ("show film -o out", 1, "film: expected .flo files, found none"),
        ("show . -o a.flo", 2, "a.flo"),
        ("show . -o film", 2, "film exists"),
        ("show . -o out", 1, "text.flo is no .flo file"),
    ],
)
def test_what_cannot_be_shown_is_answered_in_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    bad_flows()
    result = run(*arguments.split())
    assert (result.exit_code, len(result.stderr.splitlines())) == (code, 1)
    assert message in result.stderr
    assert not list(Path().glob("out*"))
