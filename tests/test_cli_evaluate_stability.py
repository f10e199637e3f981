"""nststab evaluate stability, run as a user would, on small sequences with tiny networks."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from nststab import metrics
from nststab.baselines import gatys
from nststab.cli import group
from nststab.experiments.cast import Cast
from nststab.measure.rows import CHEATS
from nststab.measure.stability import CONTENT
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.transformation import TransformationNetwork
from nststab.video.images import write_picture
from tests.conftest import TINY, TINY_RECURRENT, Run, done, save_davis, save_vgg, stylized, texture, tiny_target, told

pytestmark = pytest.mark.usefixtures("unrendered")

FRAMES = 5
METHODS = ("independent", "recurrent")
OPTIMIZE = gatys.optimize


def write_sequence(name: str, frames: Sequence[Tensor]) -> None:
    """Frames, and a foreground of a few pixels in their upper left corner."""
    foreground = torch.zeros_like(frames[0])
    foreground[..., :4, :6] = 1
    save_davis("davis", name, frames, foreground)


def panning(seed: int, height: int = 48) -> list[Tensor]:
    scene = texture(height, 64 + 2 * FRAMES, seed, (6, 16))
    return [scene[..., 2 * t : 2 * t + 64] for t in range(FRAMES)]


def write_style(folder: Path, seed: int) -> None:
    """Two random networks; the style is that of what the first makes of a frame, so it has been learnt perfectly."""
    folder.mkdir()
    torch.manual_seed(seed)
    networks = {name: TransformationNetwork(TINY_RECURRENT if name == "recurrent" else TINY) for name in METHODS}
    picture = next(stylized(FeedForward(networks["independent"], "cpu", "float32"), panning(0)))
    for name, network in networks.items():
        save_checkpoint(folder / f"{name}.safetensors", Checkpoint(network, tiny_target(picture)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command beside a DAVIS of two sequences and a style; `-o` and so on come from the arguments."""
    monkeypatch.chdir(tmp_path)
    save_vgg(Path())
    write_sequence("swan", panning(0))
    write_sequence("dog", panning(1))
    write_style(Path("wave"), 0)

    monkeypatch.setattr(Cast, "announce", lambda *_: None)  # its probes take longer than these clips

    def run(arguments: str) -> Result:
        call = f"evaluate stability --davis davis --styles wave --size 64 --precision float32 {arguments}"
        return CliRunner().invoke(group, [*call.split(), "--vgg-weights", "vgg.safetensors"])

    return run


def results(folder: str) -> Any:
    return json.loads((Path(folder) / "results.json").read_text())


def rows(folder: str) -> dict[str, Any]:
    return {row["method"]: row for row in results(folder)["rows"]}


def test_the_table_of_two_networks(run: Run) -> None:
    result = done(run("-o out --patches 3"))
    assert {path.name for path in Path("out").iterdir()} == {"results.json", "table.md", "figure.png", "figure.svg"}
    found = results("out")
    assert [(row["style"], row["method"]) for row in found["rows"]] == [
        ("wave", name) for name in (CONTENT, *METHODS, *CHEATS)
    ]
    for row in found["rows"]:
        assert row["n"] == 2 * (FRAMES - 1) * 3
        assert row["psnr_interval"] == row["ssim_interval"] == [None, None]  # two sequences make none
        assert [part["sequence"] for part in row["sequences"]] == ["dog", "swan"]
        assert row["psnr"] == pytest.approx(sum(part["psnr"] for part in row["sequences"]) / 2)
        assert row["style_share"] == pytest.approx(row["style_loss"] / found["rows"][0]["style_loss"])
    settings = found["settings"]
    assert settings["sequences"] == {"dog": FRAMES, "swan": FRAMES}
    assert (settings["patches"], settings["patch_size"], settings["radius"], settings["size"]) == (3, 8, 1, 64)
    assert (settings["methods"], settings["precision"], found["seed"]) == (list(METHODS), "float32", 0)
    assert (settings["limit"], settings["perceptual_network"][:16]) == (None, "vgg.safetensors ")
    assert not [value for value in settings.values() if "/" in str(value)]
    assert found["gain"]["psnr"] == pytest.approx(found["rows"][2]["psnr"] - found["rows"][1]["psnr"])
    assert [row["method"] for row in found["means"]] == [row["method"] for row in found["rows"]]
    assert f"{found['rows'][1]['psnr']:.2f}" in result.stdout
    assert "the paper's gains 0.48 dB and 0.09" in Path("out/table.md").read_text()


@pytest.mark.rendered
def test_two_runs_give_the_same_results_and_figures(run: Run) -> None:
    for folder in ("a", "b"):
        done(run(f"-o {folder} --seed 3"))
    for name in ("results.json", "table.md", "figure.png", "figure.svg"):
        assert (Path("a") / name).read_bytes() == (Path("b") / name).read_bytes()
    done(run("-o c --seed 4"))
    assert rows("c")["independent"]["psnr"] != rows("a")["independent"]["psnr"]
    assert rows("c")["independent"]["style_loss"] == rows("a")["independent"]["style_loss"]


def test_a_method_meets_the_same_patches_alone_and_beside_others(run: Run) -> None:
    done(run("-o both"))
    done(run("-o alone --methods recurrent --sequences swan"))
    together = {part["sequence"]: part for part in rows("both")["recurrent"]["sequences"]}
    assert rows("alone")["recurrent"]["sequences"] == [together["swan"]]
    assert results("alone")["gain"] is None


