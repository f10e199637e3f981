"""What a reader of a report does in a browser, for the tests of the page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests import browser as tools

Open = Callable[..., None]
BROWSER = pytest.mark.skipif(bool(tools.MISSING), reason=tools.MISSING)


@contextmanager
def before_scripts(driver: Chrome, script: str) -> Iterator[None]:
    """Pages that are opened here run this script before their own."""
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def settled(driver: Chrome, frame: int) -> None:
    tools.wait(lambda: tools.shown_frame(driver) == frame, f"frame {frame}")


def find(driver: Chrome, css: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, css)


def on_show(driver: Chrome, css: str) -> list[WebElement]:
    return [element for element in driver.find_elements(By.CSS_SELECTOR, css) if element.is_displayed()]


def press(driver: Chrome, *keys: str, shift: bool = False) -> None:
    if shift:
        ActionChains(driver).key_down(Keys.SHIFT).send_keys(*keys).key_up(Keys.SHIFT).perform()
    else:
        ActionChains(driver).send_keys(*keys).perform()


def slide(driver: Chrome, css: str, value: int) -> None:
    driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
        find(driver, css),
        value,
    )


def paused(driver: Chrome) -> bool:
    return bool(driver.execute_script("return document.querySelector('video').paused"))


def playheads(driver: Chrome) -> list[float]:
    lines = driver.find_elements(By.CSS_SELECTOR, ".playhead")
    return [float(line.get_attribute("x1") or "nan") for line in lines]


def close_to(color: list[int], wanted: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(color, wanted, strict=True)) < 30
