"""`nststab web` in a real browser, with a camera that shows a clip: painted as torch does, steady, and to itself."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from torch import Tensor

from nststab.cli import group
from nststab.color import preserve_flat
from nststab.errors import SettingError
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH, Look, stroke_at
from nststab.networks.transformation import NetworkConfig, TransformationNetwork
from nststab.tasks.web import HEADERS, site_server, write_site
from nststab.video.images import write_picture
from tests import browser as tools
from tests.conftest import moving_picture, psnr

needs_browser = pytest.mark.skipif(bool(tools.MISSING), reason=tools.MISSING or "there is one")
ROWS = (PHOTOGRAPH, "waves@256", "waves@512", "tiles@256")
PAGE_SIZE = 256  # at which the page paints until it is told another
HEIGHT, WIDTH = 48, 64


def saved(path: Path) -> None:
    torch.manual_seed(0)
    network = TransformationNetwork(NetworkConfig(True, (4, 6, 8), 1, 16, "light", ROWS))
    with torch.no_grad():
        network.get_parameter("encoder.0.convolution.weight")[:, 3:] *= 0.1  # trained ones forget, too
        for name, value in network.named_parameters():
            if "normalization" in name:
                value.add_(0.3 * torch.randn(value.shape))
    save_checkpoint(path, Checkpoint(network))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site, the network of its page, a picture, and a camera's clip that stands still for a second and then moves."""
    folder = tmp_path_factory.mktemp("web")
    saved(folder / "net.safetensors")
    write_site(folder / "site", style=[folder / "net.safetensors"])
    write_picture(folder / "still.png", moving_picture(0, HEIGHT, WIDTH))
    frames = [moving_picture(0, HEIGHT, WIDTH)] * 20
    with (folder / "camera.mjpeg").open("wb") as file:
        for frame in frames:
            write_picture(folder / "frame.jpg", frame)
            file.write((folder / "frame.jpg").read_bytes())
    return folder


@contextmanager
def opened_page(folder: Path, *flags: str) -> Iterator[Chrome]:
    """The page, served, in a browser with a camera that `flags` name."""
    with site_server(folder / "site", 0) as server, tools.browser("--use-fake-ui-for-media-stream", *flags) as chrome:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chrome.get(f"http://localhost:{server.server_port}/")
        tools.wait(lambda: status(chrome).startswith("Runs by WebAssembly"), "the network is loaded")
        yield chrome
        server.shutdown()


@pytest.fixture(scope="module")
def driver(folder: Path) -> Iterator[Chrome]:
    """The page in a browser whose camera shows the clip."""
    camera = f"--use-file-for-fake-video-capture={folder / 'camera.mjpeg'}"
    with opened_page(folder, "--use-fake-device-for-media-stream", camera) as chrome:
        yield chrome


def status(driver: Chrome) -> str:
    return driver.find_element(By.ID, "status").text


def painted(driver: Chrome) -> int:
    return int(driver.execute_script("return document.documentElement.dataset.frames ?? 0"))


def shown(driver: Chrome, wipe: float = 0) -> tuple[int, Tensor]:
    """How many frames were painted, and what is shown, (1, 3, H, W); with a wipe of 1 the input."""
    frames, width, height, values = driver.execute_script(
        """
        const wipe = document.getElementById("wipe"), view = document.getElementById("view");
        wipe.value = arguments[0];
        wipe.dispatchEvent(new Event("input"));
        const copy = new OffscreenCanvas(view.width, view.height).getContext("2d", {willReadFrequently: true});
        copy.drawImage(view, 0, 0);
        wipe.value = 0;
        const frames = Number(document.documentElement.dataset.frames);
        return [frames, view.width, view.height, [...copy.getImageData(0, 0, view.width, view.height).data]];
        """,
        wipe,
    )
    rgba = torch.tensor(values).view(1, height, width, 4).permute(0, 3, 1, 2)
    return frames, rgba[:, :3] / 255


def set_control(driver: Chrome, name: str, value: float | str) -> None:
    driver.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'));",
        name,
        value,
    )


def pause(driver: Chrome) -> None:
    driver.find_element(By.ID, "pause").click()


