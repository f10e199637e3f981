"""Frames a second of a network by every engine and in the browser, side by side; docs/live.md has the table.

Each takes the same still, one after the other; the median of the frames.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from selenium.webdriver.common.by import By

sys.path.insert(0, str(Path(__file__).parents[1]))

from nststab.engines import EngineName, make_engine
from nststab.frames import Frame
from nststab.methods.feed_forward import FeedForward
from nststab.styles.shipped import demo_clip
from nststab.styles.source import chosen_style
from nststab.tasks.web import site_server, write_site
from nststab.video.clip import open_clip
from nststab.video.images import write_picture
from tests import browser as tools

ENGINES: Sequence[EngineName] = ("torch", "openvino", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("style")
    parser.add_argument("--method", choices=("recurrent", "independent"), default="recurrent")
    parser.add_argument("--sizes", default="256,384,512", help="sides of square frames")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = chosen_style(given.style).trained(given.method).network
    frame = next(iter(open_clip(demo_clip()).frames())).rgb[..., :360]
    sizes = [int(size) for size in given.sizes.split(",")]
    with TemporaryDirectory() as folder:
        write_site(f"{folder}/site", style=[given.style], method=given.method)
        with site_server(f"{folder}/site", 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for size in sizes:
                picture = torch.nn.functional.interpolate(frame, (size, size), mode="bilinear")
                seconds: dict[str, float] = {name: by_engine(name, network, picture, given.frames) for name in ENGINES}
                write_picture(Path(folder) / "still.png", picture)
                seconds["browser"] = in_browser(server.server_port, Path(folder) / "still.png", size, given.frames)
                print(size, *(f"{name} {1 / took:.1f}" for name, took in seconds.items()), flush=True)
            server.shutdown()


def by_engine(name: EngineName, network: torch.nn.Module, picture: torch.Tensor, frames: int) -> float:
    """Seconds a frame, the conversion and all that `stylize` does to it included."""
    stylized = FeedForward(make_engine(name, network))(Frame(picture, number) for number in range(frames))  # type: ignore[arg-type]
    return median(_timed(lambda: next(stylized)) for _ in range(frames))


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


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
