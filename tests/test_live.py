"""`nststab live`: frames as they arrive, of sources that are fast, stall and go away, to sinks that are slow."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import nststab
from nststab.cli import group
from nststab.errors import NststabError, SettingError
from nststab.networks.checkpoints import Checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.styles.shipped import light_styles
from nststab.tasks import live as task
from nststab.tasks.live_page import LivePage
from nststab.tasks.settings import LiveSettings
from nststab.video.clip import open_clip
from nststab.video.images import from_uint8, to_uint8, write_picture
from nststab.video.live import Frames, Picture, camera_frames, stream_frames, window_missing
from nststab.video.threads import Newest
from tests import browser
from tests.conftest import done, moving_picture

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 24, 32
QUIET = LiveSettings(show="none", engine="torch", device="cpu", precision="float32")
FAST = 0.01  # seconds a frame, which the networks of these tests keep up with unless the machine is busy


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recurrent network with rows, so that strength and stroke have an effect."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("style") / "net.safetensors"
    rows = (PHOTOGRAPH, "waves@256", "waves@512")
    save_checkpoint(path, Checkpoint(TransformationNetwork(NetworkConfig(True, (4, 6, 8), 1, 16, "light", rows))))
    return str(path)


def pictures(count: int) -> list[Picture]:
    return [to_uint8(moving_picture(number, HEIGHT, WIDTH)) for number in range(count)]


def saved_clip(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, picture in enumerate(pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def wait(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Device:
    """Stands for pyvirtualcam: a camera that takes `seconds` for a frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        self.seen: list[Picture] = []
        self.opened: list[tuple[int, int, float]] = []
        self.closed = False
        self._seconds = seconds
        monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=self._open))

    def _open(self, width: int, height: int, fps: float) -> "Device":
        self.opened.append((width, height, fps))
        return self

    def send(self, picture: Picture) -> None:
        time.sleep(self._seconds)
        self.seen.append(picture)

    def close(self) -> None:
        self.closed = True


def test_the_newest_item_replaces_one_that_waits_which_is_counted() -> None:
    newest: Newest[int] = Newest()
    assert newest.take(0.001) is None
    for item in range(3):
        newest.put(item)
    newest.close()
    assert (newest.take(), newest.take(), newest.dropped) == (2, None, 2)


def test_a_clip_comes_at_its_own_pace_and_is_written_with_its_times(tmp_path: Path, style: str) -> None:
    clip, output = saved_clip(tmp_path / "clip.mp4", 12), tmp_path / "out.mp4"
    made = nststab.live(clip, output, style=[style], settings=QUIET)
    assert made.frames + made.dropped == 12
    assert 11 / 25 - 0.05 < made.seconds < 5  # as fast as it decodes it were a few milliseconds
    with av.open(str(output)) as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    (sink,) = made.sinks
    assert len(times) == sink.frames == made.frames - sink.dropped
    assert times[0] == 0
    assert times[-1] == pytest.approx(11 / 25, abs=0.1) or made.dropped  # the last frame is not dropped


def test_a_painter_that_is_slow_drops_frames_and_its_latency_stays_level(
    monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    painted: list[Picture] = []

    def paint(_self: object, frame: Picture, **_: object) -> Picture:
        time.sleep(0.05)
        painted.append(frame)
        return frame

    def source() -> Frames:
        for picture in frames:
            time.sleep(FAST)
            yield picture

    frames = [np.full((HEIGHT, WIDTH, 3), number, np.uint8) for number in range(60)]
    monkeypatch.setattr(task._Easel, "paint", paint)
    made = nststab.live(source, style=[style], settings=QUIET)
    assert made.frames == len(painted) == 60 - made.dropped
    assert made.dropped > 30
    numbers = [int(picture[0, 0, 0]) for picture in painted]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 59
    assert made.latency.median < 500  # a queue of all frames has 1,200 in the middle


def test_a_sink_that_is_slow_delays_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, style: str) -> None:
    def source() -> Frames:
        for picture in pictures(40):
            time.sleep(FAST)
            yield picture

    device = Device(monkeypatch, 0.1)
    settings = QUIET.changed(virtual_camera=True, fps=Fraction(30))
    made = nststab.live(source, f"{tmp_path}/frames/", style=[style], settings=settings)
    folder, camera = made.sinks
    assert device.opened == [(WIDTH, HEIGHT, 30.0)]
    assert device.closed
    assert camera.dropped > 0
    assert camera.frames + camera.dropped == made.frames == folder.frames + folder.dropped
    assert folder.frames > camera.frames
    assert camera.latency.most < 1500  # a queue's grew with every frame