def opened_anew(driver: Chrome) -> None:
    driver.refresh()
    tools.wait(lambda: status(driver).startswith("Runs by"), "the network is loaded")


def drawn(folder: Path, frame: Tensor, times: int, styles: dict[str, float]) -> Tensor:
    """What torch makes of a still after so many frames."""
    network = load_checkpoint(folder / "net.safetensors").network.eval()
    weights, before = Look(styles, None, PAGE_SIZE).weights(ROWS)[None], None
    with torch.no_grad():
        for _ in range(times):
            before = network(frame, before, weights)
    assert before is not None
    return preserve_flat(before, frame)


@needs_browser
def test_a_picture_is_painted_as_torch_does_and_the_controls_work(driver: Chrome, folder: Path) -> None:
    driver.find_element(By.ID, "file").send_keys(str(folder / "still.png"))
    tools.wait(lambda: painted(driver) >= 5, "a picture is painted")
    pause(driver)
    frames, made = shown(driver)
    _, given = shown(driver, 1)
    assert psnr(given[..., :-2], moving_picture(0, HEIGHT, WIDTH)[..., :-2]) > 45  # the wipe's line is at the right
    assert psnr(made, drawn(folder, moving_picture(0, HEIGHT, WIDTH), frames, {"waves": 1})) > 35
    set_control(driver, "other", "tiles")
    set_control(driver, "mix", 0.5)
    pause(driver)
    tools.wait(lambda: painted(driver) >= frames + 8, "it goes on with two styles")
    mixed = drawn(folder, moving_picture(0, HEIGHT, WIDTH), 20, {"waves": 0.5, "tiles": 0.5})
    assert psnr(shown(driver)[1], mixed) > 35
    set_control(driver, "strength", 0)
    after = painted(driver)
    tools.wait(lambda: painted(driver) >= after + 3, "it goes on without strength")
    assert psnr(shown(driver)[1], moving_picture(0, HEIGHT, WIDTH)) > 45
    set_control(driver, "strength", 0.5)
    after = painted(driver)
    tools.wait(lambda: painted(driver) >= after + 3, "it goes on with half of it")
    assert 10 < psnr(shown(driver)[1], moving_picture(0, HEIGHT, WIDTH)) < 45
    set_control(driver, "strength", 1)
    set_control(driver, "mix", 0)
    driver.find_element(By.ID, "stop").click()


@needs_browser
def test_by_webgpu_a_picture_is_painted_as_torch_does(folder: Path) -> None:
    """By a processor, slowly. Six channels, of a frame and the one before, are where a wrong convolution shows."""
    with site_server(folder / "site", 0) as server, tools.browser(gpu=tools.SOFTWARE_GPU) as chrome:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        chrome.get(f"http://localhost:{server.server_port}/")
        if not chrome.execute_async_script(
            "navigator.gpu?.requestAdapter().then(arguments[0], () => arguments[0](null)) ?? arguments[0](null)"
        ):
            pytest.skip("this browser has no WebGPU by software")
        tools.wait(lambda: status(chrome) == "Runs by WebGPU.", "the network is loaded", 120)
        chrome.find_element(By.ID, "file").send_keys(str(folder / "still.png"))
        tools.wait(lambda: painted(chrome) >= 1, "a picture is painted", 240)
        pause(chrome)
        frames, made = shown(chrome)
        server.shutdown()
    assert psnr(made, drawn(folder, moving_picture(0, HEIGHT, WIDTH), frames, {"waves": 1})) > 35


