"""Training a style with the library, for a step or two of each stage; its command, once, with its messages."""

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nststab.errors import SettingError
from nststab.losses import LossSettings, style_target
from nststab.memory import available_memory
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_target, save_checkpoint, save_target
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.storage.jobs import OtherSettings
from nststab.styles import shipped as assets
from nststab.tasks import train_style as task
from nststab.tasks.plan import DoesNotFit, Measured, Plan, Seconds, Work
from nststab.tasks.train_style import TrainedStyle, plan_lines, style_training, train_style
from nststab.train import card as training_card
from nststab.train import style as training_style
from nststab.train.loop import TrainingStopped
from nststab.train.settings import ImageSettings, StyleSettings, VideoSettings
from nststab.train.stages import ImageStage, VideoStage
from nststab.train.style import distance
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_picture, resize, write_picture
from tests.conftest import (
    TINY,
    Run,
    cli,
    done,
    random_network,
    refused_in_one_line,
    save_davis,
    save_frames,
    tiny_state_dict,
)

SIZES: Any = {"height": 32, "width": 32, "precision": "float32"}
LOGS = {"1_image.jsonl", "2_video.jsonl"}
SETTINGS = StyleSettings(
    image=ImageSettings(steps=2, style_size=48, style_weight=2.0, **SIZES),
    video=VideoSettings(steps=2, length=2, temporal_weight=60.0, **SIZES),
)
STYLE = "style my_picture.png --photos photos --precision float32 -o own"
SMALL = "--set image.steps=2 --set video.steps=2 --set video.length=2 --set image.style_size=48" + "".join(
    f" --set {stage}.{side}=32" for stage in ("image", "video") for side in ("height", "width")
)


def two_seconds_a_step(work: Work, budget: float = 0.0) -> Plan:  # noqa: ARG001
    return Plan(work, (Measured(Seconds(2.0, 2.0), 3 * 2**30, 0.0, 32, 32),), available_memory())


def textures(count: int, seed: int = 0) -> Tensor:
    return F.interpolate(torch.rand(count, 3, 6, 8, generator=torch.Generator().manual_seed(seed)), (48, 64))


def network(recurrent: bool = False, seed: int = 0) -> TransformationNetwork:
    torch.manual_seed(seed)
    return TransformationNetwork(replace(TINY, recurrent=recurrent))


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with photographs and a picture, and two shipped styles of a few channels each.

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
    monkeypatch.setattr(training_card, "demo_clip", lambda: clip)
    monkeypatch.setattr(training_card, "_DEMO_FRAMES", 3)
    monkeypatch.setattr(training_card, "_DEMO_SIZE", 48)
    monkeypatch.setattr(task, "plan", two_seconds_a_step)
    write_picture(Path("my_picture.png"), pictures[:1] * 0.9)
    save_frames("photos", pictures[:4], "{}.png")


def train(output: str = "own", picture: str = "my_picture.png", **options: Any) -> TrainedStyle:
    asked: dict[str, Any] = {"settings": SETTINGS, "device": "cpu"} | options
    return train_style(picture, photos="photos", output=output, **asked)


def plan(**options: Any) -> list[str]:
    settings = options.pop("settings", SETTINGS)
    return plan_lines(style_training("my_picture.png", photos="photos", output="own", settings=settings, **options))


def seeded(seed: int) -> StyleSettings:
    return replace(SETTINGS, image=replace(SETTINGS.image, seed=seed), video=replace(SETTINGS.video, seed=seed))


def weighted(weight: float) -> StyleSettings:
    return replace(SETTINGS, image=replace(SETTINGS.image, style_weight=weight))


@pytest.fixture
def run() -> Run:
    return lambda arguments: cli(f"train {arguments}")


