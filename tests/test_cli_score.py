"""nststab score, run as a user would, on tiny clips with a tiny random VGG."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import Result
from torch import Tensor

from nststab.errors import SettingError
from nststab.flow.files import write_flo
from nststab.tasks.score import score
from nststab.video.clip import convert_clip, open_clip
from tests.conftest import cli, done, save_frames, save_networks, save_vgg, texture

Run = Callable[[str], Result]
COUNT = 7
VGG = "--vgg-weights vgg.safetensors"


def pan(count: int = COUNT, height: int = 36, width: int = 48) -> list[Tensor]:
    scene = texture(height, width + count, cells=(12, 24))
    return [scene[..., t : t + width] for t in range(count)]


def noisy(frames: Iterable[Tensor], sigma: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        (0.5 * frame + 0.25 + sigma * torch.randn(frame.shape, generator=generator)).clamp(0, 1) for frame in frames
    ]


def film(path: str, folder: str, fps: int = 25) -> None:
    convert_clip(open_clip(folder, fps=fps), path, lambda frames: frames)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `nststab score ...` beside `film`, seven pictures, and two that were made of it, `loud` and `quiet`."""
    monkeypatch.chdir(tmp_path)
    save_vgg(Path())
    save_frames("film", pan())
    save_frames("loud", noisy(pan(), 0.1))
    save_frames("quiet", noisy(pan(), 0.01))
    yield lambda arguments: cli(f"score {arguments} {VGG}")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


def rows(result: Result) -> list[list[str]]:
    """The words of the first table on stdout, below the titles and the rule, without intervals."""
    table = re.sub(r" \[.*?\]", "", result.stdout.split("\n\n")[0])
    return [line.split() for line in table.splitlines()[3:]]


def test_two_clips_are_measured_and_ranked(run: Run) -> None:
    result = done(run("film loud quiet --json out.json"))
    assert [len(row) for row in rows(result)] == [8, 9, 9]
    assert [row[:2] for row in rows(result)[1:]] == [["-", "quiet"], ["-", "loud"]]
    content = json.loads(Path("out.json").read_text())
    assert (content["original"], content["frames"], content["shots"], content["seed"]) == ("film", COUNT, 1, 0)
    assert content["versions"].keys() >= {"nststab", "torch", "scikit-image"}
    assert (
        content["settings"].items() >= {"width": 48, "height": 36, "patches": 10, "gaps": [1, 5], "flow": "dis"}.items()
    )
    assert [(clip["path"], clip["rank"]) for clip in content["clips"]] == [("loud", None), ("quiet", None)]
    for clip in (content["input"], *content["clips"]):
        assert clip.keys() >= {
            "psnr",
            "ssim",
            "warp_error",
            "flicker",
            "drift",
            "trusted",
            "content_loss",
            "style_loss",
        }
        assert clip["warp_error"] == clip["warp_errors"]["1"]
        assert 0 < clip["trusted_pixels"]["5"] < clip["trusted"] < 1
        assert clip["drift"] == max(map(abs, clip["drift_slopes"].values()))
        assert clip["style_loss"] is None
        assert clip["n"] == 10 * (COUNT - 1)
    loud, quiet = content["clips"]
    assert loud["warp_error"] == pytest.approx(2 * 0.1**2, rel=0.15)
    assert quiet["ssim"] > 0.8 > loud["ssim"]
    assert content["input"]["content_loss"] == 0 < quiet["content_loss"]


def test_what_is_said(run: Run) -> None:
    result = run("film loud --json out.json")
    said = result.stderr.splitlines()
    assert said[:2] == ["flow: dis", "7 frames to measure, 48x36"]
    assert said[2].startswith("note: pixels with a flow to be trusted: ")
    assert said[3] == (
        "note: no style was named and measured: a clip may be steady because it does little, so none has a rank"
    )
    assert said[4:] == ["out.json"]
    assert run("film loud -q").stderr == ""


def test_the_same_call_gives_the_same_bytes(run: Run) -> None:
    first, second = run("film loud quiet --json 1.json"), run("film loud quiet --json 2.json")
    assert first.stdout == second.stdout
    assert Path("1.json").read_bytes() == Path("2.json").read_bytes()
    assert run("film loud quiet --json 3.json --seed 5").exit_code == 0
    figures = [json.loads(Path(f"{name}.json").read_text())["clips"][0] for name in (1, 3)]
    assert figures[0]["psnr"] != figures[1]["psnr"]
    assert figures[0]["warp_error"] == figures[1]["warp_error"]


