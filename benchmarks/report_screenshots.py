"""Screenshots of an HTML report: python benchmarks/report_screenshots.py REPORT.html OUT/ [FRAME].

Needs Debian's chromium and chromium-driver, and the extra `dev`. Writes OUT/report_SIZE_SCHEME.jpg: three sizes, light
and dark, at the FRAME (default: the middle) of the first scene, the dark ones with half of the heat map.
"""

import io
import itertools
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from nststab.images import from_uint8, write_picture

SIZES = {"desktop": (1440, 900), "tablet": (820, 1180), "phone": (390, 844)}
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
MOVE = """
const set = (input, value) => { input.value = value; input.dispatchEvent(new Event("input", {bubbles: true})); };
const [frames, heat] = [document.querySelector("#scrubber"), document.querySelector("#heat")];
set(frames, arguments[0] ?? Math.floor(frames.max / 2));
set(heat, arguments[1] * heat.max);
"""


def main(report: Path, output: Path, frame: int | None = None) -> None:
    """Writes six pictures."""
    output.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in FLAGS:
        options.add_argument(flag)
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        for (name, (width, height)), scheme in itertools.product(SIZES.items(), ("light", "dark")):
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "phone"}
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            driver.get(report.resolve().as_uri())
            driver.execute_script(MOVE, frame, 0.5 if scheme == "dark" else 0)
            time.sleep(2)  # until the frame is decoded
            shot = np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB"))
            write_picture(output / f"report_{name}_{scheme}.jpg", from_uint8(shot.copy()))
    finally:
        driver.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
