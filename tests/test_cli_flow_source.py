"""--flow and --flow-method, run as a user would."""

from pathlib import Path

import pytest
import torch

from nststab.flow import estimators
from nststab.flow.estimators import ESTIMATORS, dis
from nststab.flow.files import read_flo, write_flo
from nststab.flow.settings import FlowSettings
from nststab.settings import settings_of
from nststab.video.images import read_picture, write_picture
from tests.conftest import Run, cli, contents, done, save_frames, save_vgg, texture

RUDER = "--style style.png --method ruder --iterations 2,1 --vgg-weights vgg.safetensors"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab ...` beside `film`, six 32x24 pictures with a cut in the middle, and a perceptual network."""
    monkeypatch.chdir(tmp_path)
    save_vgg(tmp_path)
    write_picture(Path("style.png"), texture(24, 40, 1))
    first, second = texture(24, 40, 3) * 0.4, texture(24, 40, 5) * 0.4 + 0.6
    save_frames("film", [(first if n < 3 else second)[..., n : n + 32] for n in range(6)], "{}.png")
    return cli


def estimate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "require_estimator", lambda _: pytest.fail("it estimates"))


def test_flow_of_files_is_the_flow_that_was_estimated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a cut in the clip: the files are found by the frames' numbers in the whole of it."""
    done(run("flow estimate film -o flows"))
    done(run(f"stylize film -o a/ {RUDER}"))
    estimate_nothing(monkeypatch)
    for name in ("forward_3_4.flo", "backward_4_3.flo"):  # across the cut: nobody may ask for it
        Path("flows", name).unlink()
    result = done(run(f"stylize film -o b/ {RUDER} --flow flows"))
    assert "flow: the files of flows" in result.stderr.splitlines()
    assert contents("a") == contents("b")
    done(run("optimize film style.png -o c/ --iterations 2,1 --vgg-weights vgg.safetensors --flow flows"))
    assert contents("a") == contents("c")
    uncut = run(f"stylize film -o d/ {RUDER} --flow flows --no-cuts")
    assert uncut.exit_code == 1
    assert "forward_3_4.flo: no such file" in uncut.stderr.splitlines()[-1]


def test_another_flow_gives_another_result(run: Run) -> None:
    done(run("flow estimate film -o flows"))
    done(run(f"stylize film -o a/ {RUDER} --flow flows"))
    for path in Path("flows").glob("*_5_6.flo"), Path("flows").glob("*_6_5.flo"):
        for file in path:
            write_flo(file, torch.zeros(1, 2, 24, 32))
    done(run(f"stylize film -o b/ {RUDER} --flow flows"))
    differ = [name for name, data in contents("a").items() if contents("b")[name] != data]
    assert differ == ["frame_000006.png"]


def test_compare_reads_flow_from_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done(run("flow estimate film -o flows"))
    options = "--style style.png --methods gatys,ruder --iterations 2 --vgg-weights vgg.safetensors"
    plain = done(run(f"compare film -o a/ {options}"))
    estimate_nothing(monkeypatch)
    read = done(run(f"compare film -o b/ {options} --flow flows"))
    assert plain.stdout == read.stdout
    assert contents("a") == contents("b")


def test_the_long_term_needs_the_farther_flows(run: Run) -> None:
    done(run("flow estimate film -o near"))
    result = run(f"stylize film -o a/ {RUDER} --flow near --set ruder.long_term=1,2")
    assert result.exit_code == 1
    message = "forward_1_3.flo: no such file; expected the flow from frame 1 to frame 3"
    assert message in result.stderr.splitlines()[-1]
    assert "nststab flow estimate --distances 1,2" in result.stderr.splitlines()[-1]
    done(run("flow estimate film -o far --distances 1,2"))
    done(run(f"stylize film -o b/ {RUDER} --flow far --set ruder.long_term=1,2"))
    done(run(f"stylize film -o c/ {RUDER} --set ruder.long_term=1,2"))
    assert contents("b") == contents("c")


def test_estimate_writes_the_distances(run: Run) -> None:
    done(run("flow estimate film -o flows --distances 1,2,4"))
    pairs = [(first, first + d) for d in (1, 2, 4) for first in range(1, 7 - d)]
    forward = {f"forward_{a}_{b}.flo" for a, b in pairs} | {f"reliable_{a}_{b}.pgm" for a, b in pairs}
    backward = {f"backward_{b}_{a}.flo" for a, b in pairs} | {f"reliable_{b}_{a}.pgm" for a, b in pairs}
    assert set(contents("flows")) == forward | backward
    first, third = (read_picture(Path(f"film/{number}.png")).rgb for number in (0, 2))
    assert torch.equal(read_flo(Path("flows/forward_1_3.flo")), ESTIMATORS["deepflow"](first, third))
    done(run("flow estimate film -o flows -y"))
    assert "forward_1_3.flo" not in contents("flows")


def test_dis_says_its_name_and_has_its_own_cache(run: Run) -> None:
    said = done(run(f"stylize film -o a/ {RUDER} --set flow.cache=cache")).stderr
    assert "dis" not in said
    said = done(run(f"stylize film -o b/ {RUDER} --set flow.cache=cache --flow-method dis")).stderr
    assert "flow: dis" in said.splitlines()
    assert len(contents("cache")) == 2 * 8
    assert contents("a") != contents("b")
    said = done(run("flow estimate film -o flows --flow-method dis --flow-cache cache")).stderr
    assert said.splitlines() == ["flow: dis", "flows: flow between 6 frames by dis"]
    first, second = (read_picture(Path(f"film/{number}.png")).rgb for number in (0, 1))
    assert torch.equal(read_flo(Path("flows/forward_1_2.flo")), dis(first, second))


def test_the_choice_is_of_all_estimators() -> None:
    (method,) = (one for one in settings_of(FlowSettings) if one.name == "method")
    assert list(method.choices) == list(ESTIMATORS)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (f"stylize film -o out/ {RUDER} --flow flows --flow-method dis", 2, "--flow-method has no effect with --flow"),
        (f"stylize film -o out/ {RUDER} --flow flows --set flow.cache=x", 2, "flow.cache has no effect with --flow"),
        (f"stylize film -o out/ {RUDER} --flow nowhere", 2, "nowhere"),
        (f"stylize film -o out/ {RUDER} --flow style.png", 2, "style.png"),
        (f"stylize film -o out/ {RUDER} --flow film", 1, "film: expected flows named forward_1_2.flo"),
        (f"stylize film -o out/ {RUDER} --flow-method dos", 2, "did you mean dis?"),
        (f"stylize film -o out/ {RUDER} --size 16 --flow flows", 1, "expected 16x12 as the frames have, got a flow"),
        ("stylize film -o out/ --style the_great_wave --flow flows", 2, "--flow has no effect on recurrent"),
        (
            "compare film -o out/ --style the_great_wave --flow-method dis",
            2,
            "--flow-method has no effect on independent, recurrent",
        ),
        ("flow estimate film -o out --distances 2,4", 2, "expected numbers that rise from 1, as in 1,2,4"),
    ],
)
def test_what_cannot_be_is_answered_in_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    done(run("flow estimate film -o flows"))
    result = run(arguments)
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
    assert not Path("out").exists()