def test_a_source_that_goes_away_is_waited_for_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, style: str
) -> None:
    folder, attempts = tmp_path / "frames", iter(range(9))

    def source() -> Frames:
        attempt = next(attempts)
        if attempt in (1, 2):
            raise ConnectionError("the cable is loose")
        for number, picture in enumerate(pictures(3), 1 + 3 * bool(attempt)):
            yield picture
            wait((folder / f"frame_{number:06d}.png").exists, "so none is dropped")
        if not attempt:
            raise ConnectionError("it went away")

    monkeypatch.setattr(task, "_RETRY", 0.01)
    made = nststab.live(source, f"{folder}/", style=[style], settings=QUIET)
    assert (made.frames, made.dropped, made.returns) == (6, 0, 1)
    first = [frame.rgb for frame in open_clip(folder).frames()]
    assert not torch.equal(first[0], first[1])
    for before, after in zip(first[:3], first[3:], strict=True):
        assert torch.equal(before, after)  # a recurrent network that remembered the third frame paints another
    assert "came back 1 time" in made.table()


def test_a_source_that_is_not_there_is_refused_and_another_error_ends_it(tmp_path: Path, style: str) -> None:
    def absent() -> Frames:
        raise ConnectionError("nobody answers")
        yield

    def damaged() -> Frames:
        yield pictures(1)[0]
        time.sleep(0.2)
        raise NststabError("it is damaged")

    with pytest.raises(ConnectionError, match="nobody answers"):
        nststab.live(absent, style=[style], settings=QUIET)
    with pytest.raises(NststabError, match="it is damaged"):
        nststab.live(damaged, f"{tmp_path}/frames/", style=[style], settings=QUIET)
    assert len(list((tmp_path / "frames").iterdir())) == 1  # what was painted before stays


@pytest.mark.parametrize("part", ["painter", "virtual camera"])
def test_what_was_recorded_stays_whatever_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, style: str, part: str
) -> None:
    def paint(_self: object, frame: Picture, **_: object) -> Picture:
        return failing(frame) if part == "painter" else frame

    def failing(frame: Picture) -> Picture:
        if frame.max() == 9:
            raise RuntimeError("the device is gone")
        return frame

    def source() -> Frames:
        for number in range(40):
            time.sleep(FAST)
            yield np.full((HEIGHT, WIDTH, 3), min(number, 9), np.uint8)

    device = Device(monkeypatch)
    if part == "virtual camera":
        monkeypatch.setattr(device, "send", failing)
    monkeypatch.setattr(task._Easel, "paint", paint)
    output = tmp_path / "out.mkv"
    with pytest.raises(RuntimeError, match="the device is gone"):
        nststab.live(source, output, style=[style], settings=QUIET.changed(virtual_camera=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]
    assert len(list(open_clip(output).frames())) > 1
    assert device.closed


def test_interrupted_it_ends_well(tmp_path: Path, style: str) -> None:
    done = threading.Event()
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def source() -> Frames:
        yield pictures(1)[0]
        wait((tmp_path / "frames" / "frame_000001.png").exists, "the first frame")
        os.kill(os.getpid(), signal.SIGINT)
        done.wait(60)

    began = time.monotonic()
    try:
        made = nststab.live(source, f"{tmp_path}/frames/", style=[style], settings=QUIET)
    finally:
        done.set()
        signal.signal(signal.SIGINT, handler)
    assert made.frames == 1
    assert time.monotonic() - began < 50  # it did not wait for the source's end


def test_a_pipe_has_a_steady_rate_whatever_is_painted(tmp_path: Path, style: str) -> None:
    def source() -> Frames:
        for picture in pictures(3):
            yield picture
            time.sleep(0.3)

    output = tmp_path / "out.y4m"
    made = nststab.live(source, output, style=[style], settings=QUIET.changed(fps=Fraction(20), duration=Fraction(2)))
    frames = [frame.rgb for frame in open_clip(output).frames()]
    assert made.frames + made.dropped == 3  # 0.9 seconds
    assert 3 < len(frames) <= 22
    assert len({frame.numpy().tobytes() for frame in frames}) == made.sinks[0].frames


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path: Path, style: str) -> None:
    def source() -> Frames:
        yield np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        wait((tmp_path / "frames" / "frame_000001.png").exists, "the first frame")
        yield np.zeros((48, 80, 3), np.uint8)

    nststab.live(source, f"{tmp_path}/frames/", style=[style], settings=QUIET.changed(size=16))
    assert [frame.rgb.shape[2:] for frame in open_clip(tmp_path / "frames").frames()] == [(12, 16)] * 2


