"""The examples, run as their docstrings say: their results are those of the commands that do the same."""

import json
import runpy
import shutil
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor

import nststab
from nststab.cli import group
from nststab.experiments.settings import Table1Settings
from nststab.styles.shipped import NETWORKS, demo_clip, find_style
from nststab.tasks import train_style
from nststab.train import card as training_card
from nststab.train.settings import ImageSettings, StyleSettings, VideoSettings
from nststab.video.clip import open_clip
from nststab.video.images import write_picture
from tests.conftest import done, frames_of, pan, rand, save_davis, save_frames
from tests.test_train_style import two_seconds_a_step

pytestmark = pytest.mark.usefixtures("unrendered", "averaging_vgg")

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
STYLE = "the_great_wave"
SIZE = 64


def example(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Run an example as a program, in this process: importing torch again would take seconds."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")


def command(*arguments: object) -> str:
    result = done(CliRunner().invoke(group, list(map(str, arguments))))
    return result.stdout


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The first three frames of the demo's clip, as pictures: nothing is lost where they are read again."""
    frames = open_clip(demo_clip(), SIZE).frames()
    return save_frames(tmp_path / "clip", [next(frames).rgb for _ in range(3)])


@pytest.fixture
def stylized(clip: Path) -> dict[str, Path]:
    """What `nststab stylize` makes of it, by method."""
    made = {}
    for method in NETWORKS:
        made[method] = clip.with_name(method)
        options = ("--style", STYLE, "--method", method, "--precision", "float32", "-o", f"{made[method]}/")
        command("stylize", clip, *options)
    return made


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_it_is_run(path: Path) -> None:
    text = path.read_text("utf-8")
    assert f"python examples/{path.name} " in text.split('"""')[1]
    assert len(text.splitlines()) <= 80
    assert "nststab.cli" not in text  # they are for those who use the library


