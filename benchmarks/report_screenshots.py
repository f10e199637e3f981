"""Screenshots of an HTML report.

python benchmarks/report_screenshots.py REPORT.html OUT/ [FRAME]

Needs Debian's chromium and chromium-driver, and the extra `dev`. Writes OUT/report_SIZE_SCHEME.jpg: three sizes, light
and dark, at the FRAME (default: the middle) of the first scene, the dark ones with half of the heat map; and
OUT/report_failures.jpg, where the flow of the last scene that has such places is wrong.
"""

import argparse
import io
import itertools
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from nststab.video.images import from_uint8, write_picture

SIZES = {"desktop": (1440, 900), "tablet": (820, 1180), "phone": (390, 844)}
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
MOVE = """
const set = (input, value) => { input.value = value; input.dispatchEvent(new Event("input", {bubbles: true})); };
const [frames, heat] = [document.querySelector("#scrubber"), document.querySelector("#heat")];
set(frames, arguments[0] ?? Math.floor(frames.max / 2));
set(heat, arguments[1] * heat.max);
"""


def main(report: Path, output: Path, frame: int | None = None) -> None:
    """Writes seven pictures, or six where no scene has a failure of the flow."""
    output.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        driver.get(report.resolve().as_uri())
        for (name, (width, height)), scheme in itertools.product(SIZES.items(), ("light", "dark")):
            show(driver, width, height, scheme)
            driver.refresh()
            driver.execute_script(MOVE, frame, 0.5 if scheme == "dark" else 0)
            time.sleep(2)  # until the frame is decoded
            save(driver.get_screenshot_as_png(), output / f"report_{name}_{scheme}.jpg")
        show(driver, 1440, 900, "light")
        for tab in driver.find_elements("css selector", "[role=tab]"):
            tab.click()
            time.sleep(1)
            driver.execute_script("document.querySelector('#bar').style.visibility = 'hidden'")  # it would cover them
            for stills in driver.find_elements("css selector", ".stills.failures"):
                save(stills.screenshot_as_png, output / "report_failures.jpg")
    finally:
        driver.quit()


def show(driver: Chrome, width: int, height: int, scheme: str) -> None:
    """Shows the page in a window of this size and colour scheme."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def save(screenshot: bytes, path: Path) -> None:
    """Writes a screenshot as a JPEG."""
    write_picture(path, from_uint8(np.array(Image.open(io.BytesIO(screenshot)).convert("RGB"))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("output", type=Path, help="folder of the screenshots")
    parser.add_argument("frame", type=int, nargs="?", help="default: the middle")
    main(**vars(parser.parse_args()))
