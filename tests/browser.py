"""A real browser for the tests of HTML reports, and clips whose frames tell their own number."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from torch import Tensor

BITS = 6  # of a frame's number
BROWSER, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
MISSING = "" if BROWSER and DRIVER else "needs chromium and chromedriver"
_FLAGS = (
    "--headless=new --no-sandbox --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)


_NO_GPU = ("--disable-gpu",)
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")


@contextmanager
def browser(*flags: str, gpu: Sequence[str] = _NO_GPU) -> Iterator[Chrome]:
    """A headless Chromium that keeps what the console and the network say; `flags` are of its own.

    gpu: flags that say whether it has one; SOFTWARE_GPU is SwiftShader, by which WebGPU runs anywhere, slowly.
    """
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for flag in (*_FLAGS.split(), *gpu, *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options, Service(DRIVER))
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


def wait(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first true value of `condition`; AssertionError after so many seconds without one."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def resize(driver: Chrome, width: int, height: int, phone: bool = False) -> None:
    """The size of the page in its own pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def color_scheme(driver: Chrome, scheme: str) -> None:
    """Prefer "light" or "dark"."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def said(driver: Chrome) -> list[str]:
    """What the console has said since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]  # type: ignore[no-untyped-call]


def requested(driver: Chrome) -> list[str]:
    """The addresses of all requests since the last call."""
    entries = driver.get_log("performance")  # type: ignore[no-untyped-call]
    messages = (json.loads(entry["message"])["message"] for entry in entries)
    return [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]


def shown_frame(driver: Chrome) -> int | None:
    """The frame that the report says it shows."""
    frame = driver.execute_script("return document.documentElement.dataset.frame")
    return int(frame) if frame else None


def canvas_pixels(driver: Chrome, places: Sequence[tuple[float, float]]) -> list[list[list[int]]]:
    """R, G, B of all canvases on show at places, which are shares of the width and the height."""
    pixels: list[list[list[int]]] = driver.execute_script(
        """
        return [...document.querySelectorAll("canvas")].filter(canvas => canvas.offsetWidth > 0).map(canvas => {
          // a copy: Chromium warns in the console of reading back from what is drawn fast
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
          copy.drawImage(canvas, 0, 0);
          return arguments[0].map(([x, y]) =>
            [...copy.getImageData(Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data].slice(0, 3));
        });
        """,
        list(places),
    )
    return pixels


def canvas_counters(driver: Chrome) -> list[int]:
    """The numbers burnt into the pixels of all canvases on show, see `counter_frame`."""
    places = [((bit + 0.5) / BITS, 0.75) for bit in range(BITS)]
    return [
        sum((red > 127) << bit for bit, (red, _, _) in enumerate(colors)) for colors in canvas_pixels(driver, places)
    ]


def canvas_colors(driver: Chrome) -> list[list[int]]:
    """R, G, B of the upper half of all canvases on show, which a clip has to itself."""
    return [color for (color,) in canvas_pixels(driver, [(0.5, 0.25)])]


def counter_frame(number: int, color: Sequence[int], height: int, width: int) -> Tensor:
    """A frame (1, 3, H, W): one colour above, the number in black and white blocks, lowest bit first, below."""
    frame = (torch.tensor(color) / 255).view(1, 3, 1, 1).repeat(1, 1, height, width)
    for bit, columns in enumerate(torch.arange(width).tensor_split(BITS)):
        frame[..., height // 2 :, columns] = float(number >> bit & 1)
    return frame