@needs_browser
def test_the_camera_is_steady_and_the_page_keeps_to_itself(driver: Chrome, folder: Path) -> None:
    driver.find_element(By.ID, "camera").click()
    tools.wait(lambda: painted(driver) >= 30, "the camera is painted", 180)
    tools.wait(lambda: float(driver.find_element(By.ID, "flicker").text) < 0.5, "a still is steady")  # 2 s of it
    pause(driver)
    frames, made = shown(driver)
    _, given = shown(driver, 1)
    given[..., -2:] = given[..., -3:-2]  # the wipe's line
    assert psnr(made[..., :-8], drawn(folder, given, frames, {"waves": 1})[..., :-8]) > 35
    pause(driver)
    heap = "return performance.memory.usedJSHeapSize"
    before = driver.execute_script(heap)
    tools.wait(
        lambda: painted(driver) >= frames + 40, f"forty frames more: {driver.find_element(By.ID, 'controls').text}"
    )
    assert driver.execute_script(heap) < before + 20e6
    driver.find_element(By.ID, "record").click()
    after = painted(driver)
    tools.wait(lambda: painted(driver) >= after + 2, "it records", 180)
    driver.find_element(By.ID, "record").click()
    tools.wait(lambda: driver.find_element(By.ID, "record").text == "Record", "the recording is saved")
    assert driver.execute_script("return crossOriginIsolated")
    assert [text for text in tools.said(driver) if not text.endswith("No available adapters.")] == []  # of a GPU
    origin = driver.current_url
    assert [url for url in tools.requested(driver) if not url.startswith((origin, f"blob:{origin}"))] == []


@needs_browser
def test_a_worker_of_the_page_may_ask_nobody_else(driver: Chrome, folder: Path) -> None:
    (folder / "site/probe.js").write_text(
        "addEventListener('securitypolicyviolation', event => postMessage(event.effectiveDirective));"
        "fetch('http://127.0.0.1:1/').catch(() => setTimeout(() => postMessage('it was asked'), 2000));"
    )
    refused = driver.execute_async_script(
        "new Worker('probe.js').onmessage = event => arguments[0](event.data);"  # as what runs the network
    )
    assert refused == "connect-src"
    tools.said(driver)


@needs_browser
def test_the_page_weighs_rows_as_the_library_does(driver: Chrome) -> None:
    for styles, stroke in (({"waves": 1.0}, 1.0), ({"waves": 0.25, "tiles": 0.75}, 0.7), ({"waves": 1.0}, 2.0)):
        made = driver.execute_async_script(
            "import('./look.js').then(look => arguments[3]([...look.weights(...[...arguments].slice(0, 3))]))",
            list(ROWS),
            styles,
            stroke,
        )
        np.testing.assert_allclose(made, Look(styles, stroke).weights(ROWS), atol=1e-6)
    script = (
        "import('./look.js').then(look => "
        "arguments[2](arguments[1].map(side => look.strokeAt(side, arguments[0], 'waves'))))"
    )
    sides = [100, 300, 512, 1000]
    made = driver.execute_async_script(script, list(ROWS), sides)
    np.testing.assert_allclose(made, [stroke_at(side, ROWS, "waves") for side in sides])


@needs_browser
def test_a_network_that_failed_is_loaded_again_by_the_next_choice(driver: Chrome, folder: Path) -> None:
    opened_anew(driver)
    driver.find_element(By.ID, "file").send_keys(str(folder / "still.png"))
    tools.wait(lambda: painted(driver) >= 1, "a picture is painted")
    rename = "document.getElementById('style').selectedOptions[0].textContent = arguments[0]"
    for control, value in (("style", "0"), ("size", "192")):
        driver.execute_script(rename, "a style that the network has not")
        tools.wait(lambda: driver.find_elements(By.CSS_SELECTOR, "#status.error"), "a word of it")
        before = painted(driver)
        driver.execute_script(rename, "waves")
        set_control(driver, control, value)
        tools.wait(lambda: painted(driver) > before, "it goes on", 20)  # noqa: B023
    driver.find_element(By.ID, "stop").click()