@pytest.fixture
def running(style: str) -> Iterator[str]:
    """The address of a page that shows a source which gives a frame and then, until the end, one that stands."""
    address: list[str] = []
    ended = threading.Event()

    def source() -> Frames:
        while not ended.wait(0.05):
            yield pictures(1)[0]

    settings = QUIET.changed(show="page", port=0)
    names = [style, "mosaic"]
    run = threading.Thread(target=lambda: nststab.live(source, style=names, settings=settings, on_page=address.append))
    run.start()
    wait(lambda: address, "a page")
    yield address[0]
    ended.set()
    run.join(20)
    assert not run.is_alive()


def asked(address: str, what: str = "", body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(address + what, data), timeout=10) as answer:
        return json.load(answer)


def test_the_page_shows_and_changes_what_is_painted_to_who_knows_its_address(running: str) -> None:
    host, token = running.rstrip("/").rsplit("/", 1)
    with urlopen(running, timeout=10) as answer:
        assert b"<title>nststab live</title>" in answer.read()
    for wrong in (f"{host}/", f"{host}/{token}x/", f"{host}/stream", f"{running}secret"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(wrong, timeout=10)
    wait(lambda: asked(running, "status")["frames"], "a frame")
    told = asked(running, "status")
    assert (told["style"], told["strength"], told["stroke"], told["adjustable"]) == (0, 1, 0.5, True)
    told = asked(running, "look", {"strength": 0.3, "stroke": 9})
    assert (told["strength"], told["stroke"]) == (0.3, 2)
    asked(running, "look", {"style": 1})
    wait(lambda: not asked(running, "status")["adjustable"], "mosaic, whose strength cannot be changed")
    wrong_bodies: tuple[object, ...] = ({"strength": "much"}, [], {"stroke": float("nan")}, {"strength": 10**400})
    for wrong_body in wrong_bodies:
        with pytest.raises(HTTPError, match="400"):
            asked(running, "look", wrong_body)


def test_the_stream_of_the_page_is_a_stream_to_ffmpeg_and_changes_with_the_strength(running: str) -> None:
    asked(running, "look", {"strength": 0})
    stream = stream_frames(f"{running}stream")
    picture, end = next(stream), time.monotonic() + 20
    expected = pictures(1)[0].astype(int)
    while np.abs(picture - expected).mean() > 4 and time.monotonic() < end:  # it may begin before the change
        picture = next(stream)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(picture - expected).mean() < 4
    asked(running, "look", {"strength": 1})
    while np.abs(picture - expected).mean() < 4:
        assert time.monotonic() < end
        picture = next(stream)
    stream.close()


def test_a_page_that_ends_ends_its_streams_and_tells_of_a_source_that_stalls() -> None:
    with LivePage(0, dict, lambda _: None) as page:
        page.show(pictures(1)[0])
        stream = urlopen(f"{page.address}stream", timeout=10)
        head = stream.readline() + stream.readline() + stream.readline()
        assert b"image/jpeg" in head
        stream.readline()
        length = int(head.rsplit(b" ", 1)[1])
        assert Image.open(BytesIO(stream.read(length))).size == (WIDTH, HEIGHT)
    assert b"--nststab" in stream.read()  # and no more
    with LivePage(0, dict, lambda _: None) as page, pytest.raises(SettingError, match=r"port: .* cannot be used"):
        LivePage(page.server_port, dict, lambda _: None)
    arrivals = task._Arrivals(lambda: (_ for _ in ()))
    assert arrivals.trouble == ""
    arrivals._latest = time.monotonic() - 5
    assert arrivals.trouble == "no frame for 5 s"


class Told:
    """What a page is told, and what it asked for; answers to that take a moment."""

    def __init__(self) -> None:
        self.fails = False
        self.polls = 0
        self.asked: list[Mapping[str, Any]] = []

    def status(self) -> dict[str, Any]:
        self.polls += 1
        if self.fails:
            raise OSError("a failure")
        look = {"style": 0, "strength": 1, "stroke": 1, "styles": ["waves"], "adjustable": True, "trouble": ""}
        return {**look, "frames_per_second": 1, "latency": 1, "dropped": 0}

    def change(self, asked: Mapping[str, Any]) -> None:
        time.sleep(0.3)
        self.asked.append(asked)


@pytest.mark.skipif(bool(browser.MISSING), reason=browser.MISSING or "there is one")
def test_the_controls_of_the_page_stay_where_they_are_moved_and_a_failed_poll_is_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LivePage, "after", lambda *_: (-1, b""))  # the driver waits for the end of the stream
    told = Told()
    with LivePage(0, told.status, told.change) as page, browser.browser() as driver:
        driver.get(page.address)
        wait(lambda: told.polls > 1, "the page")
        kept = driver.execute_async_script(
            """
            const [done] = arguments, slider = document.getElementById("strength");
            for (const value of [0.1, 0.2, 0.3, 0.4]) {  // without the focus, which Safari gives no slider
              slider.value = value;
              slider.dispatchEvent(new Event("input"));
            }
            setTimeout(() => done(slider.value), 800);
            """
        )
        assert kept == "0.4"
        wait(lambda: len(told.asked) > 1, "the last move")
        assert told.asked == [{"strength": 0.1}, {"strength": 0.4}]
        trouble = driver.find_element("id", "trouble")
        told.fails = True
        wait(trouble.is_displayed, "a word of it")
        told.fails = False
        wait(lambda: not trouble.is_displayed(), "it goes on")


