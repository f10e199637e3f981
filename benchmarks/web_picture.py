"""Shows the page of `nststab web` at work, headless: python benchmarks/web_picture.py docs/pictures/web.gif

The bundled clip is opened in the page and moved on frame by frame, as the machine may be slow; meanwhile controls move.
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

sys.path.insert(0, str(Path(__file__).parents[1]))

from nststab.styles.shipped import demo_clip
from nststab.tasks.web import site_server, write_site
from nststab.video.images import read_picture
from nststab.video.timing import PictureTimes
from nststab.video.writer import VideoWriter
from tests import browser as tools

STYLES = "light/starry_night,light/candy,light/the_scream"  # of one network, so that they can be mixed
RATE = Fraction(8)
FRAMES = 36
_CATCH_THE_VIDEO = """
const make = document.createElement.bind(document);
document.createElement = (...all) => {
  const made = make(...all);
  if (all[0] === "video") window.film = made;
  return made;
};
"""


def moved(at: int) -> dict[str, float | str]:
    """The controls that move at a frame: a wipe, a mix, then another style at growing strength."""
    if at < 10:
        return {"style": "starry_night", "wipe": 1 - at / 9}
    if at < 20:
        return {"other": "candy", "mix": (at - 9) / 10}
    return {"style": "the_scream", "mix": 0, "strength": min(1, (at - 19) / 12)}


def pictures(driver: Chrome, folder: Path) -> Iterator[torch.Tensor]:
    """A screenshot of each frame, (1, 3, H, W)."""
    driver.find_element(By.ID, "file").send_keys(str(demo_clip()))
    tools.wait(lambda: driver.execute_script("return window.film?.readyState >= 2"), "the clip is open", 120)
    driver.execute_script("film.pause()")
    for at in range(FRAMES):
        for name, value in moved(at).items():
            driver.execute_script(
                "const one = document.getElementById(arguments[0]);"
                "if (!one.options) one.value = arguments[1];"
                "else one.selectedIndex = [...one.options].findIndex(option => option.text === arguments[1]);"
                "one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'));",
                *(name, value),
            )
        before = driver.execute_script("return Number(document.documentElement.dataset.frames)")
        driver.execute_script("film.currentTime = arguments[0]", (at + 0.5) / 25)
        tools.wait(
            partial(driver.execute_script, f"return document.documentElement.dataset.frames > {before}"), "a frame", 120
        )
        driver.save_screenshot(str(folder / "page.png"))
        yield read_picture(folder / "page.png").rgb


def main() -> None:
    """Writes the site, drives the page, writes the GIF."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    with TemporaryDirectory() as folder:
        write_site(f"{folder}/site", style=[STYLES])
        with site_server(f"{folder}/site", 0) as server, tools.browser() as driver:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _CATCH_THE_VIDEO})
            tools.resize(driver, 860, 470)
            driver.get(f"http://localhost:{server.server_port}/")
            tools.wait(lambda: driver.find_element(By.ID, "status").text.startswith("Runs by"), "it is loaded", 120)
            with VideoWriter(output, output, PictureTimes(output, RATE), False) as writer:
                for picture in pictures(driver, Path(folder)):
                    writer.write(picture, None, None)
            server.shutdown()


if __name__ == "__main__":
    main()
