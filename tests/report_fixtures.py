"""A report's page in a browser: fixtures of the tests of the page, which name this module in `pytest_plugins`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from nststab.report.html import report_html
from tests import browser as tools
from tests.report_reader import Open, settled
from tests.report_samples import DATA, TIMES, UNEVEN, Json, video


@pytest.fixture(scope="module")
def videos() -> list[bytes]:
    return [video(3, TIMES, 0.96), video(2, UNEVEN, 2.4, first=40)]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with tools.browser() as started:
        yield started


@pytest.fixture
def show(driver: Chrome, tmp_path: Path, videos: list[bytes]) -> Iterator[Open]:
    """Opens the page of a report, and afterwards holds it to a silent console and no request but for the file."""
    tools.resize(driver, 1280, 800)
    tools.color_scheme(driver, "light")
    tools.said(driver)
    tools.requested(driver)

    def load(data: Json = DATA, given: list[bytes] | None = None, frame: int | None = 0) -> None:
        page = tmp_path / "report.html"
        page.write_text(report_html(data, videos if given is None else given), "utf-8")
        driver.get(page.as_uri())
        if frame is not None:
            settled(driver, frame)

    yield load
    addresses = tools.requested(driver)
    assert any(address.startswith("file:") for address in addresses)  # they are seen at all
    assert [address for address in addresses if not re.match("(file|data|blob):", address)] == []
    assert tools.said(driver) == []
