"""Clips on the command line: pipes, patterns, names, times and rates, run as a user would."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nststab.cli import group
from nststab.report.html import clip_names
from nststab.video.clip import check_output, open_clip
from nststab.video.images import read_picture, write_picture
from nststab.video.pipes import read_pipe
from nststab.video.settings import parse_rate, parse_size, parse_time
from tests.conftest import Run, cli, done, frames_of, save_networks, save_vgg, told

STYLE = "--style independent.safetensors --method independent --precision float32 --device cpu"


def save_clip(name: str) -> None:
    """Ten frames at 10 a second, frame i of grey i/10 + 0.05, with sound."""
    with av.open(name, "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"crf": "5", "g": "4"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        sound: Any = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(10):
            grey = np.full((24, 32, 3), round(index * 25.5) + 12, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
        noise = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 44100)).astype(np.float32)
        heard = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        heard.sample_rate, heard.pts = 44100, 0
        container.mux([*sound.encode(heard), *sound.encode(None)])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab ...` beside `clip.mp4`, a network, and the perceptual network it was trained by."""
    monkeypatch.chdir(tmp_path)
    save_clip("clip.mp4")
    save_networks(Path(), torch.rand(1, 3, 32, 32), ["independent"])
    save_vgg(Path())
    return lambda arguments, stdin=None: cli(arguments, input=stdin)


def times(path: str) -> list[Fraction | None]:
    return [frame.time for frame in open_clip(path).frames()]


def near(ours: list[torch.Tensor], theirs: list[torch.Tensor], levels: float) -> bool:
    assert len(ours) == len(theirs)
    return all(float((a - b).abs().mean()) * 255 <= levels for a, b in zip(ours, theirs, strict=True))


def test_start_duration_and_rate(run: Run) -> None:
    done(run(f"stylize clip.mp4 -o whole/ {STYLE}"))
    said = done(run(f"stylize clip.mp4 -o part/ {STYLE} --start 0:00.25 --duration .3"))
    assert said.stderr == "note: a folder holds no audio: it was dropped\npart/: 3 frames, 32x24\n"
    assert all(torch.equal(a, b) for a, b in zip(frames_of("part"), frames_of("whole")[3:6], strict=True))
    done(run(f"stylize clip.mp4 -o part.mkv {STYLE} --start 0.3 --duration 0.4 --fps 20"))
    assert times("part.mkv") == [Fraction(index, 20) for index in range(8)]
    assert near(frames_of("part.mkv")[::2], frames_of("whole")[3:7], 3)
    with av.open("part.mkv") as container:
        (sound,) = container.streams.audio
        heard = sum(frame.samples for frame in container.decode(sound)) / 44100
    assert heard == pytest.approx(0.4, abs=0.08)
    done(run(f"stylize whole -o slow.mp4 {STYLE} --fps 30000/1001"))
    assert times("slow.mp4")[1] == Fraction(1001, 30000)


def test_from_standard_input_and_to_standard_output(run: Run) -> None:
    said = done(run(f"stylize clip.mp4 -o - -v {STYLE}"))
    assert "standard output holds no audio" in said.stderr
    assert said.stderr.endswith("standard output: 10 frames, 32x24\n")
    made = read_pipe(io.BytesIO(said.stdout_bytes))
    assert (made.width, made.height) == (32, 24)
    assert made.rate == 10
    piped = [rgb for rgb, _, _ in made.frames()]
    done(run(f"stylize clip.mp4 -o made/ {STYLE}"))
    assert near(piped, frames_of("made"), 1)
    again = done(run(f"stylize - -o again/ {STYLE} --start 0.2", said.stdout_bytes))
    assert again.stderr == "again/: 8 frames, 32x24\n"
    raw = done(run(f"stylize clip.mp4 -o - --raw -q {STYLE}")).stdout_bytes
    assert raw == b"".join(bytes((rgb[0].permute(1, 2, 0) * 255).round().byte().numpy()) for rgb in frames_of("made"))
    done(run(f"stylize - -o raw.mkv {STYLE} --raw-size 32x24 --fps 10", raw))
    assert times("raw.mkv") == [Fraction(index, 10) for index in range(10)]
    cut = done(run(f"stylize - -o cut.mkv {STYLE}", said.stdout_bytes[:-100]))
    assert cut.stderr.splitlines() == [
        "note: the last frame of standard input was cut off: left out",
        "cut.mkv: 9 frames, 32x24",
    ]