@needs_browser
def test_the_other_camera_is_opened_when_the_first_one_is_closed(folder: Path) -> None:
    watched = """
        const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices), tracks = [];
        window.live = () => tracks.filter(track => track.readyState === "live").length;
        window.opened = [];
        devices.getUserMedia = async wanted => {
          const before = live(), stream = await open(wanted);
          tracks.push(...stream.getTracks());
          opened.push([before, tracks.at(-1).getSettings().deviceId]);
          return stream;
        };
        """
    with opened_page(folder, "--use-fake-device-for-media-stream=device-count=2") as chrome:
        chrome.execute_script(watched)
        turn = chrome.find_element(By.ID, "turn")
        chrome.find_element(By.ID, "camera").click()
        for count in (2, 3):
            tools.wait(turn.is_displayed, "another camera")
            turn.click()
            tools.wait(lambda: len(chrome.execute_script("return opened")) == count, "it is opened")  # noqa: B023
        (_, first), (_, second), (_, third) = opened = chrome.execute_script("return opened")
        assert [before for before, _ in opened] == [0, 0, 0]
        assert first == third != second
        tools.wait(turn.is_displayed, "another camera")
        chrome.execute_script("HTMLMediaElement.prototype.play = async () => { throw new Error('no picture'); }")
        turn.click()
        tools.wait(lambda: status(chrome) == "The camera cannot be used: no picture", "a word of it")
        assert chrome.execute_script("return live()") == 0


@needs_browser
def test_a_phone_that_is_turned_turns_the_picture(driver: Chrome) -> None:
    opened_anew(driver)
    driver.execute_script(
        """
        window.camera = Object.assign(document.createElement("canvas"), {width: 64, height: 48});
        setInterval(() => camera.getContext("2d").fillRect(0, 0, 1, 1), 50);
        navigator.mediaDevices.getUserMedia = async () => camera.captureStream(20);
        """
    )
    driver.find_element(By.ID, "camera").click()
    tools.wait(lambda: painted(driver) >= 2, "the camera is painted")
    driver.execute_script("Object.assign(camera, {width: 48, height: 64})")
    size = "const view = document.getElementById('view'); return [view.width, view.height]"
    tools.wait(lambda: driver.execute_script(size) == [48, 64], "an upright picture")


def test_the_server_sends_what_threads_need_to_this_machine_alone(folder: Path) -> None:
    with site_server(folder / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"
        with urlopen(f"http://127.0.0.1:{server.server_port}/runtime/ort.webgpu.min.mjs") as answer:
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert answer.headers["Content-Type"] == "text/javascript"
        with pytest.raises(SettingError, match=f"port: {server.server_port} cannot be used"):
            site_server(folder / "site", server.server_port)
        server.shutdown()
    site: Any = json.loads((folder / "site/models.json").read_text())
    assert site == [{"file": "models/0.onnx", "rows": list(ROWS), "recurrent": True}]
    assert (folder / "site/runtime/ort-wasm-simd-threaded.asyncify.wasm").read_bytes()[:4] == b"\0asm"
    assert "MIT License" in (folder / "site/runtime/LICENSE").read_text()


def test_a_site_that_is_overwritten_keeps_no_network_of_the_one_before(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    for count in (2, 1):
        write_site(site, style=[folder / "net.safetensors"] * count, overwrite=True)
        assert len(json.loads((site / "models.json").read_text())) == count
        assert sorted(path.name for path in (site / "models").iterdir()) == [f"{one}.onnx" for one in range(count)]
    (site / "models/own.onnx").touch()
    write_site(site, style=[folder / "net.safetensors"], overwrite=True)
    assert (site / "models/own.onnx").exists()


@pytest.mark.parametrize("models", [None, "{", "[1]", '[{"name": "yolo"}]'])
def test_a_folder_of_something_else_is_not_written_to(folder: Path, tmp_path: Path, models: str | None) -> None:
    (tmp_path / "index.html").write_text("mine")
    if models is not None:
        (tmp_path / "models.json").write_text(models)
    with pytest.raises(SettingError, match="is no page of nststab web"):
        write_site(tmp_path, style=[folder / "net.safetensors"], overwrite=True)
    assert (tmp_path / "index.html").read_text() == "mine"


def test_what_cannot_be_is_told(folder: Path) -> None:
    for arguments, message in (
        (["web"], "say --serve to see the page, or -o FOLDER"),
        (["web", "-o", str(folder / "site")], "exists; say -y to overwrite it"),
        (["web", "-o", str(folder / "new"), "mosaik"], "no style is named 'mosaik'; did you mean mosaic"),
    ):
        result = CliRunner().invoke(group, arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    assert not (folder / "new").exists()