def test_it_makes_the_folder_of_a_style() -> None:
    made = train()
    assert {path.name for path in Path("own").iterdir()} == {
        *("independent.safetensors", "recurrent.safetensors", "target.safetensors"),
        *("image.jpg", "thumbnail.jpg", "sheet.jpg", "card.json", "training"),
    }
    assert {path.name for path in Path("own/training").glob("*.*") if path.is_file()} == {
        "1_image.jsonl",
        "2_video.jsonl",
    }
    assert [one.config for one in made.networks.values()] == [
        replace(TINY, margin=16),
        replace(TINY, margin=16, recurrent=True),
    ]
    checkpoints = [load_checkpoint(Path("own", f"{name}.safetensors")) for name in assets.NETWORKS]
    assert not any(checkpoint.style for checkpoint in checkpoints)  # they stand in a file of their own
    assert checkpoints[0].training["start_from"] == "alike"
    assert checkpoints[1].training["settings"]["temporal_weight"] == 60
    vgg = PerceptualNetwork(tiny_state_dict())
    target, made_with = load_target(Path("own/target.safetensors"))
    picture = resize(read_picture(Path("my_picture.png")).rgb, 48)
    for layer, gram in style_target(vgg, picture, LossSettings().style_layers).items():
        torch.testing.assert_close(target[layer], gram, rtol=1e-3, atol=1e-3)
    assert made_with == {"perceptual": vgg.fingerprint, "style_size": 48}
    assert max(read_picture(Path("own/image.jpg")).rgb.shape) == 64  # as large as it is
    assert [line.split()[0] for line in made.table().splitlines()[3:]] == ["input", "independent", "recurrent"]


def test_the_card_tells_what_was_done() -> None:
    told = train(settings=replace(weighted(3), effort=1.5), start_from="package/styles/other").json()
    assert json.loads(Path("own/card.json").read_text("utf-8")) == json.loads(json.dumps(told))
    assert (told["name"], told["title"], told["seed"]) == ("own", "My picture", 0)
    assert [told[name] for name in ("artist", "year", "source", "rights")] == [None] * 4
    assert (told["data"]["photos"], told["data"]["held_out"]) == (2, 2)
    assert told["command"] == ["nststab train style my_picture.png --photos photos -o own"]
    assert told["start"] == {"style": "other", "why": "as asked for"}
    assert told["settings"]["independent"]["loss"]["style_weight"] == 3
    assert told["settings"]["recurrent"]["settings"]["steps"] == 3
    assert set(told["losses"]["independent"]) == {"content", "style"}
    assert set(told["losses"]["recurrent"]) == {"content", "style", "temporal"}
    assert len(told["seconds"]) == 2
    assert min(told["seconds"]) > 0
    figures = told["figures"]
    assert figures["what"].startswith("the bundled clip, 3 frames in all, at longest side 48; corresponding patches")
    for row in ("content ceiling", "independent", "recurrent"):
        assert set(figures[row]) == {"n", "psnr", "ssim", "flicker", "style_loss", "content_loss"}
    assert figures["content ceiling"]["content_loss"] == 0
    assert set(told["gram_trace"]) == {"relu1_1", "relu2_1", "what"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["date"])
    assert str(Path.cwd()) not in json.dumps(told)


def test_the_folder_is_a_style_wherever_it_goes(run: Run) -> None:
    train()
    Path("own").rename("elsewhere")
    Path("elsewhere/image.jpg").unlink()
    Path("my_picture.png").unlink()
    for method in ("independent", "recurrent", "gatys --iterations 1"):
        command = f"stylize photos/0.png --style elsewhere -o out.png -y --precision float32 --method {method}"
        done(cli(command))
        assert read_picture(Path("out.png")).rgb.shape == (1, 3, 48, 64)
    assert cli("styles elsewhere").exit_code == 0
    further = "video elsewhere/independent.safetensors --photos photos --height 32 --width 32 --steps 1 --length 2"
    assert run(f"{further} --precision float32 -o further.safetensors").exit_code == 0
    target = load_target(Path("elsewhere/target.safetensors"))[0]
    assert load_checkpoint(Path("further.safetensors")).style.keys() == target.keys()
    assert run("average elsewhere/recurrent.safetensors further.safetensors -o mean.safetensors").exit_code == 0
    assert load_checkpoint(Path("mean.safetensors")).style.keys() == target.keys()