def test_the_table_gives_way_to_the_video(run: Run) -> None:
    options = "--style independent.safetensors --methods independent --device cpu --vgg-weights vgg.safetensors"
    said = done(run(f"compare clip.mp4 -o - {options}"))
    assert "PSNR" in said.stderr
    assert len(list(read_pipe(io.BytesIO(said.stdout_bytes)).frames())) == 10
    assert "PSNR" in done(run(f"compare clip.mp4 -o a.mp4 {options}")).stdout


def test_a_named_pipe_is_read_once(run: Run) -> None:
    done(run(f"stylize clip.mp4 -o clip.y4m {STYLE}"))
    os.mkfifo("pipe")
    with subprocess.Popen([sys.executable, "-c", "open('pipe', 'wb').write(open('clip.y4m', 'rb').read())"]) as writer:
        done(run(f"stylize pipe -o out.mp4 {STYLE}"))
    assert writer.returncode == 0
    assert len(frames_of("out.mp4")) == 10
    with open("clip.y4m", "rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read())))
        clip = open_clip("-")
        assert len(list(clip.frames())) == 10
        with pytest.raises(ValueError, match="standard input: expected to be read once"):
            next(clip.frames())


def test_a_reader_that_goes_away_ends_it_in_one_line(run: Run) -> None:  # noqa: ARG001
    arguments = ["stylize", "clip.mp4", "-o", "-", *STYLE.split(), "--fps", "2000"]
    call = [sys.executable, "-c", "from nststab.cli import main; main()", *arguments]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == b"YUV4MPEG2 "
        process.stdout.close()
        assert process.stderr.read() == b"Error: standard output: the reader went away\n"
    assert process.returncode == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_video_does_not_go_to_a_terminal_nor_come_from_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    clip = open_clip("clip.mp4")
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(ValueError, match="standard input is a terminal"):
        open_clip("-")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Terminal())
        with pytest.raises(ValueError, match="standard output is a terminal"):
            check_output(clip, "-")


def test_patterns_and_globs(run: Run) -> None:
    for index in range(9, 12):
        write_picture(Path(f"shot{index}.png"), torch.full((1, 3, 24, 32), index / 20))
    for pattern in ("shot%d.png", "shot*.png", "shot[19]*.png"):
        done(run(f"stylize {pattern} -o out/ -y {STYLE}"))
        assert [path.name for path in sorted(Path("out").iterdir())] == [f"frame_{i:06d}.png" for i in (1, 2, 3)]
        brightness = [float(read_picture(path).rgb.mean()) for path in sorted(Path("out").iterdir())]
        assert brightness == sorted(brightness)
    Path("shot10.png").unlink()
    refused = run(f"stylize shot%d.png -o out/ -y {STYLE}")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: shot10.png: missing, while shot11.png is there; expected numbers without a gap\n"


@pytest.mark.parametrize("name", ["-x.mp4", 'a b\'s "c".mp4', "Ü_日本.mp4", "100%d*[1].mp4", "-"])
def test_names_are_taken_as_they_are(run: Run, name: str) -> None:  # noqa: ARG001
    os.rename("clip.mp4", name)
    arguments = ["stylize", f"./{name}", "-o", "./-out: é%03d.mp4", *STYLE.split()]
    done(CliRunner().invoke(group, arguments))
    assert len(frames_of("-out: é%03d.mp4")) == 10


