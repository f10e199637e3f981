"""The page of a report in a real browser: any text, any window, no request."""

import copy
import itertools

import pytest
from selenium.webdriver import Chrome, Keys

from tests import browser as tools
from tests.report_reader import BROWSER, Open, find, on_show, playheads, press, settled
from tests.report_samples import DATA, HEIGHT, NAMES, PIXEL, TIMES, WIDTH, Json, report, scene, video

pytest_plugins = ("tests.report_fixtures",)
pytestmark = BROWSER
HOSTILE = '</script><img src="https://example.org/x.png" onerror="document.title=\'broken\'"><!--<script>"&amp;'


def hostile(value: Json) -> Json:
    """Every text that a stranger may have written, replaced."""
    if isinstance(value, dict):
        kept = ("key", "better", "image", "video", "kind", "previous", "current", "flow", "mask", "pictures")
        return {key: own if key in kept else hostile(own) for key, own in value.items()}
    if isinstance(value, list):
        return [hostile(own) for own in value]
    return HOSTILE if isinstance(value, str) else value


def test_the_end_tells_how_it_was_made_and_what_is_missing(driver: Chrome, show: Open) -> None:
    styles = [{"name": "first", "image": None, "text": ""}, {"name": "second", "image": PIXEL, "text": ""}]
    scenes = [DATA["scenes"][0], DATA["scenes"][1] | {"style": 1}]
    show(DATA | {"styles": styles, "scenes": scenes})
    text = find(driver, "#footer").text.splitlines()
    told = dict(itertools.pairwise(text))
    assert told["Left out of this file"] == "48 of 50 scenes"
    assert told["Made by"] == "nststab compare a.mp4"
    assert (told["methods"], told["cuts"], told["limit"], told["flow"]) == ("b, c", "yes", "–", "method dis")
    assert told["nststab"] == "0.1.0"
    assert find(driver, ".table").text.splitlines() == ["means", "PSNR dB", "input 30.1", "a note"]
    assert [figure.text for figure in on_show(driver, "#styles figure")] == ["first", "second"]
    find(driver, "#tab-1").click()
    settled(driver, 0)
    assert find(driver, ".note").text == "in the style of second; the first 2 s of 4 s"