def test_effort_multiplies_the_steps() -> None:
    usual, doubled, least = (StyleSettings(effort=effort).stages for effort in (1, 2, 1e-9))
    assert [stage.steps for stage in usual] == [800, 300]
    assert [stage.steps for stage in doubled] == [1600, 600]
    assert [stage.steps for stage in least] == [1, 1]


@pytest.mark.parametrize(("stage", "killed"), [(ImageStage, True), (VideoStage, False)])
def test_a_stopped_run_resumes_and_ends_with_the_same_bytes(
    stage: type[ImageStage | VideoStage], killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("whole")
    with monkeypatch.context() as patched:
        stop = stop_in_the_first_step(stage, patched, killed)
        with pytest.raises(KeyboardInterrupt if killed else TrainingStopped) as stopped:
            train(stop=stop)
    if not killed:
        job = "own/training/2_video.safetensors.unfinished"
        assert str(stopped.value) == f"stopped after 1 steps, which {job} keeps; the same command goes on"
    assert not Path("own/card.json").exists()
    assert Path("own/independent.safetensors").exists() == (stage is VideoStage)
    left = [line[11:].split(" on ")[0] for line in plan()[1:3]]
    assert left == (
        ["image, 2 steps", "video, 2 steps"] if killed else ["image, 2 steps: done", "video, the last 1 of 2 steps"]
    )
    own = train()
    for name in ("independent.safetensors", "recurrent.safetensors", "target.safetensors", "sheet.jpg", "image.jpg"):
        assert Path("own", name).read_bytes() == Path("whole", name).read_bytes()
    whole = json.loads(Path("whole/card.json").read_text("utf-8"))
    assert (own.card["figures"]["recurrent"], own.card["losses"]) == (whole["figures"]["recurrent"], whole["losses"])
    assert {path.name for path in Path("own/training").glob("*.*") if path.is_file()} == {
        "1_image.jsonl",
        "2_video.jsonl",
    }


def stop_in_the_first_step(
    stage: type[ImageStage | VideoStage], monkeypatch: pytest.MonkeyPatch, killed: bool = False
) -> Callable[[], bool]:
    """What to ask whether to stop, as after a signal; or a kill that saves nothing."""
    loss, asked = stage.loss, list[bool]()

    def interrupted(*arguments: Any) -> dict[str, Tensor]:
        asked.append(True)
        if killed:
            raise KeyboardInterrupt
        return loss(*arguments)

    monkeypatch.setattr(stage, "loss", interrupted)
    return lambda: bool(asked)


def test_a_photograph_that_goes_between_two_runs_does_not_begin_it_afresh_and_other_settings_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patched, pytest.raises(TrainingStopped):
        train(stop=stop_in_the_first_step(VideoStage, patched))
    with pytest.raises(OtherSettings, match="style_weight was 2, is 5"):
        train(settings=weighted(5))
    write_picture(Path("dark.png"), textures(2)[1:] * 0.2)
    with pytest.raises(OtherSettings, match="style was my_picture, is dark"):
        train(picture="dark.png", start_from="alike")
    assert not Path("own/target.safetensors").exists()  # or it would stand beside the network of the other painting
    assert "image, 2 steps: done" in done(cli(f"train {STYLE} {SMALL} --plan")).stdout
    Path("photos/0.png").unlink()  # it is held out
    caplog.clear()
    assert train().figures is not None  # a run of other photographs would be refused
    assert caplog.messages.count("left out, gone or changed since the training began: photos/0.png") == 1


def test_what_stands_there_is_written_over_only_when_asked() -> None:
    Path("own/training").mkdir(parents=True)
    Path("own/training/notes.txt").write_text("mine")
    exists = pytest.raises(SettingError, match=r"^own exists; say restart=True to overwrite it$")
    with exists:
        train()
    train(restart=True)
    before = Path("own/recurrent.safetensors").read_bytes()
    with exists:
        train()
    assert train(settings=seeded(1), restart=True).card["seed"] == 1
    assert Path("own/recurrent.safetensors").read_bytes() != before
    assert Path("own/training/notes.txt").read_text() == "mine"


def test_each_stage_has_the_weights_and_the_margin_that_it_was_given() -> None:
    video = replace(SETTINGS.video, style_weight=7.0, tv_weight=0.5, margin=4)
    train(settings=replace(SETTINGS, image=replace(SETTINGS.image, tv_weight=0.25), video=video))
    independent, recurrent = (load_checkpoint(Path(f"own/{name}.safetensors")) for name in assets.NETWORKS)
    losses = [[one.training["loss"][f"{name}_weight"] for name in ("content", "style", "tv")] for one in
              (independent, recurrent)]  # fmt: skip
    assert losses == [[1, 2, 0.25], [1, 7, 0.5]]
    assert (independent.network.config.margin, recurrent.network.config.margin) == (16, 4)


def test_it_begins_with_the_nearest_style() -> None:
    """As far as the steps are too small to be seen."""
    still = replace(
        SETTINGS,
        image=replace(SETTINGS.image, learning_rate=1e-12),
        video=replace(SETTINGS.video, learning_rate=1e-12),
    )
    write_picture(Path("dark.png"), textures(2)[1:] * 0.2)
    for picture, nearest in (("my_picture.png", "alike"), ("dark.png", "other")):
        made = train(picture=picture, settings=still, restart=True)
        assert made.card["start"] == {"style": nearest, "why": "the nearest of 2 shipped styles"}
        for method, trained in made.networks.items():
            begun = load_checkpoint(Path(f"package/styles/{nearest}/{method}.safetensors")).network.state_dict()
            for name, weight in trained.state_dict().items():
                torch.testing.assert_close(weight, begun[name], rtol=0, atol=2e-3)


def test_the_distance_of_styles_is_the_style_loss() -> None:
    """Known answer: energies 4 and 1 + 1, squared errors 1 and 2."""
    target = {"a": torch.tensor([[[2.0, 0], [0, 0]]]), "b": torch.eye(2)[None]}
    other = {"a": torch.tensor([[[2.0, 1], [0, 0]]]), "b": torch.zeros(1, 2, 2)}
    assert distance(target, other) == pytest.approx(1 / 4 + 2 / 2)
    assert distance(target, target) == 0


def test_it_begins_with_a_style_that_has_no_recurrent_network() -> None:
    Path("package/styles/other/recurrent.safetensors").unlink()
    assert plan()[0] == "begins     from alike, the only shipped style"
    many = Checkpoint(random_network(NetworkConfig(False, (2, 4, 8), 1, 4, "light", ("a@32", PHOTOGRAPH))))
    save_checkpoint(Path("many.safetensors"), many)
    with pytest.raises(SettingError, match=r"many\.safetensors is one of a network of many styles"):
        plan(start_from="many.safetensors")
    assert plan(start_from="other")[0].endswith("from other, as asked for, which has no recurrent network")
    checkpoint = train(start_from="package/styles/alike/independent.safetensors").card["start"]
    assert checkpoint == {"style": "independent", "why": "as asked for, which has no recurrent network"}


def test_smaller_crops_are_said_and_kept_by_a_run_that_resumes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    larger = replace(SETTINGS, video=replace(SETTINGS.video, height=48, width=96))
    with monkeypatch.context() as patched:
        patched.setattr(task, "_LEAST", 32)
        patched.setattr(task, "surely_fits", lambda *_: False)
        patched.setattr(Plan, "needed", lambda _self, width, height: 0 if (width, height) <= (64, 32) else 2**60)
        stop = stop_in_the_first_step(VideoStage, patched)
        with pytest.raises(TrainingStopped):
            train(settings=larger, stop=stop)
    said = "stage 2 trains on crops of 64x32 instead of 96x48, for which there is too little memory"
    assert said in caplog.messages
    kept = train(settings=larger).card["settings"]["recurrent"]["settings"]
    assert (kept["height"], kept["width"]) == (32, 64)
    monkeypatch.setattr(task, "surely_fits", lambda *_: False)
    monkeypatch.setattr(Plan, "needed", lambda *_: 2**60)
    with pytest.raises(DoesNotFit, match="even crops of 96x96 need about"):
        plan(settings=StyleSettings(), restart=True)


def test_without_pyav_all_but_stability_is_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "nststab.video.reader", raising=False)
    monkeypatch.setattr(training_style, "_MOVING", 3)
    made = train()
    assert "stability is not measured on the bundled clip: video files need the package av (PyAV)" in caplog.text
    assert (made.table(), set(made.card["figures"])) == ("", {"command"})
    assert Path("own/sheet.jpg").exists()


