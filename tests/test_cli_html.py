"""--html of compare, score and evaluate stability, run as a user would, on tiny clips with tiny random networks."""

import base64
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from nststab.baselines import gatys
from nststab.cli import group
from nststab.experiments.cast import Cast
from nststab.video.clip import convert_clip, open_clip
from nststab.video.images import read_picture
from tests.conftest import Run, cli, done, save_davis, save_frames, save_networks, save_vgg, texture, told

pytestmark = pytest.mark.usefixtures("unrendered")

COUNT, HEIGHT, WIDTH = 6, 48, 64
COMPARE = "compare film.mp4 -o out.mp4 --style wave --precision float32 --vgg-weights vgg.safetensors"
SCORE = "score film.mp4 loud.mp4 quiet.mp4 --vgg-weights vgg.safetensors"


def pan(seed: int = 0) -> list[Tensor]:
    scene = texture(HEIGHT, WIDTH + COUNT, seed, (12, 24))
    return [scene[..., t : t + WIDTH] for t in range(COUNT)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of six frames, two that were made of it, and a style of two networks."""
    folder = tmp_path_factory.mktemp("inputs")
    save_vgg(folder)
    noise = torch.Generator().manual_seed(1)
    made = {
        "film": pan(),
        "loud": [(0.5 * frame + 0.25 + 0.1 * torch.randn(frame.shape, generator=noise)).clamp(0, 1) for frame in pan()],
        "quiet": [0.5 * frame + 0.25 for frame in pan()],
    }
    for name, frames in made.items():
        save_frames(folder / name, frames)
        convert_clip(open_clip(folder / name, fps=10), folder / f"{name}.mp4", lambda stream: stream)
    save_networks(folder / "wave", pan(3)[0])
    return folder


@pytest.fixture
def run(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab ...` beside the inputs."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return cli


def report(path: str) -> Any:
    """The data of a page."""
    text = Path(path).read_text("utf-8")
    (data,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def video(path: str, name: str, tmp_path: Path) -> list[Tensor]:
    """The frames of one of a page's videos."""
    (data,) = re.findall(rf'<script type="text/plain" id="{name}">(.*?)</script>', Path(path).read_text("utf-8"))
    (tmp_path / "atlas.mp4").write_bytes(base64.b64decode(data))
    return [frame.rgb for frame in open_clip(tmp_path / "atlas.mp4").frames()]


def cut(frame: Tensor, rect: list[int]) -> Tensor:
    x, y, width, height = rect
    return frame[..., y : y + height, x : x + width]


def mean(curve: list[float | None]) -> float:
    known = [value for value in curve if value is not None]
    return sum(known) / len(known)


def test_compare_shows_each_frame_of_each_method(run: Run, tmp_path: Path) -> None:
    result = done(run(f"{COMPARE} --html out.html --patches 3"))
    assert re.search(r"^out\.html: \d+\.\d MB$", result.stderr, re.MULTILINE)
    found = report("out.html")
    (scene,) = found["scenes"]
    assert (found["title"], scene["name"], scene["width"], scene["height"]) == ("film", "film", WIDTH, HEIGHT)
    assert scene["times"] == pytest.approx([number / 10 for number in range(COUNT)])
    assert (scene["end"], scene["shots"], scene["note"]) == (pytest.approx(COUNT / 10), [0], "")
    assert [clip["name"] for clip in scene["clips"]] == ["input", "independent", "recurrent"]
    assert [clip["series"] for clip in scene["clips"]] == [0, 2, 1]
    for clip in scene["clips"]:
        for curve in clip["curves"].values():
            assert len(curve) == COUNT
            assert [number for number, value in enumerate(curve) if value is None] == [0]
    shown = video("out.html", scene["video"], tmp_path)
    assert len(shown) == COUNT
    content = [frame.rgb for frame in open_clip("film.mp4").frames()]
    for number, frame in enumerate(shown):
        own = cut(frame, scene["clips"][0]["rect"])
        assert min(range(COUNT), key=lambda other: float((content[other] - own).abs().mean())) == number
        heats = [float(cut(frame, clip["heat"]).mean()) for clip in scene["clips"]]
        # the input moves as its flow says, random networks flicker; the first frame has nothing before it
        assert max(heats) < 0.01 if number == 0 else 2 * heats[0] < min(heats[1:])
    rows = {row[0]: row for row in found["tables"][0]["rows"]}
    for clip in scene["clips"]:
        assert mean(clip["curves"]["ssim"]) == pytest.approx(float(rows[clip["name"]][2]), abs=6e-4)
    assert found["styles"] == [{"name": "wave", "image": None, "text": ""}]
    assert found["command"] == (
        "nststab compare film.mp4 --style wave --patches 3 --html out.html --output out.mp4 "
        "--precision float32 --vgg-weights vgg.safetensors"
    )
    assert str(tmp_path) not in Path("out.html").read_text("utf-8")


def test_crops_are_of_the_frames_themselves(run: Run) -> None:
    done(run(f"{COMPARE} --html out.html --patches 5"))
    (scene,) = report("out.html")["scenes"]
    assert {crop["kind"] for crop in scene["crops"]} == {"least", "most"}
    content = [frame.rgb for frame in open_clip("film.mp4").frames()]
    for crop in scene["crops"]:
        pictures = [content[crop["frame"] - 1], content[crop["frame"]]]
        cell = crop["cells"][0]
        for picture, (x, y, width, height), key in zip(pictures, crop["boxes"], ("previous", "current"), strict=True):
            patch = picture[..., int(y) : int(y + height), int(x) : int(x + width)]
            Path("crop.jpg").write_bytes(base64.b64decode(cell[key].split(",")[1]))
            assert float((read_picture(Path("crop.jpg")).rgb - patch).abs().mean()) < 0.02


def test_score_draws_the_curves_of_its_table(run: Run) -> None:
    done(run(f"{SCORE} --html out.html --json out.json"))
    found, scored = report("out.html"), json.loads(Path("out.json").read_text())
    (scene,) = found["scenes"]
    assert [clip["name"] for clip in scene["clips"]] == ["input", "loud.mp4", "quiet.mp4"]
    for clip, row in zip(scene["clips"], [scored["input"], *scored["clips"]], strict=True):
        assert mean(clip["curves"]["ssim"]) == pytest.approx(row["ssim"], rel=1e-3)
        assert mean(clip["curves"]["warp"]) == pytest.approx(row["warp_error"], rel=0.02)
    assert found["findings"][0].startswith("quiet.mp4 has the highest SSIM")
    assert found["plane"] is None  # style was not measured
    assert found["settings"].items() >= {"gaps": [1, 5], "seed": 0, "width": WIDTH}.items()


def test_a_report_is_small_and_says_so(run: Run, tmp_path: Path) -> None:
    done(run(f"{COMPARE} --html out.html --html-size 32 --html-seconds 0.3"))
    (scene,) = report("out.html")["scenes"]
    assert (scene["width"], scene["height"], len(scene["times"])) == (32, 24, 3)
    assert scene["note"] == f"the first 0.3 s: 3 of {COUNT} frames"
    assert len(video("out.html", scene["video"], tmp_path)) == 3
    for crop in scene["crops"]:
        for x, y, width, height in crop["boxes"]:
            assert x + width <= 32.1
            assert y + height <= 24.1


@pytest.fixture
def davis(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `evaluate stability` on two sequences."""
    for number, name in enumerate(("dog", "swan")):
        save_davis("davis", name, pan(number))
    monkeypatch.setattr(Cast, "announce", lambda *_: None)
    call = "evaluate stability --davis davis --styles wave --size 64 --precision float32 --vgg-weights vgg.safetensors"
    return lambda arguments: run(f"{call} {arguments}")


def test_each_sequence_is_a_scene(davis: Run, tmp_path: Path) -> None:
    done(davis("-o out --html out.html --patches 3"))
    found = report("out.html")
    assert [scene["name"] for scene in found["scenes"]] == ["dog", "swan"]
    rows = {row["method"]: row for row in json.loads(Path("out/results.json").read_text())["rows"]}
    for number, scene in enumerate(found["scenes"]):
        assert [clip["name"] for clip in scene["clips"]] == ["input", "independent", "recurrent"]
        for clip in scene["clips"]:
            measured = rows[clip["name"]]["sequences"][number]
            assert mean(clip["curves"]["ssim"]) == pytest.approx(measured["ssim"], rel=2e-3)
        assert len(video("out.html", scene["video"], tmp_path)) == COUNT
    assert not Path("out/unfinished").exists()
    done(davis("-o plain --patches 3"))  # a report changes no figure
    assert Path("plain/results.json").read_bytes() == Path("out/results.json").read_bytes()


def test_what_does_not_fit_into_a_mail_is_named(davis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from nststab.experiments import scenes

    monkeypatch.setattr(scenes, "MOST_BYTES", 1)
    done(davis("-o out --html out.html"))
    found = report("out.html")
    assert len(found["scenes"]) == 1
    (missing,) = {"dog", "swan"} - {found["scenes"][0]["name"]}
    assert f"1 of 2 scenes, to stay below 0 MB: {missing} in wave" in found["left_out"][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{COMPARE} --html-size 64", "--html-size has no effect without --html"),
        (f"{SCORE} --html-seconds 2", "--html-seconds has no effect without --html"),
        (f"{SCORE} --html out.txt", "expected a name that ends in .html"),
        (f"{SCORE} --html nowhere/out.html", "nowhere is no folder"),
        (f"{SCORE} --html out.html --json ./out.html", "--json and --html name the same file, "),
        (f"{SCORE} --html film.mp4", "expected a name that ends in .html"),
        (f"{SCORE} --html taken.html", "taken.html exists; say -y to overwrite it"),
        (
            "compare film/00000.png -o out.png --style wave --methods independent --html out.html",
            "film/00000.png is a picture",
        ),
    ],
)
def test_wrong_usage_is_refused_before_any_work(run: Run, arguments: str, message: str) -> None:
    Path("taken.html").touch()
    assert message in told(run(arguments))
    assert not Path("out.mp4").exists()


def test_flow_that_was_asked_for_is_used_where_no_method_needs_it(run: Run) -> None:
    result = done(run(f"{COMPARE} --html out.html --flow-method dis --methods independent"))
    assert "flow: dis" in result.stderr
    assert report("out.html")["settings"]["flow"] == "dis"
    assert run(f"{COMPARE} -y --flow-method dis --methods independent").exit_code == 2


def failing(*_: object, **__: object) -> None:
    raise OSError("no room for a report")


def test_what_was_measured_outlives_a_report_that_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {COMPARE: done(run(COMPARE)).stdout, SCORE: done(run(SCORE)).stdout}
    Path("out.mp4").unlink()
    monkeypatch.setattr("nststab.report.html.make_scene", failing)
    for command, more in ((COMPARE, ""), (SCORE, "--json out.json")):
        result = run(f"{command} --html out.html {more}")
        assert (result.exit_code, result.stdout) == (1, plain[command])
        assert result.stderr.splitlines()[-1] == "Error: no room for a report"
    assert open_clip("out.mp4").frame_count == COUNT
    assert len(json.loads(Path("out.json").read_text())["clips"]) == 2
    assert not Path("out.html").exists()


def test_an_experiment_goes_on_with_its_report_alone(davis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("nststab.experiments.scenes.make_scene", failing)
        result = davis("-o out --html out/report.html --methods independent")
    assert result.exit_code == 1
    assert "no room for a report; finished parts are kept in out/unfinished" in result.stderr
    results = Path("out/results.json").read_bytes()
    with monkeypatch.context() as finished:
        finished.setattr("nststab.experiments.cast.Cast.stylizer", failing)
        done(davis("-o out --html out/report.html --methods independent"))
    assert Path("out/results.json").read_bytes() == results
    assert len(report("out/report.html")["scenes"]) == 2
    assert not Path("out/unfinished").exists()
    assert "results.json exists; say -y" in davis("-o out --methods independent").stderr


def test_frames_that_an_earlier_run_did_not_keep_are_made_again(davis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("nststab.experiments.runner.Results.write", failing)
        assert davis("-o out").exit_code == 1
    result = done(davis("-o out --html out.html"))
    assert f"wave recurrent swan: the report needs {COUNT} frames that no earlier run kept" in result.stderr
    done(davis("-o other --html other.html"))
    curves = [
        [clip["curves"] for scene in report(path)["scenes"] for clip in scene["clips"]]
        for path in ("out.html", "other.html")
    ]
    assert curves[0] == curves[1]


def test_an_optimisation_for_the_report_alone_goes_on_after_a_kill(davis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gatys.optimize
    calls = 0

    def optimize(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill:
            raise OSError("the power went off")
        return made(*arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr("nststab.experiments.runner.Results.write", failing)
        assert davis("-o out --methods gatys --iterations 1").exit_code == 1
    monkeypatch.setattr(gatys, "optimize", optimize)
    kill = COUNT + 3  # in the second sequence
    assert "the power went off" in davis("-o out --methods gatys --iterations 1 --html out.html").stderr
    kill, calls = -1, 0
    done(davis("-o out --methods gatys --iterations 1 --html out.html"))
    assert calls == COUNT - 2
    assert not Path("out/unfinished").exists()


@pytest.mark.parametrize("missing", ["cv2", "av"])
def test_what_a_report_needs_is_missed_before_the_work(
    davis: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("nststab.video.")]:
        monkeypatch.delitem(sys.modules, name)  # they have found it already
    monkeypatch.setitem(sys.modules, missing, None)
    result = davis("-o out --html out.html")
    assert result.exit_code == 1
    assert ("OpenCV" if missing == "cv2" else "PyAV") in result.stderr
    assert not Path("out").exists()


@pytest.mark.rendered
@pytest.mark.usefixtures("run")
def test_nothing_is_told_of_where_files_lie(tmp_path: Path) -> None:
    home = tmp_path / "of alice"
    for name in ("mine", "theirs"):
        (home / name).mkdir(parents=True)
        shutil.copy("quiet.mp4", home / name)
    arguments = [
        *("score", str(tmp_path / "film.mp4"), str(home / "mine" / "quiet.mp4"), str(home / "theirs" / "quiet.mp4")),
        *(f"{tmp_path}/loud/%05d.png", "--vgg-weights", str(tmp_path / "vgg.safetensors")),
        *("--style", f"{tmp_path}/film/00000.png", "--html", str(tmp_path / "a report.html"), "--duration", "0.7"),
        *("--figure", str(home / "plane")),
    ]
    result = done(CliRunner().invoke(group, arguments))
    found = report("a report.html")
    names = ["input", "mine/quiet.mp4", "theirs/quiet.mp4", "loud"]
    assert [clip["name"] for clip in found["scenes"][0]["clips"]] == names
    assert found["title"] == "film"
    assert base64.b64decode(found["plane"].split(",")[1]) == (home / "plane.png").read_bytes()
    assert found["command"] == (
        "nststab score film.mp4 quiet.mp4 quiet.mp4 %05d.png --style 00000.png --duration 0.7 "
        "--vgg-weights vgg.safetensors --html 'a report.html' --figure plane"
    )
    assert str(home) not in result.stdout
    page = Path("a report.html").read_text("utf-8")
    assert [part for part in (*home.parts[1:], "of alice") if part in page and len(part) > 3] == []


def test_the_command_names_the_networks_that_were_run(run: Run, tmp_path: Path) -> None:
    styles = f"--style light/mosaic,light/candy --mask {tmp_path}/film/00000.png --methods independent"
    done(run(f"compare film.mp4 -o out.mp4 {styles} --html out.html --html-seconds 0.2"))
    told = report("out.html")["command"]
    assert "--style light/mosaic,light/candy" in told
    assert "--mask 00000.png" in told


def test_a_style_of_two_is_the_style_of_neither(run: Run) -> None:
    save_frames("other", pan(5))
    command = COMPARE.replace("--style wave", "--style film/00000.png --style other/00001.png")
    done(run(f"{command} --methods gatys --iterations 1 --html out.html --html-seconds 0.2"))
    found = report("out.html")
    assert [style["name"] for style in found["styles"]] == ["00000", "00001"]
    assert all(style["image"].startswith("data:image/jpeg;base64,") for style in found["styles"])
    assert found["scenes"][0]["style"] is None


def test_a_clip_of_one_frame_has_a_report_without_curves(run: Run) -> None:
    save_frames("single", pan()[:1])
    done(run(f"{COMPARE.replace('film.mp4', 'single')} --html out.html"))
    found = report("out.html")
    (scene,) = found["scenes"]
    assert (found["findings"], len(scene["times"]), scene["crops"], scene["failures"]) == ([], 1, [], [])
    assert all(curve == [None] for clip in scene["clips"] for curve in clip["curves"].values())


def test_where_no_patch_can_be_measured_the_other_curves_are_drawn(run: Run) -> None:
    save_frames("masks", [torch.ones(1, 3, HEIGHT, WIDTH)] * COUNT)
    result = done(run("score film loud --masks masks --html out.html --gaps 1 --vgg-weights vgg.safetensors"))
    assert "no patch was measured" in result.stderr
    (scene,) = report("out.html")["scenes"]
    assert scene["crops"] == []
    for clip in scene["clips"]:
        assert clip["curves"]["ssim"] == [None] * COUNT
        assert None not in clip["curves"]["warp"][1:]


def test_a_file_that_is_too_large_for_a_mail_is_told_of_and_is_the_same_every_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "mail" not in done(run(f"{SCORE} --html out.html -y")).stderr
    before = Path("out.html").read_text("utf-8")
    monkeypatch.setattr("nststab.report.html.MOST_BYTES", 10_000)
    stderr = done(run(f"{SCORE} --html out.html -y")).stderr
    assert stderr.splitlines()[-1].startswith("note: many mail servers refuse more than 0 MB")
    pages = [re.sub(r"\d{4}-\d\d-\d\d", "today", text) for text in (before, Path("out.html").read_text("utf-8"))]
    assert pages[0] == pages[1]