def fits(driver: Chrome) -> bool:
    """Whether nothing is wider than the window; after a resize that takes the page a moment."""
    return bool(driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"))


def test_hostile_texts_are_shown_as_text(driver: Chrome, show: Open) -> None:
    data = hostile(DATA)
    data["settings"] = {HOSTILE: HOSTILE}
    show(data)
    assert driver.title == HOSTILE
    assert driver.execute_script("return document.querySelectorAll('img[src^=https], img[onerror]').length") == 0
    for css in ("h1", ".verdict", ".findings", "#styles", "[role=tab]", ".chip", ".panel", ".table", "#footer"):
        assert HOSTILE in (find(driver, css).get_attribute("textContent") or ""), css
    for width in (1280, 320):
        tools.resize(driver, width, 700)
        tools.wait(lambda: fits(driver), f"the page fits into {width} pixels")


def test_the_policy_stops_what_would_leave_the_file(driver: Chrome, show: Open) -> None:
    show()
    blocked = driver.execute_async_script(
        """
        const done = arguments[0], blocked = [];
        document.addEventListener("securitypolicyviolation", event => blocked.push(event.effectiveDirective));
        document.body.insertAdjacentHTML("beforeend", `<img src="https://example.org/x.png" onerror="window.ran = 1">`);
        const script = document.createElement("script");
        script.textContent = "window.ran = 1";
        document.body.append(script);
        fetch("https://example.org/").catch(() => setTimeout(() => done([...blocked.sort(), String(window.ran)]), 100));
        """
    )
    assert blocked == ["connect-src", "img-src", "script-src-attr", "script-src-elem", "undefined"]
    tools.said(driver)  # which says so
    tools.requested(driver)  # the picture's, which was stopped
    driver.refresh()


def overlapping(driver: Chrome, css: str) -> list[list[str]]:
    """Pairs of shown elements that cover a part of each other."""
    pairs: list[list[str]] = driver.execute_script(
        """
        const apart = (a, b) => a.right <= b.left + 0.5 || a.bottom <= b.top + 0.5;
        const shown = [...document.querySelectorAll(arguments[0])].filter(element => element.offsetWidth > 0);
        return shown.flatMap((one, i) => shown.slice(i + 1).filter(other => {
          const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
          return !apart(a, b) && !apart(b, a);
        }).map(other => [one.outerHTML, other.outerHTML]));
        """,
        css,
    )
    return pairs


@pytest.mark.parametrize("count", range(2, 8))
def test_fits_a_phone_and_a_desk(driver: Chrome, show: Open, count: int) -> None:
    names = ["input", *(f"a_long_name_of_a_method_that_goes_on_{i}" for i in range(1, count))]
    show(report([scene(names, 0, TIMES[:4], 0.16)]), [video(count, TIMES[:4], 0.16)])
    tops: dict[int, set[float]] = {}
    for width, height in ((300, 640), (390, 844), (844, 390), (820, 1180), (1440, 900)):
        tools.resize(driver, width, height, phone=min(width, height) < 500)
        driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        tools.wait(lambda: fits(driver), f"the page fits into {width} pixels")
        bar = find(driver, "#bar").rect
        assert bar["height"] < height / 4
        assert overlapping(driver, "#bar button, #bar input, #position, #speed, .legend") == []
        rects = driver.execute_script(
            "return [...document.querySelectorAll('canvas')].map(canvas => canvas.getBoundingClientRect().toJSON())"
        )
        assert all(rect["width"] / rect["height"] == pytest.approx(WIDTH / HEIGHT, rel=0.03) for rect in rects)
        tops[width] = {rect["x"] for rect in rects}
        if width == 1440:  # all in sight at once
            lowest = max(rect["y"] + rect["height"] for rect in rects)
            assert lowest - min(rect["y"] for rect in rects) < height - bar["height"]
    assert len(tops[390]) == (1 if count == 2 else 2)
    assert tools.canvas_counters(driver) == [0] * count


def test_a_video_that_does_not_play_is_told_of_and_the_rest_works(driver: Chrome, show: Open) -> None:
    show(report([scene(NAMES, 0, TIMES, 0.96)]), [b"no video"])
    assert "could not play" in find(driver, "#scene .alert").text
    press(driver, Keys.END)
    settled(driver, 23)
    assert len(set(playheads(driver))) == 1
    assert on_show(driver, ".panel dd")[0].text == "0.670"
    find(driver, "#play").click()
    press(driver, "2", " ", Keys.ESCAPE)
    assert len(on_show(driver, ".panel")) == 3


def test_every_list_may_be_empty(driver: Chrome, show: Open, videos: list[bytes]) -> None:
    empty = {key: type(value)() if isinstance(value, list | dict) else value for key, value in DATA.items()}
    show(empty, [], frame=None)
    assert find(driver, "h1").text == "a title"
    assert not find(driver, "#bar").is_displayed()
    press(driver, " ", "1", Keys.ARROW_RIGHT)
    bare = copy.deepcopy(DATA["scenes"][0]) | {"crops": [], "occlusions": [], "failures": [], "style": None, "note": ""}
    show(empty | {"scenes": [bare]}, videos[:1])
    assert tools.canvas_counters(driver) == [0, 0, 0]
    assert on_show(driver, ".stills, [role=tab], .chart") == []


def test_one_frame_is_enough(driver: Chrome, show: Open) -> None:
    show(
        report([scene(NAMES, 0, [0.0], 0.04) | {"shots": [0], "crops": [], "occlusions": [], "failures": []}]),
        [video(3, [0.0], 0.04)],
    )
    press(driver, Keys.ARROW_RIGHT, Keys.END)
    assert tools.canvas_counters(driver) == [0, 0, 0]


def test_controls_have_names_and_ids_are_unique(driver: Chrome, show: Open) -> None:
    show()
    nameless = driver.execute_script(
        """return [...document.querySelectorAll("button, input, select, canvas, img, [role=region]")].filter(element =>
        !(element.getAttribute("aria-label") || element.textContent.trim() || element.alt || element.labels?.length))
        .map(element => element.outerHTML)"""
    )
    assert nameless == []
    ids = driver.execute_script("return [...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))


def test_without_scripts_the_page_says_what_is_missing(driver: Chrome, show: Open) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(frame=None)
        assert "the browser does not run it" in find(driver, "body").text
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