def test_davis_takes_the_place_of_the_bundled_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_card, "DAVIS_SIZE", 64)
    for sequence in ("bear", "camel"):
        save_davis("davis", sequence, list(textures(3)))
    figures = train(davis="davis").card["figures"]
    assert figures["what"].startswith("bear, camel, 6 frames in all")
    assert "background patches" in figures["what"]


# The command


def test_the_command_trains_and_says_what_it_does(run: Run) -> None:
    planned = run(f"{STYLE} {SMALL} --plan --effort 30")
    assert (planned.exit_code, planned.stderr, Path("own").exists()) == (0, "", False)
    begins, *stages, memory, figures, total = planned.stdout.splitlines()
    assert begins == "begins     from alike, the nearest of 2 shipped styles"
    assert stages == [
        "stage 1    image, 60 steps on 32x32, 1 a step: 2 min, 2 s a step",
        "stage 2    video, 60 steps on 32x32, 1 a step of 2 frames: 2 min, 2 s a step",
    ]
    assert re.fullmatch(r"memory     \d\.\d\d GiB at the peak, \d+\.\d\d GiB available", memory)
    # two validations of each stage take as long as 5.3 and 2.7 steps; three frames of figures, twice a crop's size
    assert (figures, total) == ("figures    6.8 s", "total      4 min, 4 min to 5 min")
    result = done(run(f"{STYLE} {SMALL} --seed 3 --start-from package/styles/other"))
    told = result.stderr.splitlines()
    assert told[0] == "begins     from other, as asked for"
    assert told[-1] == "own: both networks, card and sheet.jpg"
    assert [line.split()[0] for line in result.stdout.splitlines()[3:]] == ["input", "independent", "recurrent"]
    card = json.loads(Path("own/card.json").read_text("utf-8"))
    assert card["command"] == [
        "nststab train style my_picture.png --photos photos -o own --start-from other --seed 3 "
        f"--precision float32 {SMALL}"
    ]
    assert run(f"{STYLE} {SMALL} -y -q").stderr == ""


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
        (STYLE.replace("-o own", "-o text.png"), 2, "-o: expected a folder's name, got the file text.png"),
        (STYLE.replace("-o own", "-o own.safetensors"), 2, "-o: expected a folder's name"),
        (STYLE.replace("-o own", "-o one"), 2, "one exists; say -y to overwrite it"),
        (STYLE.replace("-o own", "-o nowhere/own"), 2, "nowhere: the folder to write to does not exist"),
        (f"{STYLE} --start-from nobody", 2, "no style is named 'nobody'"),
        (f"{STYLE} --start-from my_picture.png", 2, "start from: expected a trained style"),
        (f"{STYLE} --effort 0", 2, "'--effort'"),
        (f"{STYLE} --set image.stepps=3", 2, "did you mean image.steps"),
        (f"{STYLE} --davis photos", 2, "photos: expected DAVIS"),
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
