"""nststab train style, run as a user would, for a step or two of each stage."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor

from nststab.cli import group
from nststab.experiments import table1
from nststab.losses import LossSettings, style_target
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_target, save_checkpoint, save_target
from nststab.networks.transformation import NetworkConfig, TransformationNetwork, make_recurrent, with_margin
from nststab.styles import shipped as assets
from nststab.tasks import planning
from nststab.tasks.plan import Footprint, Plan, Probe, Seconds
from nststab.tasks.planned_jobs import training_job
from nststab.tasks.planning import DoesNotFit, Job, estimated
from nststab.train import figures as training_figures
from nststab.train import plan as training_plan
from nststab.train import recipe
from nststab.train import style as training_style
from nststab.train.loop import TrainingSettings
from nststab.train.recipe import Recipe, StageSettings
from nststab.train.stages import ImageStage, VideoStage
from nststab.train.start import distance
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_picture, resize, write_picture
from tests.conftest import refused_in_one_line, tiny_state_dict

Run = Callable[[str], Result]
TINY = NetworkConfig(widths=(4, 6, 8), blocks=1)
STAGES = (
    StageSettings(2, 32),
    StageSettings(2, 32, frames=2, temporal_weight=60.0),
    StageSettings(1, 48, frames=2, temporal_weight=40.0),
)
STYLE = "style my_picture.png --photos photos --precision float32 -o own"


def two_seconds_a_step(job: Job, available: int | None) -> Plan:
    seconds = Seconds(2.0, 2.0)
    return Plan(job.frames, job.width, job.height, 3 * 2**30, available, seconds, Probe(32, 32, seconds, 0))


def textures(count: int, seed: int = 0) -> Tensor:
    return F.interpolate(torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed)), (48, 64))


def network(recurrent: bool = False, seed: int = 0) -> TransformationNetwork:
    torch.manual_seed(seed)
    return TransformationNetwork(replace(TINY, recurrent=recurrent))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab train ...` beside a folder of photographs, with two shipped styles of a few channels each.

    The style `alike` is of the same colours as my_picture.png, `other` is much darker.
    """
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "package"
    (package / "weights").mkdir(parents=True)
    save_file(tiny_state_dict(), package / "weights" / "vgg16-conv4_3.safetensors")
    pictures = textures(5)
    vgg = PerceptualNetwork(tiny_state_dict())
    for number, (name, picture) in enumerate({"alike": pictures[:1], "other": pictures[1:2] * 0.2}.items()):
        folder = package / "styles" / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text("{}")
        save_checkpoint(folder / "independent.safetensors", Checkpoint(network(seed=number)))
        save_checkpoint(folder / "recurrent.safetensors", Checkpoint(network(True, seed=number)))
        save_target(folder / "target.safetensors", style_target(vgg, picture, LossSettings().style_layers), {})
    clip = assets.demo_clip()
    monkeypatch.setattr(assets, "_PACKAGE", package)
    monkeypatch.setattr(training_figures, "demo_clip", lambda: clip)
    monkeypatch.setattr(training_figures, "_DEMO_FRAMES", 3)
    monkeypatch.setattr(training_figures, "_DEMO_SIZE", 48)
    monkeypatch.setattr(recipe, "Recipe", lambda: Recipe(STAGES, style_size=48))
    monkeypatch.setattr(training_plan, "estimated", two_seconds_a_step)
    Path("photos").mkdir()
    write_picture(Path("my_picture.png"), pictures[:1] * 0.9)
    for number in range(4):
        write_picture(Path(f"photos/{number}.png"), pictures[number : number + 1])
    return lambda arguments: CliRunner().invoke(group, ["train", *arguments.split()])


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.stderr
    return result


def card(name: str = "own") -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path(name, "card.json").read_text("utf-8"))
    return told