def test_stylize_clip(
    clip: Path, stylized: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = clip.with_name("out")
    example("stylize_clip", monkeypatch, clip, f"{output}/", STYLE)
    assert capsys.readouterr().out == f"{output}/: 3 frames\n"
    assert same(frames_of(output), frames_of(stylized["recurrent"]))


@pytest.mark.parametrize("more", ["", "--differences --size 48 --start 0.04 --duration 0.08 --fps 25"])
def test_compare_methods_equals_the_command(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    output, expected = clip.with_name("out"), clip.with_name("expected")
    options = ("--style", STYLE, *more.split())
    example("compare_methods", monkeypatch, clip, f"{output}/", *options)
    printed = capsys.readouterr().out
    assert printed == command("compare", clip, *options, "--precision", "float32", "-o", f"{expected}/")
    assert [line.split()[0] for line in printed.splitlines()[3:]] == ["input", *NETWORKS]
    assert same(frames_of(output), frames_of(expected))


@pytest.mark.parametrize("styled", [True, False])
def test_score_clip(
    clip: Path,
    stylized: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    styled: bool,
) -> None:
    arguments = (clip, *stylized.values(), *(("--style", find_style(STYLE).image) if styled else ()))
    example("score_clip", monkeypatch, *arguments)
    assert command("score", *arguments).startswith(capsys.readouterr().out)  # and tells other authors' measures


def test_score_clip_refuses_a_clip_that_does_not_belong_to_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = clip.with_name("other")
    other.mkdir()
    write_picture(other / "1.png", torch.rand(1, 3, 36, SIZE))
    with pytest.raises(ValueError, match=r"other: expected 3 frames as .*clip has, got 1"):
        example("score_clip", monkeypatch, clip, other)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_frames(tmp_path / "photos", F.interpolate(rand(4, 3, 6, 8), (48, 64)), "{}.png")


def test_train_style(
    clip: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    painting, own = photos / "3.png", clip.with_name("own")
    small = StyleSettings(
        image=ImageSettings(steps=2, height=32, width=32, style_size=SIZE),
        video=VideoSettings(steps=1, height=32, width=32, length=2),
    )
    monkeypatch.setattr(StyleSettings, "of", lambda _given: small)
    monkeypatch.setattr(training_card, "_DEMO_FRAMES", 2)
    monkeypatch.setattr(training_card, "_DEMO_SIZE", 48)
    monkeypatch.setattr(train_style, "plan", two_seconds_a_step)
    example("train_style", monkeypatch, painting, photos, own, "--effort", 1)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[3:]] == ["input", *NETWORKS]
    command("stylize", clip, "--style", own, "-o", f"{clip.with_name('drawn')}/")  # the folder is a style
    assert not same(frames_of(clip.with_name("drawn")), frames_of(clip))


def test_third_party_table1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain function stands in the table with the same figures and cheats as the networks."""
    save_davis(tmp_path / "davis", "swan", pan(2, 48, 64, step=2))
    monkeypatch.setattr(Table1Settings, "of", lambda _given: Table1Settings(size=SIZE, patches=2))
    example("third_party_table1", monkeypatch, tmp_path / "davis", tmp_path / "out")
    shown = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    names = ["input", "independent", "recurrent", "posterized", "copy of the input"]
    assert [name for name in shown if name in names] == names
    rows = {row["method"]: row for row in json.loads((tmp_path / "out/results.json").read_text())["rows"]}
    assert rows["posterized"]["content_loss"] > rows["input"]["content_loss"] == 0
    assert rows["posterized"]["psnr"] < rows["input"]["psnr"]


def test_live_opencv_shows_each_frame_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(cv2, "imshow", lambda _name, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda _: 27 if len(shown) == 2 else -1)
    example("live_opencv", monkeypatch, demo_clip(), "mosaic")
    capture = cv2.VideoCapture(str(demo_clip()))
    painter = nststab.Painter("mosaic", work_size=256, bgr=True)
    for frame in shown:
        assert np.array_equal(frame, painter(np.asarray(capture.read()[1], np.uint8)))


def test_live_ffmpeg_passes_raw_frames_on(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    read, written = BytesIO(frames.tobytes() + b"cut off"), BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=read))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=written))
    example("live_ffmpeg", monkeypatch, 32, 24, "mosaic")
    painter = nststab.Painter("mosaic", work_size=256)
    assert written.getvalue() == b"".join(painter(frame).tobytes() for frame in frames)


@pytest.mark.skipif(not shutil.which("gst-launch-1.0"), reason="GStreamer's gst-launch-1.0 is not installed")
def test_live_gstreamer_passes_frames_between_two_pipelines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
    raw, out = tmp_path / "in", tmp_path / "out"
    raw.write_bytes(frames.tobytes())
    source = f"filesrc location={raw} ! rawvideoparse format=rgb width=32 height=24 framerate=25/1"
    sink = f"video/x-raw,format=RGB ! filesink location={out}"
    example("live_gstreamer", monkeypatch, 32, 24, source, sink, "mosaic")
    painter = nststab.Painter("mosaic", work_size=256)
    assert out.read_bytes() == b"".join(painter(frame).tobytes() for frame in frames)


def test_live_fastapi_paints_each_connection_by_itself() -> None:
    pytest.importorskip("fastapi", reason="only the example needs it")
    pytest.importorskip("uvicorn")
    testing = pytest.importorskip("fastapi.testclient")
    served = runpy.run_path(str(ROOT / "examples/live_fastapi.py"))
    jpeg = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8))[1].tobytes()
    client = testing.TestClient(served["app"])
    answers = []
    with client.websocket_connect("/paint/mosaic") as one, client.websocket_connect("/paint/mosaic") as two:
        for socket in (one, one, two):
            socket.send_bytes(jpeg)
            answers.append(socket.receive_bytes())
    assert answers[0] == answers[2] != answers[1]  # a connection remembers its own frames alone