def test_all_four_methods_and_two_styles(run: Run) -> None:
    write_style(Path("night"), 1)
    methods = "independent,recurrent,ruder,gatys"
    done(run(f"-o out --styles wave,night --methods {methods} --limit 2 --iterations 2,1 --flow-method dis"))
    found = results("out")
    assert [row["style"] for row in found["rows"]] == ["wave"] * 8 + ["night"] * 8
    own = [row["psnr"] for row in found["rows"] if row["method"] == "ruder"]
    (mean,) = (row for row in found["means"] if row["method"] == "ruder")
    assert (mean["psnr"], mean["styles"]) == (pytest.approx(sum(own) / 2), 2)
    assert len({row["psnr"] for row in found["rows"]}) > 8
    assert "mean of the styles, gatys" in Path("out/table.md").read_text()


def test_a_picture_is_a_style_for_the_optimisers(run: Run) -> None:
    write_picture(Path("picture.png"), panning(3)[0])
    done(run("-o out --styles picture.png --methods gatys --limit 2 --iterations 1 --sequences dog"))
    assert [row["method"] for row in results("out")["rows"]] == [CONTENT, "gatys", *CHEATS]
    refused = run("-o no --styles picture.png")
    assert (refused.exit_code, "needs a trained style" in refused.stderr) == (2, True)
    assert not Path("no").exists()


class Interrupted:
    """Counts optimisations, and fails before the one with the number `before`."""

    def __init__(self, before: int | None = None) -> None:
        self.calls = 0
        self._before = before

    def __call__(self, *arguments: Any) -> Any:
        if self.calls == self._before:
            raise OSError("the power went off")
        self.calls += 1
        return OPTIMIZE(*arguments)


@pytest.mark.rendered
def test_a_killed_run_goes_on_frame_by_frame(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "--methods independent,gatys --iterations 2 --limit 4 -o"
    done(run(f"{command} undisturbed"))
    monkeypatch.setattr(gatys, "optimize", Interrupted(before=6))  # in the second sequence's third frame
    failed = run(f"{command} out")
    assert (failed.exit_code, "the power went off" in failed.stderr) == (1, True)
    assert "the same command resumes" in failed.stderr
    assert not Path("out/results.json").exists()
    again = Interrupted()
    monkeypatch.setattr(gatys, "optimize", again)
    monkeypatch.setattr(FeedForward, "__call__", lambda *_: pytest.fail("was finished"))
    assert "resuming" in done(run(f"{command} out")).stderr
    assert again.calls == 2
    for name in ("results.json", "table.md", "figure.png"):
        assert (Path("out") / name).read_bytes() == (Path("undisturbed") / name).read_bytes()
    assert not Path("out/unfinished").exists()


def test_changed_frames_and_masks_do_not_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatys, "optimize", Interrupted(before=1))
    command = "-o out --methods gatys --iterations 1 --limit 3 --sequences dog"
    assert run(command).exit_code == 1
    path = Path("davis/Annotations/480p/dog/00003.png")
    write_picture(path, torch.zeros(1, 3, 48, 64))
    assert "the power went off" in run(command).stderr  # it is not read
    write_picture(path.with_stem("00002"), torch.zeros(1, 3, 48, 64))
    refused = run(command)
    assert (refused.exit_code, "other settings: davis was " in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--davis nowhere", 2, "'nowhere' does not exist"),
        ("--davis wave", 2, "--davis: wave: expected DAVIS, with sequences in JPEGImages/480p, found none"),
        ("--sequences swan,cat", 2, "davis has no DAVIS sequence 'cat'; there is: dog, swan"),
        ("--sequences ,", 2, "'--sequences': none was given"),
        ("--styles nothing", 2, "no style is named 'nothing'"),
        ("--styles wave/recurrent.safetensors --methods independent", 2, "is a network for the method recurrent"),
        ("--sequences low --size 16", 1, "expected frames that hold a patch of 7x7 pixels, got 16x5"),
        ("--sequences bare", 1, "expected an annotation per frame, 00000.png is missing"),
    ],
)
def test_bad_input_ends_in_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    if "low" in arguments:
        write_sequence("low", panning(0, height=20))
    if "bare" in arguments:
        write_sequence("bare", panning(0))
        Path("davis/Annotations/480p/bare/00000.png").unlink()
    assert message in told(run(f"-o out {arguments}"), code)
    assert not Path("out").exists()


def test_a_sequence_of_one_frame_is_refused(run: Run) -> None:
    write_sequence("still", panning(0)[:1])
    refused = run("-o out --methods independent --sequences swan,still")
    assert (refused.exit_code, "still: expected a sequence of at least two frames" in refused.stderr) == (2, True)
    assert not Path("out").exists()


def test_the_search_is_made_once_for_all_methods_and_styles(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[metrics.PatchSettings] = []
    search = metrics.corresponding_patches

    def counted(*given: Any) -> metrics.Patches:
        searched.append(given[2])
        return search(*given)

    monkeypatch.setattr(metrics, "corresponding_patches", counted)
    write_style(Path("night"), 1)
    done(run("-o out --styles wave,night --limit 3"))
    assert searched == [metrics.PatchSettings(1, 8, 1)] * 4  # two pairs of two sequences


def test_without_room_for_a_patch_there_is_no_result(run: Run) -> None:
    write_sequence("crowd", panning(0))
    for path in Path("davis/Annotations/480p/crowd").iterdir():
        write_picture(path, torch.ones(1, 3, 48, 64))
    expected = "expected room for a patch of 8x8 pixels without foreground, found none"
    assert expected in told(run("-o out --sequences crowd"), 1)
    assert not Path("out/results.json").exists()