def test_flow_of_an_excerpt(run: Run) -> None:
    said = done(run("flow estimate clip.mp4 -o flow --start 0.2 --duration 0.3 --flow-method dis"))
    assert "3 frames" in said.stderr
    assert sorted(path.name for path in Path("flow").glob("*.flo")) == [
        "backward_2_1.flo",
        "backward_3_2.flo",
        "forward_1_2.flo",
        "forward_2_3.flo",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("clip.mp3 -o out.mp4", 2, "Path 'clip.mp3' does not exist; did you mean clip.mp4?"),
        ("none/clip.mp4 -o out.mp4", 2, "Path 'none/clip.mp4' does not exist"),
        ("x%02d.png -o out.mp4", 1, "x%02d.png: no picture fits this pattern"),
        ("*.bmp -o out.mp4", 1, "*.bmp: no picture fits this pattern"),
        ("clip.mp4 -o out.mp4 --start 1:99", 2, "'--start': '1:99': expected a time as 2.5 (seconds) or 1:02:03.5"),
        ("clip.mp4 -o out.mp4 --duration 0", 2, "'--duration': expected above 0, got 0"),
        ("clip.mp4 -o out.mp4 --fps 0", 2, "'--fps': '0': expected frames per second as 25, 29.97 or 30000/1001"),
        ("clip.mp4 -o out.mp4 --start 1", 1, "clip.mp4: expected a start before the end at 1.000 s, got 1 s"),
        ("clip.mp4 -o out.mp4 --raw", 2, "--raw is for video to -, got out.mp4"),
        ("clip.mp4 -o out.mp4 --raw-size 3x4", 1, "clip.mp4: expected raw frames from a pipe, got a file"),
        ("clip.mp4 -o out.mp4 --raw-size 3", 2, "'--raw-size': '3': expected width and height in pixels as 640x480"),
        ("- -o out.mp4", 1, "standard input: expected y4m video, got b'not video'"),
        ("- -o out.mp4 --raw-size 8x8", 1, "standard input: the video ends before its first frame"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, arguments: str, code: int, message: str) -> None:
    before = sorted(Path().iterdir())
    assert message in told(run(f"stylize {arguments} {STYLE}", b"not video"), code)
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (parse_time, "0", 0),
        (parse_time, "2.5", Fraction(5, 2)),
        (parse_time, ".1", Fraction(1, 10)),
        (parse_time, "90", 90),
        (parse_time, "1:02.25", Fraction(249, 4)),
        (parse_time, "90:00", 5400),
        (parse_time, "1:01:01.001", Fraction(3661001, 1000)),
        (parse_rate, "25", 25),
        (parse_rate, "29.97", Fraction(2997, 100)),
        (parse_rate, "30000/1001", Fraction(30000, 1001)),
        (parse_size, "640x480", (640, 480)),
    ],
)
def test_times_rates_and_sizes(kind: Callable[[str], Any], text: str, value: object) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [(parse_time, text) for text in ("", "a", "-1", "1:60", "1:2:60", "1:60:00", "1:2:3:4", "1e3", "nan", ":1", "1:")]
    + [(parse_rate, text) for text in ("", "a", "0", "-25", "inf", "1/0", "30/")]
    + [(parse_size, text) for text in ("", "640", "640x", "0x480", "640X480", "-1x1", "640x480x3")],
)
def test_no_times_rates_and_sizes(kind: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        kind(text)


@pytest.mark.parametrize(
    ("clips", "names"),
    [
        ("/home/alice/a.mp4 b.mp4", ["a.mp4", "b.mp4"]),
        ("/home/alice/x/a.mp4 y/a.mp4 b.mp4", ["x/a.mp4", "y/a.mp4", "b.mp4"]),
        ("/home/one/x/a.mp4 /home/two/x/a.mp4 a.mp4", ["one/x/a.mp4", "two/x/a.mp4", "a.mp4"]),
        ("/home/alice/frames/", ["frames"]),
        ("/home/alice/mine/%05d.png theirs/*.png", ["mine", "theirs"]),
        ("mine/a%05d.png mine/b%05d.png", ["a%05d.png", "b%05d.png"]),
        ("%05d.png -", ["%05d.png", "standard input"]),
        (". ..", ["inner", "outer"]),
    ],
)
def test_clips_are_called_by_as_little_as_tells_them_apart(
    clips: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "outer" / "inner")
    assert clip_names([Path(clip) for clip in clips.split()]) == names