def test_one_command_makes_the_folder_of_a_style(run: Run) -> None:
    result = done(run(f"{STYLE} --seed 3 --effort 1.0"))
    assert {path.name for path in Path("own").iterdir()} == {
        *("independent.safetensors", "recurrent.safetensors", "target.safetensors"),
        *("image.jpg", "thumbnail.jpg", "sheet.jpg", "card.json", "training"),
    }
    independent, recurrent = (load_checkpoint(Path("own", f"{name}.safetensors")) for name in assets.NETWORKS)
    assert independent.network.config == replace(TINY, margin=16)
    assert recurrent.network.config == replace(TINY, margin=16, recurrent=True)
    assert not independent.style  # they stand in a file of their own
    assert not recurrent.style
    assert independent.training["start_from"] == "alike"
    assert [part["settings"]["steps"] for part in (independent.training, recurrent.training)] == [2, 1]
    vgg = PerceptualNetwork(tiny_state_dict())
    target, made_with = load_target(Path("own/target.safetensors"))
    picture = resize(read_picture(Path("my_picture.png")).rgb, 48)
    for layer, gram in style_target(vgg, picture, LossSettings().style_layers).items():
        torch.testing.assert_close(target[layer], gram, rtol=1e-3, atol=1e-3)
    assert made_with == {"perceptual": vgg.fingerprint, "style_size": 48}
    assert max(read_picture(Path("own/image.jpg")).rgb.shape) == 64  # as large as it is
    rows = [line.split("│")[1:-1] for line in result.stdout.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == ["input", "independent", "recurrent"]


def test_the_card_tells_what_was_done(run: Run) -> None:
    done(run(f"{STYLE} --seed 3 --effort 1.0 --style-weight 3 --start-from package/styles/other"))
    told = card()
    assert (told["name"], told["title"], told["seed"]) == ("own", "My picture", 3)
    assert [told[name] for name in ("artist", "year", "source", "rights")] == [None] * 4
    assert (told["data"]["photos"], told["data"]["held_out"]) == (2, 2)
    assert told["command"] == [
        "nststab train style my_picture.png --photos photos -o own --start-from other --effort 1.0 --style-weight 3.0 "
        "--seed 3 --precision float32"
    ]
    assert told["start"] == {"style": "other", "why": "as --start-from says"}
    assert told["settings"]["independent"]["loss"]["style_weight"] == 3
    assert [part["video"]["temporal_weight"] for part in told["settings"]["between"]] == [60]
    assert told["settings"]["recurrent"]["video"]["temporal_weight"] == 40
    assert set(told["losses"]["independent"]) == {"content", "style"}
    assert set(told["losses"]["recurrent"]) == {"content", "style", "temporal"}
    assert len(told["seconds"]) == 3
    assert min(told["seconds"]) > 0
    figures = told["figures"]
    assert figures["command"] == told["command"][0]
    assert figures["what"].startswith("the bundled clip, 3 frames in all, at longest side 48; corresponding patches")
    for row in ("content ceiling", "independent", "recurrent"):
        assert set(figures[row]) == {"n", "psnr", "ssim", "flicker", "style_loss", "content_loss"}
    assert figures["content ceiling"]["content_loss"] == 0
    assert set(told["gram_trace"]) == {"relu1_1", "relu2_1", "what"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["date"])
    assert str(Path.cwd()) not in json.dumps(told)


def test_the_folder_is_a_style_wherever_it_goes(run: Run) -> None:
    done(run(STYLE))
    Path("own").rename("elsewhere")
    Path("elsewhere/image.jpg").unlink()
    Path("my_picture.png").unlink()
    for method in ("independent", "recurrent", "gatys --iterations 1"):
        command = f"stylize photos/0.png --style elsewhere -o out.png -y --precision float32 --method {method}"
        result = CliRunner().invoke(group, command.split())
        assert result.exit_code == 0, result.stderr
        assert read_picture(Path("out.png")).rgb.shape == (1, 3, 48, 64)
    shown = CliRunner().invoke(group, ["styles", "elsewhere"])
    assert shown.exit_code == 0, shown.stderr
    further = "video elsewhere/independent.safetensors --photos photos --height 32 --width 32 --steps 1 --length 2"
    done(run(f"{further} --precision float32 -o further.safetensors"))
    assert (
        load_checkpoint(Path("further.safetensors")).style.keys()
        == load_target(Path("elsewhere/target.safetensors"))[0].keys()
    )
    said = done(run("average elsewhere/recurrent.safetensors further.safetensors -o mean.safetensors")).stderr
    assert said == "mean.safetensors: 0.5 of elsewhere/recurrent.safetensors and 0.5 of further.safetensors\n"
    assert load_checkpoint(Path("mean.safetensors")).style.keys() == set(LossSettings().style_layers)


def test_effort_multiplies_the_steps() -> None:
    usual, doubled, least = (Recipe().scaled(effort).stages for effort in (1, 2, 1e-9))
    assert usual == Recipe().stages
    assert [stage.steps for stage in doubled] == [2 * stage.steps for stage in usual]
    assert {stage.steps for stage in least} == {1}


def test_its_networks_are_small(tmp_path: Path) -> None:
    config = NetworkConfig(margin=Recipe().margin)
    for number, network in enumerate((TransformationNetwork(config), make_recurrent(TransformationNetwork(config)))):
        path = tmp_path / f"{number}.safetensors"
        save_checkpoint(path, Checkpoint(network))
        assert path.stat().st_size <= 3.5e6


@pytest.mark.parametrize(
    ("stage", "killed"), [(ImageStage, False), (VideoStage, False), (VideoStage, True)], ids=["image", "video", "kill"]
)
def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(
    run: Run, stage: type[ImageStage | VideoStage], killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(run(STYLE.replace("own", "whole")))
    with monkeypatch.context() as patched:
        stop_in_the_first_step(stage, patched, killed)
        stopped = run(STYLE)
    assert stopped.exit_code == 1
    if not killed:
        state = "own/training/1_image.state" if stage is ImageStage else "own/training/2_video.state"
        assert f"stopped after 1 steps, which {state} keeps; the same command goes on" in stopped.stderr
    assert not Path("own/card.json").exists()
    assert Path("own/independent.safetensors").exists() == (stage is VideoStage)
    first, second = done(run(f"{STYLE} --plan")).stdout.splitlines()[1:3]
    assert first.startswith(f"stage 1    image, {'the last 1 of 2 steps' if stage is ImageStage else '2 steps: done'}")
    assert second.startswith(
        f"stage 2    video, {'the last 1 of 2' if (stage, killed) == (VideoStage, False) else '2'}"
    )
    resumed = done(run(STYLE))
    assert f"going on: {2 if killed else 1} steps were done" in resumed.stderr
    for name in ("independent.safetensors", "recurrent.safetensors", "target.safetensors", "sheet.jpg", "image.jpg"):
        assert Path("own", name).read_bytes() == Path("whole", name).read_bytes()
    whole, own = card("whole"), card()
    assert (own["figures"]["recurrent"], own["losses"]) == (whole["figures"]["recurrent"], whole["losses"])
    logs = ("1_image.jsonl", "2_video.jsonl", "3_video.jsonl")
    assert {path.name for path in Path("own/training").iterdir() if path.is_file()} == set(logs)


def stop_in_the_first_step(
    stage: type[ImageStage | VideoStage], monkeypatch: pytest.MonkeyPatch, killed: bool = False
) -> None:
    loss = stage.loss
    calls: list[int] = []

    def interrupted(*arguments: Any) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == 1 and killed:
            raise KeyboardInterrupt  # which saves no state
        if len(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        return loss(*arguments)

    monkeypatch.setattr(stage, "loss", interrupted)


def test_a_finished_style_is_written_over_only_when_asked(run: Run) -> None:
    done(run(STYLE))
    before = Path("own/recurrent.safetensors").read_bytes()
    refused = run(STYLE)
    assert (refused.exit_code, refused.stderr) == (2, "Error: own exists; say -y to overwrite it\n")
    assert done(run(f"{STYLE} -y -q --seed 1")).stderr == ""
    assert Path("own/recurrent.safetensors").read_bytes() != before
    assert card()["seed"] == 1


def test_a_plan_counts_no_steps_of_a_style_that_is_written_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    done(run(STYLE))
    with monkeypatch.context() as patched:
        stop_in_the_first_step(ImageStage, patched, killed=True)
        assert run(f"{STYLE} --seed 1 -y").exit_code == 1
    stages = done(run(f"{STYLE} --seed 1 --plan")).stdout.splitlines()[1:4]
    assert [line[11:].split(" on ")[0] for line in stages] == ["image, 2 steps", "video, 2 steps", "video, 1 steps"]


def test_a_folder_of_something_else_is_left_alone(run: Run) -> None:
    Path("own/training").mkdir(parents=True)
    Path("own/training/notes.txt").write_text("mine")
    refused = run(STYLE)
    assert (refused.exit_code, refused.stderr) == (2, "Error: own exists; say -y to overwrite it\n")
    done(run(f"{STYLE} -y"))
    assert Path("own/training/notes.txt").read_text() == "mine"
    assert card()["name"] == "own"


def test_other_settings_begin_afresh_only_when_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_in_the_first_step(VideoStage, patched)
        run(STYLE)
    refused = run(f"{STYLE} --style-weight 5")
    assert refused.exit_code == 2
    assert "loss.style_weight was 2" in refused.stderr
    assert refused.stderr.endswith("; say -y to begin afresh\n")
    done(run(f"{STYLE} --style-weight 5 -y"))
    done(run(f"{STYLE.replace('own', 'new')} --style-weight 5"))
    assert Path("own/recurrent.safetensors").read_bytes() == Path("new/recurrent.safetensors").read_bytes()


def test_it_begins_with_the_nearest_style(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as the steps are too small to be seen."""
    stages = tuple(replace(stage, learning_rate=1e-12) for stage in STAGES)
    monkeypatch.setattr(recipe, "Recipe", lambda: Recipe(stages, style_size=48))
    for picture, nearest in (("my_picture", "alike"), ("dark", "other")):
        write_picture(Path("dark.png"), textures(2)[1:] * 0.2)
        result = done(run(f"{STYLE.replace('my_picture', picture)} -y"))
        assert f"begins     from {nearest}, the nearest of 2 shipped styles" in result.stderr
        for method in assets.NETWORKS:
            begun, ended = (Path(folder, f"{method}.safetensors") for folder in (f"package/styles/{nearest}", "own"))
            expected = load_checkpoint(begun).network.state_dict()
            for name, weight in load_checkpoint(ended).network.state_dict().items():
                torch.testing.assert_close(weight, expected[name], rtol=0, atol=2e-3)


def test_the_distance_of_styles_is_the_style_loss() -> None:
    """Known answer: energies 4 and 1 + 1, squared errors 1 and 2."""
    target = {"a": torch.tensor([[[2.0, 0], [0, 0]]]), "b": torch.eye(2)[None]}
    other = {"a": torch.tensor([[[2.0, 1], [0, 0]]]), "b": torch.zeros(1, 2, 2)}
    assert distance(target, other) == pytest.approx(1 / 4 + 2 / 2)
    assert distance(target, target) == 0


def test_it_begins_with_a_style_that_has_no_recurrent_network(run: Run) -> None:
    Path("package/styles/other/recurrent.safetensors").unlink()
    only = done(run(f"{STYLE} --plan"))
    assert only.stdout.splitlines()[0] == "begins     from alike, the only shipped style"
    given = done(run(f"{STYLE} --plan --start-from other"))
    assert given.stdout.splitlines()[0].endswith("from other, as --start-from says, which has no recurrent network")
    checkpoint = done(run(f"{STYLE} --start-from package/styles/alike/independent.safetensors"))
    assert "from independent, as --start-from says, which has no recurrent network" in checkpoint.stderr


def test_a_plan_says_the_time_of_each_stage_and_writes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = done(run(f"{STYLE} --plan --effort 30"))
    assert (result.stderr, Path("own").exists()) == ("", False)
    begins, *stages, memory, total = result.stdout.splitlines()
    assert begins == "begins     from alike, the nearest of 2 shipped styles"
    assert stages == [
        "stage 1    image, 60 steps on 32x32, 1 a step: 2 min, 2 s a step",
        "stage 2    video, 60 steps on 32x32, 1 a step of 2 frames: 2 min, 2 s a step",
        "stage 3    video, 30 steps on 48x48, 1 a step of 2 frames: 60 s, 2 s a step",
    ]
    assert re.fullmatch(r"memory     3\.00 GiB at the peak, \d+\.\d\d GiB available", memory)
    assert total == "total      5 min, and then the figures"
    started = done(run(STYLE)).stderr.splitlines()
    assert started[0] == begins
    assert started[5] == "total      10 s, and then the figures"

    monkeypatch.setattr(training_plan, "estimated", estimated)
    measured = done(run(f"{STYLE} --plan -y")).stdout.splitlines()
    assert all(re.search(r": [\d.]+ s, [\d.]+ s a step$", line) for line in measured[1:4])


def job_of(stage: StageSettings) -> Job:
    """A job of 1 MB for each picture of a step, and a byte for each of its pixels."""
    pictures = stage.batch * stage.frames
    footprint = Footprint(1e6 * pictures, pictures)
    size, device = stage.size, torch.device("cuda")

    def measure(_width: int, _height: int) -> Seconds:
        raise AssertionError("it was not asked for")

    return Job({}, 1, "steps", size, size, footprint, Footprint(), measure, 1, lambda n: (n, n), str, device=device)


@pytest.mark.parametrize(
    ("device", "frames", "available", "size", "batch"),
    [
        ("cpu", 1, 1e9, 256, 1),  # a second picture would take as long again
        ("cuda", 1, 1e9, 256, 4),
        ("cuda", 1, 2.2e6, 256, 2),
        ("cuda", 4, 4.2e6, 192, 1),
        ("cuda", 1, 1e6 + 96 * 96, 96, 1),
    ],
)
def test_crops_and_batch_are_as_large_as_memory_allows(
    device: str, frames: int, available: float, size: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_plan, "available_memory", lambda _device: round(available))
    stage = StageSettings(5, 256, frames)
    assert training_plan.fitted(stage, job_of, torch.device(device)) == replace(stage, size=size, batch=batch)


def test_too_little_memory_for_the_smallest_crops_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_plan, "available_memory", lambda _device: 1_000_000)
    with pytest.raises(DoesNotFit, match=r"even crops of 96x96 need about 0\.00 GiB of memory, 0.00 GiB are available"):
        training_plan.fitted(StageSettings(5, 256), job_of, torch.device("cuda"))


def test_smaller_crops_are_said_and_kept_by_a_run_that_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(training_plan, "_LEAST", 32)
        patched.setattr(planning.Job, "fits", lambda _self, width, _height, _available: width <= 32)
        stop_in_the_first_step(VideoStage, patched)
        stopped = run(STYLE)
    said = "note: stage 3 trains on crops of 32x32 instead of 48x48, for which there is too little memory"
    assert said in stopped.stderr.splitlines()
    assert said in done(run(STYLE)).stderr.splitlines()
    assert card()["settings"]["recurrent"]["settings"]["height"] == 32


def test_without_pyav_all_but_stability_is_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "nststab.video.reader", raising=False)
    monkeypatch.setattr(training_style, "_MOVING", 3)
    result = done(run(STYLE))
    assert (
        "note: stability is not measured on the bundled clip: video files need the package av (PyAV)" in result.stderr
    )
    assert result.stdout == ""
    assert set(card()["figures"]) == {"command"}
    assert Path("own/sheet.jpg").exists()


def test_davis_takes_the_place_of_the_bundled_clip(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table1, "SIZE", 64)
    for kind, suffix, frames in (("JPEGImages", "jpg", textures(3)), ("Annotations", "png", torch.zeros(3, 3, 48, 64))):
        for sequence in ("bear", "camel"):
            folder = Path("davis", kind, "480p", sequence)
            folder.mkdir(parents=True)
            for number, frame in enumerate(frames):
                write_picture(folder / f"{number:05d}.{suffix}", frame[None])
    done(run(f"{STYLE} --davis davis"))
    figures = card()["figures"]
    assert figures["what"].startswith("bear, camel, 6 frames in all")
    assert "background patches" in figures["what"]
    assert figures["command"].endswith("--davis davis --precision float32")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (STYLE.replace("my_picture", "nothing"), 2, "'nothing.png' does not exist"),
        (STYLE.replace("my_picture.png", "text.png"), 1, "text.png: expected a picture"),
        (STYLE.replace("--photos photos", ""), 2, "Missing option '--photos'"),
        (STYLE.replace("--photos photos", "--photos nothing"), 2, "'nothing' does not exist"),
        (STYLE.replace("--photos photos", "--photos empty"), 1, "empty: no pictures found"),
        (STYLE.replace("--photos photos", "--photos one"), 1, "expected two photographs or more"),
        (STYLE.replace("-o own", ""), 2, "Missing option '-o'"),
        (STYLE.replace("-o own", "-o text.png"), 2, "'-o': expected a folder's name, got the file text.png"),
        (STYLE.replace("-o own", "-o own.safetensors"), 2, "'-o': expected a folder's name"),
        (STYLE.replace("-o own", "-o one"), 2, "one exists; say -y to overwrite it"),
        (STYLE.replace("-o own", "-o nowhere/own"), 1, "nowhere: the folder to write to does not exist"),
        (f"{STYLE} --start-from nobody", 2, "no style is named 'nobody'"),
        (f"{STYLE} --start-from my_picture.png", 2, "'--start-from': expected a trained style"),
        (f"{STYLE} --effort 0", 2, "'--effort'"),
        (f"{STYLE} --style-weight nan", 2, "'--style-weight'"),
        (f"{STYLE} --style-size 3", 2, "'--style-size'"),
        (f"{STYLE} --precision float16", 2, "'--precision': expected auto, float32 or bfloat16"),
        (f"{STYLE} --davis photos", 2, "--davis photos: expected DAVIS"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(run: Run, arguments: str, code: int, message: str) -> None:
    refused_in_one_line(run, arguments, code, message)


def test_a_folder_that_takes_nothing_is_said_before_the_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    result = run(STYLE)
    assert (result.exit_code, result.stderr) == (1, "Error: .: Permission denied\n")
    assert not Path("own").exists()


def test_networks_with_a_margin_take_more_memory_by_its_pixels() -> None:
    vgg = PerceptualNetwork(tiny_state_dict())
    settings = TrainingSettings(1, 1, 64, 64)
    jobs = [
        training_job(with_margin(network(), margin), vgg, LossSettings(), settings, Path("x")) for margin in (0, 16)
    ]
    plain, framed = jobs
    assert framed.computing(64, 64) == pytest.approx(plain.computing(96, 96))
    assert framed.added(64, 64) - plain.added(64, 64) == pytest.approx(plain.probed.per_pixel * (96**2 - 64**2))