def test_json_on_standard_output_stands_alone(run: Run) -> None:
    result = run("film quiet --json -")
    assert json.loads(result.stdout)["clips"][0]["path"] == "quiet"
    assert "\nquiet " in result.stderr


def test_style_is_measured_where_it_is_told(run: Run) -> None:
    save_networks(Path(), pan(1)[0].flip(2), ["independent"])
    result = done(run("film quiet --style independent.safetensors --json out.json"))
    assert "no style was named" not in result.stderr
    content = json.loads(Path("out.json").read_text())
    own, made = content["input"]["style_loss"], content["clips"][0]["style_loss"]
    assert [row[0] for row in rows(result)] == ["input", "input,", "input,", "quiet"]
    assert rows(result)[-1][-3:-1] == [f"{made:.3f}", f"{made / own:.0%}"]
    assert content["settings"]["style"] == "independent.safetensors"


def test_a_copy_of_the_input_is_pointed_at(run: Run) -> None:
    save_frames("copy", pan())
    result = run("film quiet copy")
    assert "note: copy is hardly more than the input (content loss 0.000)" in result.stderr
    assert "note: quiet" not in result.stderr


OWN = """
def brightest(pair):
    return float((pair.second - pair.first).max())
"""


def test_what_is_cited_is_written_as_csv_latex_and_figure(run: Run) -> None:
    save_networks(Path(), pan(1)[0].flip(2), ["independent"])
    Path("own.py").write_text(OWN)
    result = done(
        run(
            "film loud quiet --style independent.safetensors --csv out.csv --latex out.tex --figure plane "
            "--measure own:brightest --json out.json"
        )
    )
    content = json.loads(Path("out.json").read_text())
    lines = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert [line["clip"] for line in lines] == ["input", "input, blurred", "input, mixed", "loud", "quiet"]
    assert float(lines[3]["ssim"]) == content["clips"][0]["ssim"]
    assert float(lines[3]["ssim_low"]) <= float(lines[3]["ssim"]) <= float(lines[3]["ssim_high"])
    assert float(lines[3]["lai2018.warping_error"]) > float(lines[4]["lai2018.warping_error"]) > 0
    assert float(lines[3]["own:brightest"]) > float(lines[4]["own:brightest"])
    assert lines[3]["chen2023.warped_mse_10"] == ""  # seven frames have no two that lie so far apart
    latex = Path("out.tex").read_text()
    assert latex.count(r"\begin{tabular}") == 2
    assert content["settings_line"] in result.stdout
    assert content["settings_line"].startswith("nststab 0.1.0, schema 1; 48x36, 7 frames; 10 patches of 7 pixels")
    assert Path("plane.svg").read_text().startswith("<?xml")
    assert Path("plane.png").stat().st_size > 1000
    assert content["schema"] == 1
    (pair,) = content["differences"]
    assert (pair["clips"], pair["ssim"] < 0, pair["p"] < 0.5) == (["loud", "quiet"], True, True)
    assert run("film loud --figure plane -y").exit_code == 2  # style must be measured for it
    assert "--csv and --latex name the same file, a" in run("film loud --csv a --latex a").stderr


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("name", ["frame_difference", "vbench.motion_smoothness", "psnr"])
def test_a_measure_of_one_s_own_has_a_name_of_its_own(name: str) -> None:
    with pytest.raises(SettingError, match=f"measures: {name} is a figure of ours, or of other authors"):
        score("film", ["quiet"], measures={name: lambda _: 0.0})


def test_a_clip_that_lags_is_named_with_its_lag(run: Run) -> None:
    save_frames("long", pan(30))
    save_frames("late", noisy([*pan(30)[:1] * 4, *pan(30)[:26]], 0.02))
    result = done(run("long late --json out.json --gaps 1"))
    assert "note: late lags behind the original by 4 frames: its figures are of frames that do not" in result.stderr
    assert json.loads(Path("out.json").read_text())["clips"][0]["lag"] == -4
    assert "lags" not in run("film loud quiet").stderr


# What fails a check


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ("--fail-under ssim=0.8", 0),
        ("--fail-under ssim=0.8,psnr=20 --fail-over warp_error=0.01,drift=5,content_loss=9", 0),
        ("--fail-under ssim=0.99", 1),
        ("--fail-under psnr=20 --fail-under ssim=0.99", 1),
        ("--fail-over warp_error=1e-5", 1),
    ],
)
def test_limits_decide_the_exit_code(run: Run, limits: str, code: int) -> None:
    result = run(f"film quiet {limits} --json out.json --gaps 1")
    assert result.exit_code == code, result.stderr
    assert rows(result)[1][0] == "quiet"
    assert json.loads(Path("out.json").read_text())["clips"]


