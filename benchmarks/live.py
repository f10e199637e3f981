"""Frames a second and latency of `nststab live` by every engine, and of the page in the browser; for docs/live.md.

One after the other, each on the same still: a camera gives it 60 times a second, the page paints it again and again.
"""

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from selenium.webdriver.common.by import By

sys.path.insert(0, str(Path(__file__).parents[1]))

from nststab.engines import EngineName
from nststab.listener import Progress
from nststab.styles.shipped import demo_clip
from nststab.tasks.live import live
from nststab.tasks.settings import LiveSettings
from nststab.tasks.web import site_server, write_site
from nststab.video.clip import open_clip
from nststab.video.images import to_uint8, write_picture
from nststab.video.live import Frames, Picture
from tests import browser as tools

Method = Literal["recurrent", "independent"]
ENGINES: Sequence[EngineName] = ("torch", "openvino", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style")
    parser.add_argument("--method", choices=("recurrent", "independent"), default="recurrent")
    parser.add_argument("--sizes", default="256,384,512", help="sides of square frames")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each engine")
    parser.add_argument("--frames", type=int, default=9, help="of the browser")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    frame = next(iter(open_clip(demo_clip()).frames())).rgb[..., :360]
    sizes = [int(size) for size in given.sizes.split(",")]
    with TemporaryDirectory() as folder:
        write_site(f"{folder}/site", style=[given.style], method=given.method)
        with site_server(f"{folder}/site", 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for size in sizes:
                picture = torch.nn.functional.interpolate(frame, (size, size), mode="bilinear")
                for name in ENGINES:
                    told = by_engine(name, given.style, given.method, to_uint8(picture), given.seconds)
                    print(size, f"{name}: {told}", flush=True)
                write_picture(Path(folder) / "still.png", picture)
                seconds = in_browser(server.server_port, Path(folder) / "still.png", size, given.frames)
                print(size, f"browser: {1 / seconds:.1f} frames/s, {1000 * seconds:.0f} ms a frame", flush=True)
            server.shutdown()


def by_engine(name: EngineName, style: str, method: Method, picture: Picture, seconds: float) -> str:
    """What `live` does with a camera that shows a picture, after the first painted frame, which compiles."""
    done: list[float] = []

    def camera() -> Frames:
        yield picture
        while not done or time.monotonic() < done[0] + seconds:
            time.sleep(1 / 60)
            yield picture

    def progress(at: Progress) -> None:
        if at.done > len(done):
            done.append(time.monotonic())

    settings = LiveSettings(engine=name, show="none", work_size="full")
    made = live(camera, style=[style], method=method, settings=settings, progress=progress)
    speed = (len(done) - 1) / (done[-1] - done[0])
    return f"{speed:.1f} frames/s, latency {made.latency.median:.0f} ms, 95 % within {made.latency.most:.0f} ms"


def in_browser(port: int, picture: Path, size: int, frames: int) -> float:
    """Seconds a frame as the page tells them."""
    with tools.browser() as driver:
        driver.get(f"http://localhost:{port}/")
        tools.wait(lambda: driver.find_element(By.ID, "status").text.startswith("Runs by"), "the network is loaded")
        driver.execute_script(f"document.getElementById('size').append(new Option({size}, {size}, true, true))")
        driver.find_element(By.ID, "file").send_keys(str(picture))
        told = []
        for number in range(1, frames + 1):
            tools.wait(
                partial(driver.execute_script, f"return document.documentElement.dataset.frames >= {number}"), "a frame"
            )
            told.append(float(driver.find_element(By.ID, "time").text) / 1000)
        return median(told[3:])


if __name__ == "__main__":
    main()