def test_a_stream_that_is_not_there_is_a_lost_connection() -> None:
    with pytest.raises(ConnectionError, match="Connection refused"):
        next(stream_frames("http://127.0.0.1:9/stream"))


def test_opencv_gives_the_frames_of_a_camera_as_rgb_until_it_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for _ in range(3):
        writer.write(np.full((HEIGHT, WIDTH, 3), (0, 0, 200), np.uint8))  # OpenCV's red
    writer.release()
    frames = camera_frames(str(path))
    seen = [next(frames) for _ in range(3)]
    assert np.abs(seen[0].astype(int) - (200, 0, 0)).max() < 6
    with pytest.raises(ConnectionError, match="went away"):
        next(frames)
    with pytest.raises(ConnectionError, match="camera 99: there is none"):
        next(camera_frames(99))


def test_keys_of_the_window_change_what_is_painted(monkeypatch: pytest.MonkeyPatch, style: str) -> None:
    shown: list[Picture] = []
    titles: list[str] = []
    keys = iter("+---]")
    for name in ("namedWindow", "resizeWindow", "destroyAllWindows"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _name, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "setWindowTitle", lambda _name, title: titles.append(title))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord(next(keys, "q")) if shown else -1)
    monkeypatch.setattr(task, "window_missing", lambda: None)

    def source() -> Frames:
        while True:
            yield pictures(1)[0]
            time.sleep(FAST)

    made = nststab.live(source, style=[style, style], settings=QUIET.changed(show="auto"))
    assert shown[0].shape == (HEIGHT, WIDTH, 3)
    assert made.frames == len(shown)
    assert "strength 0.70, stroke 0.54" in titles[-1]
    assert "frames/s" in titles[-1]


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed, which stands for a display")
def test_a_clip_is_shown_in_a_window(tmp_path: Path, style: str) -> None:
    """Of a display that is there; where PyAV came before OpenCV the window would hang."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server, open(read) as answer:
        display = f":{answer.readline().strip()}"
        words = ["live", str(saved_clip(tmp_path / "clip.mp4", 10)), "--style", style, "--show", "window"]
        environment = {**os.environ, "DISPLAY": display, "PYTHONPATH": str(ROOT)}
        shown = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), *words], env=environment, capture_output=True, text=True, timeout=120
        )
        server.terminate()
    assert shown.returncode == 0, shown.stderr
    assert "painted in" in shown.stderr


def test_a_window_that_would_hang_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(sys, "platform", "linux")
    assert "av" in sys.modules
    assert window_missing() == "PyAV was imported before OpenCV, whose windows hang then; import cv2 first"


@pytest.mark.parametrize(("keys", "expected"), [("n", 1), ("nn", 0), ("p", 1), ("2", 1), ("27n1", 0)])
def test_keys_choose_the_style(style: str, keys: str, expected: int) -> None:
    easel = task._Easel([style, "mosaic"], "recurrent", QUIET)
    for key in keys:
        easel.press(key)
    assert easel.look.style == expected


def test_styles_of_the_light_network_share_one_painter_and_each_is_painted_as_alone() -> None:
    (frame,) = pictures(1)
    easel = task._Easel([], "recurrent", QUIET)
    assert set(easel.names) == {f"light/{name}" for name in light_styles()}
    for style in (0, 3, 0):
        easel.change({"style": style, "strength": 0.5})
        alone = nststab.Painter(easel.names[style], strength=0.5, engine="torch", device="cpu", precision="float32")
        assert np.abs(easel.paint(frame, anew=False).astype(int) - alone(frame)).max() <= 1
    assert len(easel._painters) == 1


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, style: str) -> None:
    def source() -> Frames:
        yield pictures(1)[0]

    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(NststabError, match=r"pip install 'nststab\[live\]'"):
        nststab.live(source, style=[style], settings=QUIET.changed(virtual_camera=True))
    monkeypatch.setattr(task, "window_missing", lambda: "there is no display")
    with pytest.raises(NststabError, match="no window can be opened: there is no display"):
        nststab.live(source, style=[style], settings=QUIET.changed(show="window"))
    with pytest.raises(SettingError, match="strength and stroke have no effect on mosaic"):
        nststab.live(source, style=["mosaic"], settings=QUIET.changed(strength=0.5))
    with pytest.raises(SettingError, match="no style is named"):
        nststab.live(source, style=["mosaik"], settings=QUIET)
    write_picture(tmp_path / "painting.png", from_uint8(pictures(1)[0]))
    with pytest.raises(SettingError, match=r"painting\.png is a picture; train one with train_style$"):
        nststab.live(source, style=[str(tmp_path / "painting.png")], settings=QUIET)
    (tmp_path / "out.mp4").touch()
    with pytest.raises(SettingError, match=r"out\.mp4 exists; say overwrite=True"):
        nststab.live(source, tmp_path / "out.mp4", style=[style], settings=QUIET)


def test_the_command_says_what_was_done(tmp_path: Path, style: str) -> None:
    clip = saved_clip(tmp_path / "clip.mp4", 3)
    words = ["live", str(clip), "--style", style, "--show", "none", "-o", str(tmp_path / "out.mkv")]
    result = done(CliRunner().invoke(group, words))
    assert "latency, arrival to painted: median" in result.stderr
    assert CliRunner().invoke(group, words).exit_code == 2
    shown = CliRunner().invoke(group, [*words[:4], "--show", "page", "--port", "0", "-q"])
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\S+/  \(Ctrl-C ends it\)\n", shown.stdout)
    assert shown.stderr == ""
    missing = CliRunner().invoke(group, ["live", "clip.mp3", "--style", style])
    assert "does not exist" in missing.stderr


_FFMPEG = """
import av, sys, time
from fractions import Fraction
with av.open(sys.stdout.buffer, "w", format="yuv4mpegpipe") as out, av.open(sys.argv[1]) as clip:
    stream = out.add_stream("wrapped_avframe", rate=25)
    stream.width, stream.height, stream.pix_fmt = clip.streams.video[0].width, clip.streams.video[0].height, "yuv420p"
    for number, frame in enumerate(clip.decode(video=0)):
        frame.pts, frame.time_base = number, Fraction(1, 25)
        out.mux(stream.encode(frame))
        time.sleep(0.04)
