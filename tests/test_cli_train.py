"""nststab train image, video and average, run as a user would, for two steps each."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.losses import LossSettings
from nststab.networks.checkpoints import load_checkpoint
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.tasks import train as tasks
from nststab.train.loop import TrainingStopped
from nststab.train.settings import ADDED_STYLE, ImageSettings, NetworkSettings
from nststab.train.stages import ImageStage
from nststab.video.images import read_picture, write_picture
from tests.conftest import TINY, Run, cli, refused_in_one_line, tiny_state_dict

SMALL = "--photos photos --vgg-weights vgg.safetensors --height 32 --width 32 --steps 2 --precision float32"
IMAGE = f"image style.png {SMALL}"
VIDEO = f"video image.safetensors {SMALL} --length 2"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab train ...` beside a folder of photographs, with networks of a few channels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "NetworkConfig", lambda: TINY)
    generator = torch.Generator().manual_seed(0)
    Path("photos").mkdir()
    for name in ("style.png", *(f"photos/{number}.png" for number in range(4))):
        write_picture(Path(name), F.interpolate(torch.rand(1, 3, 6, 8, generator=generator), (48, 64)))
    save_file(tiny_state_dict(), "vgg.safetensors")
    return lambda arguments: cli(f"train {arguments}")


def done(result: Result) -> Result:
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    return result


def weights(name: str) -> dict[str, Tensor]:
    return load_checkpoint(Path(name)).network.state_dict()


def log(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_image_then_video_make_the_networks_of_a_style(run: Run) -> None:
    result = done(run(f"{IMAGE} -o image.safetensors --style-weight 2 --margin 3"))
    assert result.stderr.splitlines()[-1].startswith("image.safetensors: trained for 2 steps, validation content ")
    image = load_checkpoint(Path("image.safetensors"))
    assert image.network.config == NetworkConfig(False, (4, 6, 8), 1, margin=3)
    assert set(image.style) == set(LossSettings().style_layers)
    assert (image.training["style"], image.training["photos"]) == ("style", 2)
    assert image.training["loss"]["style_weight"] == 2
    assert image.training["settings"]["steps"] == 2
    other = {name: value * 2 for name, value in load_file("vgg.safetensors").items()}  # of the same shapes
    save_file(other, "other.safetensors")
    optimize = "optimize style.png image.safetensors -o out.png --iterations 1 --vgg-weights"
    refused = cli(f"{optimize} other.safetensors")
    assert (refused.exit_code, "another perceptual network" in refused.stderr) == (1, True)
    assert cli(f"{optimize} vgg.safetensors").exit_code == 0
    refused = run(f"{VIDEO} -o video.safetensors --vgg-weights other.safetensors")
    assert (refused.exit_code, "another perceptual network" in refused.stderr) == (1, True)

    done(run(f"{VIDEO} -o video.safetensors --temporal-weight 7 --content-weight 3"))
    video = load_checkpoint(Path("video.safetensors"))
    assert video.network.config == NetworkConfig(True, (4, 6, 8), 1, margin=3)
    assert all(torch.equal(video.style[layer], image.style[layer]) for layer in image.style)
    assert (video.training["loss"]["style_weight"], video.training["loss"]["content_weight"]) == (2, 3)
    assert (video.training["settings"]["temporal_weight"], video.training["synthetic"]["length"]) == (7, 2)
    assert video.training["from"]["style"] == "style"
    assert "temporal" in log("video.jsonl")[1]

    further = VIDEO.replace("image.safetensors", "video.safetensors")
    done(run(f"{further} -o further.safetensors --learning-rate 1e-9 --margin 5"))
    assert load_checkpoint(Path("further.safetensors")).network.config.margin == 5
    moved = [
        (load_checkpoint(Path("further.safetensors")).network.state_dict()[name] - weight).abs().max()
        for name, weight in video.network.state_dict().items()
    ]
    assert max(moved) < 1e-3  # it began where the other ended, not from the independent network

    average = "average image.safetensors {} -o mean.safetensors --share 0.25 -y"
    said = done(run(average.format("image.safetensors"))).stderr
    assert said == "mean.safetensors: 0.75 of image.safetensors and 0.25 of image.safetensors\n"
    mean, own = load_checkpoint(Path("mean.safetensors")), image.network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in mean.network.state_dict().items())
    assert mean.training == {**image.training, "average": {"share": 0.25, "first": image.training}}
    assert set(mean.style) == set(image.style)
    refused = run(average.format("video.safetensors"))
    assert (refused.exit_code, "have no average" in refused.stderr) == (1, True)


def test_a_run_leaves_a_log_and_pictures(run: Run) -> None:
    done(run(f"{IMAGE} -o net.safetensors --validate-every 1"))
    lines = log("net.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 1, 2, 2]
    assert ["validation" in line for line in lines] == [True, False, True, False, True]
    assert set(lines[1]) == {"step", "images_per_second", "seconds", "seconds_left", "content", "style"}
    assert lines[3]["seconds_left"] == 0
    assert set(lines[0]["validation"]) == {"content", "style"}
    pictures = sorted(Path("net.validation").iterdir())
    assert [path.name for path in pictures] == ["000000.png", "000001.png", "000002.png"]
    assert read_picture(pictures[0]).rgb.shape[-1] >= 64
    assert not [path for path in Path().rglob("*") if path.suffix == ".part" or path.name.startswith(".")]


def test_an_output_is_overwritten_only_when_asked(run: Run) -> None:
    done(run(f"{IMAGE} -o net.safetensors"))
    first = weights("net.safetensors")
    refused = run(f"{IMAGE} -o net.safetensors")
    assert refused.exit_code == 2
    assert "net.safetensors exists; say -y to overwrite it" in refused.stderr
    assert done(run(f"{IMAGE} -o net.safetensors -y -q")).stderr == ""
    again = weights("net.safetensors")
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert not list(Path().glob("*.unfinished"))


def test_other_settings_begin_afresh_only_when_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_at(1, patched)
        run(f"{IMAGE} -o net.safetensors --validate-every 1")
    refused = run(f"{IMAGE} -o net.safetensors --style-weight 5 --steps 1")
    assert refused.exit_code == 2
    assert "net.safetensors.unfinished holds unfinished work of other settings" in refused.stderr
    assert "loss.style_weight was 1, is 5" in refused.stderr
    assert "settings.steps was 2, is 1" in refused.stderr
    assert refused.stderr.endswith("; say -y to begin afresh\n")
    assert not Path("net.safetensors").exists()
    refused = run(f"{IMAGE} -o net.safetensors --validate-every 1 --margin 4")
    assert "other settings: network.margin was 16, is 4" in refused.stderr

    done(run(f"{IMAGE} -o net.safetensors --style-weight 5 --steps 1 -y"))
    assert load_checkpoint(Path("net.safetensors")).training["loss"]["style_weight"] == 5
    assert [line["step"] for line in log("net.jsonl")] == [0, 1, 1]
    assert [path.name for path in sorted(Path("net.validation").iterdir())] == ["000000.png", "000001.png"]
    done(run(f"{IMAGE} -o other.safetensors --style-weight 5 --steps 1"))
    assert Path("net.safetensors").read_bytes() == Path("other.safetensors").read_bytes()


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGINT) -> None:
    """Has the signal come while a step is in work."""
    loss = ImageStage.loss
    calls = 0

    def interrupted(self: ImageStage, network: TransformationNetwork, batch: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == step:
            signal.raise_signal(number)
        return loss(self, network, batch)

    monkeypatch.setattr(ImageStage, "loss", interrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_state(run: Run, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    command = IMAGE.replace("--steps 2", "--steps 4 --validate-every 2")
    done(run(f"{command} -o whole.safetensors"))
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        stop_at(3, patched, number)
        stopped = run(f"{command} -o net.safetensors")
    assert signal.getsignal(number) is before
    assert stopped.exit_code == 1
    assert "stopped after 3 steps, which net.safetensors.unfinished keeps; the same command goes on" in stopped.stderr
    assert not Path("net.safetensors").exists()
    with Path("net.jsonl").open("a") as file:
        file.write('{"step": 4, "content": 1.0}\n{"step": 5, "cont')  # what a kill after the state leaves
    write_picture(Path("net.validation/000004.png"), torch.zeros(1, 3, 8, 8))
    assert "going on: 3 steps were done" in done(run(f"{command} -o net.safetensors")).stderr
    assert Path("net.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    steps = [(line["step"], "validation" in line) for line in log("net.jsonl")]
    assert steps == [(line["step"], "validation" in line) for line in log("whole.jsonl")]


def test_the_time_before_a_stop_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_at(1, patched)
        run(f"{IMAGE} -o net.safetensors")
    told = "".join(json.dumps(line | {"seconds": 1000.0}) + "\n" for line in log("net.jsonl"))
    Path("net.jsonl").write_text(told)
    done(run(f"{IMAGE} -o net.safetensors"))
    assert 1000 < log("net.jsonl")[-2]["seconds"] < 1060


def test_a_full_disk_leaves_the_state_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = IMAGE.replace("--steps 2", "--steps 4")
    done(run(f"{command} -o whole.safetensors"))
    with monkeypatch.context() as patched:
        stop_at(2, patched)
        run(f"{command} -o net.safetensors")
    state = Path("net.safetensors.unfinished/state.pt").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        failed = run(f"{command} -o net.safetensors")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == (
        "Error: net.safetensors.unfinished/state.pt: No space left on device; "
        "what is done is kept in net.safetensors.unfinished, and the same command goes on"
    )
    assert Path("net.safetensors.unfinished/state.pt").read_bytes() == state
    assert not list(Path().rglob("*.part"))
    assert "going on: 2 steps were done" in done(run(f"{command} -o net.safetensors")).stderr
    assert Path("net.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


def full_disk(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_style_begins_with_the_network_of_another(run: Run) -> None:
    """At next to no learning rate it stays where it began."""
    done(run(f"{IMAGE} -o one.safetensors"))
    done(run(f"{IMAGE} -o two.safetensors --seed 1 --start-from one.safetensors --learning-rate 1e-12"))
    one, two = weights("one.safetensors"), weights("two.safetensors")
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected)
    assert load_checkpoint(Path("two.safetensors")).training["start_from"] == "one"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (f"{IMAGE} -o net.safetensors --start-from style.png", 2, "start from: expected a trained style"),
        (f"{IMAGE} -o net.safetensors --start-from nobody", 2, "no style is named 'nobody'"),
        (f"{IMAGE} -o net.pth", 2, "-o: expected a .safetensors file, got net.pth"),
        (f"{IMAGE} -o out/net.safetensors", 2, "out: the folder to write to does not exist"),
        (f"{IMAGE} -o net.safetensors --photos nothing", 2, "'nothing' does not exist"),
        (f"{IMAGE} -o net.safetensors --photos style.png", 2, "'style.png' is a file"),
        (f"{IMAGE} -o net.safetensors --photos empty", 1, "empty: no pictures found"),
        (f"{IMAGE} -o net.safetensors --photos one", 1, "expected two photographs or more"),
        (f"{IMAGE} -o net.safetensors --steps 0", 2, "'--steps'"),
        (f"{IMAGE} -o net.safetensors --vgg-weights text.safetensors", 1, "is not a readable .safetensors file"),
        (IMAGE.replace("style.png", "text.png") + " -o net.safetensors", 1, "text.png: expected a picture"),
        (f"video vgg.safetensors {SMALL} -o net.safetensors", 1, "holds no transformation network"),
        (f"video style.png {SMALL} -o net.safetensors", 1, "expected weights in a .safetensors"),
        (f"video photos {SMALL} -o net.safetensors", 2, "File 'photos' is a directory"),
        ("average photos photos -o net.safetensors", 2, "File 'photos' is a directory"),
        (f"video nothing.safetensors {SMALL} -o net.safetensors", 2, "'nothing.safetensors' does not exist"),
        (IMAGE, 2, "Missing option '-o'"),
        (f"image style.png -o net.safetensors {SMALL.replace('--photos photos', '')}", 2, "Missing option '--photos'"),
    ],
)
def test_bad_input_ends_in_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    Path("text.safetensors").write_text("these are no weights")
    refused_in_one_line(run, arguments, code, message)


def test_video_needs_real_sintel(run: Run) -> None:
    done(run(f"{IMAGE} -o image.safetensors"))
    Path("sintel").mkdir()
    refused = run(f"{VIDEO} -o video.safetensors --sintel sintel")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert "sintel" in refused.stderr
    assert not list(Path().glob("video*"))


@pytest.mark.usefixtures("run")
def test_a_run_is_resumed_without_the_photographs_that_are_gone(caplog: pytest.LogCaptureFixture) -> None:
    options: Any = {"output": "net.safetensors", "vgg_weights": "vgg.safetensors", "device": "cpu"}
    options["settings"] = ImageSettings(height=32, width=32, steps=6)
    steps = iter(range(6))
    with pytest.raises(TrainingStopped):
        tasks.image_training("style.png", photos="photos", **options).run(stop=lambda: next(steps) == 2)
    shutil.copytree("photos", "others")
    for path in Path("others").iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(NststabError, match="unfinished work of other settings: photo_files was"):
        tasks.image_training("style.png", photos="others", **options).run()
    Path("photos/3.png").rename("photos/7.png")
    caplog.clear()
    tasks.image_training("style.png", photos="photos", **options).run()
    told = [message for message in caplog.messages if message.startswith("left out")]
    assert told == [
        "left out, gone or changed since the training began: photos/3.png",
        "left out, new since the training began: photos/7.png",
    ]
    assert [line["step"] for line in log("net.jsonl") if "validation" not in line] == [1, 2, 3, 4, 5, 6]


def test_only_rows_takes_what_suits_one_painting_unless_told_otherwise(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[NetworkSettings] = []
    monkeypatch.setattr("nststab.tasks.train_network.train_network", lambda *_, settings, **__: taken.append(settings))
    for more in (
        "",
        "--start-from light --only-rows",
        "--set only_rows=true",
        "--only-rows --batch 4 --set adam_rate=0.002",
    ):
        assert run(f"network style.png --photos photos -o own.safetensors {more}").exit_code == 0
    plain = NetworkSettings()
    assert taken == [
        plain,
        ADDED_STYLE,
        ADDED_STYLE,
        replace(ADDED_STYLE, batch=plain.batch, adam_rate=plain.adam_rate),
    ]


@pytest.mark.parametrize("train", [tasks.image_training, tasks.video_training])
def test_an_option_that_there_is_not_is_refused_with_the_nearest(train: Any) -> None:
    with pytest.raises(SettingError, match=r"no option 'restrat'; did you mean restart\?"):
        train("style.png", photos="photos", output="net.safetensors", restrat=True)
    with pytest.raises(SettingError, match="photos: none was given"):
        train("style.png", output="net.safetensors")