def test_a_broken_limit_is_named_in_one_line(run: Run) -> None:
    result = run("film loud quiet --fail-under ssim=0.8,psnr=90 --fail-over drift=50")
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    figures = {row[1]: row for row in rows(result)}
    assert line.startswith(f"Error: loud: ssim {float(figures['loud'][3]):.2f}")
    assert " is under 0.8; loud: psnr " in line
    assert "quiet: ssim" not in line
    assert line.endswith(" is under 90")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("film", "Missing argument 'STYLIZED...'"),
        ("film quiet --fail-under flicker=3", "'flicker' is limited from the other side: --fail-over flicker=..."),
        ("film quiet --fail-under sim=0.5", "did you mean ssim?"),
        ("film quiet --fail-under ssim", "'ssim': expected a figure and its limit, as in ssim=0.5"),
        ("film quiet --fail-under ssim=nan", "nan is not a finite number"),
        ("film quiet --gaps 5", "expected numbers that rise from 1"),
        ("film quite", "'quite' does not exist; did you mean quiet?"),
        ("film quiet quiet", "quiet is given twice"),
        ("film input", "'input' is what tables call a row of the original"),
        ("- quiet -", "standard input"),
        ("film quiet --json nowhere/out.json", "nowhere is no folder"),
        ("film quiet --json film", "film is a folder"),
        ("film quiet --json style.json", "style.json exists; say -y to overwrite it"),
        ("clip.y4m quiet --json clip.y4m -y", "clip.y4m is read by this command"),
        ("film quiet --flow flows --flow-method dis", "--flow-method has no effect where the flow is read"),
    ],
)
def test_wrong_usage_is_answered_before_any_work(run: Run, arguments: str, message: str) -> None:
    film("clip.y4m", "film")
    Path("style.json").write_text("mine")
    Path("flows").mkdir()
    Path("input").mkdir()
    write_flo(Path("flows/forward_1_2.flo"), torch.zeros(1, 2, 36, 48))
    result = run(arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr.splitlines()[-1]
    assert Path("style.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("film quiet short", "short: expected 7 frames as film has, got 5"),
        ("film wide", "wide: expected the shape of film, 48x36 or scaled, got 48x30"),
        ("clip.y4m slow.y4m", "slow.y4m: expected frame 2 at 0.040 s as in clip.y4m, got it at 0.100 s; frames that"),
        ("film quiet --masks short", "short: expected 7 frames as film has, got 5"),
        ("film quiet --masks clip.y4m", "clip.y4m: expected masks in a folder of pictures, got a video"),
        ("film quiet --size 64", "expected a size of at most 48 pixels"),
        ("film quiet --flow flows", "expected 48x36 as the frames have, got a flow of 20x10"),
        ("one alone", "one: expected a clip of at least two frames, got 1"),
        ("film/00000.png quiet", "film/00000.png: expected a clip, got a single picture"),
        ("film vgg.safetensors", "vgg.safetensors: expected a video"),
        ("film quiet --style quiet/00000.png --start 9", "film: expected a start before the end at 0.280 s, got 9 s"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(run: Run, arguments: str, message: str) -> None:
    film("clip.y4m", "film")
    film("slow.y4m", "quiet", 10)
    save_frames("short", pan(5))
    save_frames("wide", pan(height=30))
    save_frames("one", pan(1))
    save_frames("alone", pan(1))
    Path("flows").mkdir()
    write_flo(Path("flows/forward_1_2.flo"), torch.zeros(1, 2, 10, 20))
    result = run(f"{arguments} --json out.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert message in result.stderr.splitlines()[-1]
    assert not Path("out.json").exists()


# What is read


def test_exact_flow_from_files_leaves_no_warping_error(run: Run) -> None:
    """The film pans by one pixel a frame. Folders of pictures hold it to 8 bits, the same in all."""
    Path("flows").mkdir()
    for number in range(1, COUNT + 1):
        for other in {number - 5, number - 1, number + 1, number + 5} & set(range(1, COUNT + 1)):
            direction = "forward" if number < other else "backward"
            flow = torch.zeros(1, 2, 36, 48)
            flow[:, 0] = number - other
            write_flo(Path(f"flows/{direction}_{number}_{other}.flo"), flow)
    save_frames("dark", [frame / 2 for frame in pan()])
    done(run("film dark --flow flows --json out.json"))
    (clip,) = json.loads(Path("out.json").read_text())["clips"]
    assert clip["warp_errors"] == {"1": 0, "5": 0}
    assert 0.6 < clip["trusted_pixels"]["5"] < clip["trusted"] < 1


def test_flow_is_kept_where_it_is_asked_for(run: Run) -> None:
    first = done(run("film quiet --flow-cache kept --gaps 1"))
    assert len(list(Path("kept").iterdir())) == 2 * (COUNT - 1)
    assert run("film quiet --flow-cache kept --gaps 1").stdout == run("film quiet --gaps 1").stdout == first.stdout


def test_videos_pictures_and_scaled_clips_are_compared_alike(run: Run) -> None:
    film("film.mp4", "film")
    save_frames("small", [F.avg_pool2d(frame, 2) for frame in noisy(pan(), 0.01)])
    film("quiet.gif", "quiet")
    result = done(run("film.mp4 quiet quiet.gif small quiet/%05d.png --json out.json"))
    content = json.loads(Path("out.json").read_text())
    assert (content["settings"]["width"], content["settings"]["height"]) == (24, 18)
    scaled = [line for line in result.stderr.splitlines() if "scaled from 48x36" in line]
    assert [line.split(":")[1] for line in scaled] == [" quiet", " quiet.gif", " quiet/%05d.png"]
    figures = {clip["path"]: clip for clip in content["clips"]}
    assert figures["quiet"]["ssim"] == figures["quiet/%05d.png"]["ssim"] >= figures["quiet.gif"]["ssim"] > 0.5


def test_an_excerpt_is_of_the_original(run: Run) -> None:
    """As `nststab stylize` takes the same options; masks are the whole original's."""
    save_frames("part", noisy(pan(), 0.01)[2:6])
    save_frames("masks", [torch.zeros(1, 3, 36, 48)] * COUNT)
    film("film.mp4", "film", 10)  # masks are numbered as its frames, whatever its rate
    for original, part in (("film", "--start 0.08 --duration 0.16"), ("film.mp4", "--start 0.2 --duration 0.4")):
        result = done(run(f"{original} part {part} --masks masks/%05d.png"))
        assert "4 frames to measure, 48x36" in result.stderr
    assert run("film part --start 0.08 --duration 0.2").exit_code == 1
    assert "3 frames to measure" in run("film quiet --limit 3").stderr
    assert run("film quiet --start 0 --fps 25 --gaps 1 --json out.json").exit_code == 0
    settings = json.loads(Path("out.json").read_text())["settings"]
    assert (settings["start"], settings["duration"], settings["fps"]) == (0, None, 25)


def test_masks_keep_patches_off_the_foreground(run: Run) -> None:
    masks = [torch.zeros(1, 3, 36, 48) for _ in range(COUNT)]
    spoiled = noisy(pan(), 0.01)
    for number, (mask, frame) in enumerate(zip(masks, spoiled, strict=True)):
        mask[..., 30:] = 1
        frame[..., 30:] = number / COUNT
    save_frames("spoiled", spoiled)
    save_frames("masks", masks)
    figures: list[Any] = []
    for clips in ("spoiled quiet", "spoiled quiet --masks masks"):
        assert run(f"film {clips} --json out.json -y").exit_code == 0
        figures.append({clip["path"]: clip["ssim"] for clip in json.loads(Path("out.json").read_text())["clips"]})
    assert figures[0]["spoiled"] < figures[0]["quiet"]
    assert figures[1]["spoiled"] == figures[1]["quiet"]
    save_frames("everything", [torch.ones(1, 3, 36, 48)] * COUNT)
    nothing = run("film quiet --masks everything")
    assert "note: no patch was measured: the frames, or what the masks leave of them, are too small" in nothing.stderr
    assert rows(nothing)[1][1:3] == ["-", "-"]


def test_no_pair_spans_a_cut_unless_it_is_asked_for(run: Run) -> None:
    dark, light = [0.3 * frame for frame in pan(4)], [1 - 0.3 * frame for frame in pan(4)]
    save_frames("cut", [*dark, *light])
    save_frames("made", noisy([*dark, *light], 0.01))
    counts = []
    for options in ("", "--no-cuts"):
        assert run(f"cut made --json out.json -y {options}").exit_code == 0
        counts.append(json.loads(Path("out.json").read_text())["clips"][0])
    assert (counts[0]["n"], counts[1]["n"]) == (60, 70)
    assert counts[0]["drift"] < 2 < counts[1]["drift"]
    assert counts[0]["warp_errors"]["5"] is None