"""


def test_it_stands_between_two_pipes_of_ffmpeg(tmp_path: Path, style: str) -> None:
    """FFmpeg's own muxer writes the pipe and its demuxer reads it."""
    clip = saved_clip(tmp_path / "clip.mp4", 25)
    ours = [sys.executable, str(ROOT / "cli.py"), "live", "-", "-o", "-", "--style", style]
    ours += ["--show", "none", "--engine", "torch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        subprocess.Popen([sys.executable, "-c", _FFMPEG, str(clip)], stdout=subprocess.PIPE) as before,
        subprocess.Popen(
            ours, stdin=before.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as live,
    ):
        data, told = live.communicate(timeout=120)
    assert live.returncode == 0, told
    with av.open(BytesIO(data), "r", format="yuv4mpegpipe") as container:
        frames = list(container.decode(video=0))
    assert (frames[0].width, frames[0].height) == (WIDTH, HEIGHT)
    assert 1 <= len(frames) <= 40
    assert b"frames painted in" in told


def test_ctrl_c_ends_it_well_while_a_pipe_is_silent(tmp_path: Path, style: str) -> None:
    ours = [sys.executable, str(ROOT / "cli.py"), "live", "-", "-o", f"{tmp_path}/frames/", "--style", style]
    ours += ["--show", "none", "--engine", "torch", "--raw-size", f"{WIDTH}x{HEIGHT}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's job in the background ignores it
    with subprocess.Popen(
        ours, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, preexec_fn=heard
    ) as live:
        assert live.stdin
        live.stdin.write(pictures(1)[0].tobytes())
        live.stdin.flush()
        wait((tmp_path / "frames" / "frame_000001.png").exists, "a frame", 60)
        live.send_signal(signal.SIGINT)
        try:
            live.wait(60)
        finally:
            live.kill()  # what did not end must not hold the other tests up
        assert live.stderr
        told = live.stderr.read()
    assert live.returncode == 0, told
    assert told.startswith(b"1 frame painted in")
