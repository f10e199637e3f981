"""The report's page in a real browser: clips in step, parts that lead to each other, no request."""

import base64
import copy
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from nststab.images import encode_picture
from nststab.media.embedded import encode_clip
from nststab.report.atlas import Atlas
from nststab.report.page import report_html
from tests import browser as tools

pytestmark = pytest.mark.skipif(bool(tools.MISSING), reason=tools.MISSING)

HOSTILE = '</script><img src="https://example.org/x.png" onerror="document.title=\'broken\'"><!--<script>"&amp;'
HEIGHT, WIDTH = 64, 96
COLORS = ((200, 40, 40), (40, 160, 60), (50, 60, 200), (200, 180, 40), (180, 60, 180), (60, 180, 180), (120, 120, 120))
HEAT = (252, 255, 164)
TIMES = [i / 25 for i in range(24)]
UNEVEN = [0.0, 0.02, 0.2, 0.21, 0.5, 0.9, 0.94, 1.0, 1.3, 1.31, 1.35, 2.0]
PIXEL = "data:image/png;base64," + base64.b64encode(encode_picture(".png", torch.full((1, 3, 50, 50), 0.5))).decode()
WITHOUT_CALLBACK = "delete HTMLVideoElement.prototype.requestVideoFrameCallback"
MEASURES = [
    {"key": "ssim", "name": "SSIM of corresponding patches", "unit": "", "better": "higher"},
    {"key": "warp", "name": "warping error", "unit": "", "better": "lower"},
    {"key": "change", "name": "change from the frame before", "unit": "levels of 255", "better": "lower"},
]
Json = Any
Open = Callable[..., None]


def curves(clip: int, frames: int, shots: list[int]) -> dict[str, list[float | None]]:
    known = [frame not in shots for frame in range(frames)]
    return {
        "ssim": [0.9 - 0.1 * clip - 0.01 * t if ok else None for t, ok in enumerate(known)],
        "warp": [0.001 * (clip + 1) + 0.0001 * t if ok else None for t, ok in enumerate(known)],
        "change": [2.0 * clip + 0.5 * t if ok else None for t, ok in enumerate(known)],
    }


def scene(names: list[str], number: int, times: list[float], end: float, heat: bool = True) -> Json:
    shots = [0, len(times) // 2]
    atlas = Atlas(len(names), WIDTH, HEIGHT)
    clips = [
        {
            "name": name,
            "series": i,
            "rect": list(atlas.clips[i]),
            "heat": list(atlas.heats[i]) if heat else None,
            "curves": curves(i, len(times), shots),
        }
        for i, name in enumerate(names)
    ]
    box = [24, 16, 32, 16]
    pair = {"previous": PIXEL, "current": PIXEL}
    each = range(len(names))
    return {
        "name": f"scene {number}",
        "style": 0,
        "video": f"video-{number}",
        "width": WIDTH,
        "height": HEIGHT,
        "aspect": 1.0,
        "times": times,
        "end": end,
        "shots": shots,
        "note": "the first 2 s of 4 s",
        "clips": clips,
        "crops": [
            {
                "kind": "least",
                "frame": 5,
                "boxes": [[0, 0, 32, 32], box],
                "cells": [{"clip": i, **pair, "psnr": 21.34, "ssim": 0.5432} for i in each],
            }
        ],
        "occlusions": [
            {
                "frames": [1, 3, 7],
                "box": box,
                "cells": [{"clip": i, "pictures": [PIXEL] * 3, "change": 12.34} for i in each],
            }
        ],
        "failures": [
            {
                "frame": 9,
                "box": box,
                "error": 40.25,
                "flow": PIXEL,
                "mask": PIXEL,
                "cells": [{"clip": i, **pair} for i in each],
            }
        ],
    }


def video(clips: int, times: list[float], end: float, first: int = 0) -> bytes:
    """An atlas of clips of one colour each, and the frame's number counted from `first`; heat maps of another."""
    atlas = Atlas(clips, WIDTH, HEIGHT)
    heat = (torch.tensor(HEAT) / 255).view(1, 3, 1, 1).expand(-1, -1, HEIGHT, WIDTH)
    begins = [Fraction(time).limit_denominator(1000) for time in (*times, end)]
    frames = (
        (
            atlas.compose(
                [tools.counter_frame(first + t, COLORS[i], HEIGHT, WIDTH) for i in range(clips)], [heat] * clips
            ),
            begin,
            until - begin,
        )
        for t, (begin, until) in enumerate(itertools.pairwise(begins))
    )
    return encode_clip(frames, Fraction(25))


def report(scenes: list[Json], **more: Json) -> Json:
    return {
        "title": "a title",
        "subtitle": "nststab compare, 2026-11-23",
        "findings": ["b is steadier than c: +3.2 dB PSNR; style loss -4 %", "so it is"],
        "measures": MEASURES,
        "styles": [{"name": "a style", "image": PIXEL, "text": "by a painter"}],
        "scenes": scenes,
        "tables": [{"title": "means", "columns": ["", "PSNR dB"], "rows": [["input", "30.1"]], "note": "a note"}],
        "settings": {"size": 432, "methods": ["b", "c"], "cuts": True, "limit": None, "flow": {"method": "dis"}},
        "versions": {"nststab": "0.1.0"},
        "command": "nststab compare a.mp4",
        "left_out": ["48 of 50 scenes"],
        **more,
    }


NAMES = ["input", "b", "c"]
DATA = report([scene(NAMES, 0, TIMES, 0.96), scene(NAMES[:2], 1, UNEVEN, 2.4)])


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


def test_starts_on_the_first_frame_of_all_clips_and_does_not_play(driver: Chrome, show: Open) -> None:
    show()
    assert tools.canvas_counters(driver) == [0, 0, 0]
    assert all(map(close_to, tools.canvas_colors(driver), COLORS))
    assert paused(driver)
    assert find(driver, "#position").text.startswith("1 / 24")
    verdict = "b is steadier than c: +3.2\u00a0dB PSNR; style loss −4\u00a0%"  # a minus, and units kept with figures
    assert find(driver, ".verdict").get_attribute("textContent") == verdict


@pytest.mark.parametrize("exact", [True, False], ids=["by video frames", "by the clock"])
@pytest.mark.parametrize(("times", "end"), [(TIMES, 0.96), (UNEVEN, 2.4)], ids=["even", "uneven"])
def test_every_canvas_shows_the_frame_of_the_scrubber(
    driver: Chrome, show: Open, times: list[float], end: float, exact: bool
) -> None:
    with before_scripts(driver, "" if exact else WITHOUT_CALLBACK):
        show(report([scene(NAMES, 0, times, end)]), [video(3, times, end)])
    last = len(times) - 1
    for frame in (5, 2, last, 0, 9, 10, 3, last - 1, 1):
        slide(driver, "#scrubber", frame)
        settled(driver, frame)
        assert tools.canvas_counters(driver) == [frame] * 3
        assert find(driver, "#position").text.startswith(f"{frame + 1} / {last + 1}")


def test_while_dragging_the_last_place_wins(driver: Chrome, show: Open) -> None:
    show()
    for frame in (*range(20), 20, 13, 17):
        slide(driver, "#scrubber", frame)
    settled(driver, 17)
    assert tools.canvas_counters(driver) == [17] * 3


@pytest.mark.parametrize("exact", [True, False], ids=["by video frames", "by the clock"])
def test_plays_in_a_loop_in_step_and_stops_on_what_it_shows(driver: Chrome, show: Open, exact: bool) -> None:
    with before_scripts(driver, "" if exact else WITHOUT_CALLBACK):
        show()
    slide(driver, "#scrubber", 20)
    settled(driver, 20)
    find(driver, "#play").click()
    tools.wait(lambda: find(driver, "#play").get_attribute("aria-label") == "Pause", "a button that stops")
    tools.wait(lambda: 3 < (tools.shown_frame(driver) or 0) < 18, "a frame of the next round")
    find(driver, "#play").click()
    tools.wait(lambda: paused(driver), "pause")
    driver.execute_async_script("setTimeout(arguments[0], 400)")  # a late frame would come now
    tools.wait(lambda: not driver.execute_script("return document.querySelector('video').seeking"), "the last seek")
    stopped = tools.wait(lambda: still(driver), "clips that stand still")
    assert stopped == [tools.shown_frame(driver)] * 3


def still(driver: Chrome) -> list[int]:
    """The numbers on the canvases, where they are those of a moment before."""
    before = tools.canvas_counters(driver)
    driver.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 300))")
    return before if tools.canvas_counters(driver) == before else []


def test_keys_move_the_clips(driver: Chrome, show: Open) -> None:
    show()
    for keys, shift, frame in (
        ([Keys.ARROW_RIGHT], False, 1),
        ([Keys.ARROW_RIGHT] * 3, False, 4),
        ([Keys.ARROW_LEFT], False, 3),
        ([Keys.ARROW_RIGHT], True, 13),
        ([Keys.END], False, 23),
        ([Keys.ARROW_LEFT], True, 13),
        ([Keys.HOME], False, 0),
        ([Keys.ARROW_LEFT], False, 0),
    ):
        press(driver, *keys, shift=shift)
        settled(driver, frame)
        assert tools.canvas_counters(driver) == [frame] * 3
    press(driver, "[", "[")
    assert find(driver, "#speed").get_attribute("value") == "0.25"
    assert driver.execute_script("return document.querySelector('video').playbackRate") == 0.25
    press(driver, "]", "]", "]", "]")
    assert find(driver, "#speed").get_attribute("value") == "2"
    press(driver, " ")
    tools.wait(lambda: not paused(driver), "play")
    press(driver, " ")
    tools.wait(lambda: paused(driver), "pause")
    press(driver, "?")
    assert find(driver, "#keys").is_displayed()
    press(driver, Keys.ESCAPE)
    assert not find(driver, "#keys").is_displayed()
    find(driver, "#help").click()
    find(driver, "#keys button").click()
    tools.wait(lambda: not find(driver, "#keys").is_displayed(), "a list that its button closes")


def test_keys_stay_with_what_has_its_own(driver: Chrome, show: Open) -> None:
    show()
    find(driver, "#heat").send_keys(Keys.ARROW_RIGHT)
    find(driver, ".table .scroll").send_keys(Keys.ARROW_RIGHT)
    find(driver, "#forward").send_keys(" ")  # steps, and does not play
    settled(driver, 1)
    assert paused(driver)
    assert find(driver, "#heat").get_attribute("value") == "1"
    find(driver, "#scrubber").send_keys(Keys.ARROW_RIGHT)
    settled(driver, 2)


def test_a_number_shows_a_clip_alone_and_another_swaps_it_in_place(driver: Chrome, show: Open) -> None:
    show()
    press(driver, Keys.ARROW_RIGHT)
    settled(driver, 1)
    small = find(driver, "canvas").rect
    press(driver, "2")
    (canvas,) = on_show(driver, "canvas")
    place = canvas.rect
    assert place["width"] > 1.3 * small["width"]
    tools.wait(lambda: close_to(tools.canvas_colors(driver)[0], COLORS[1]), "the second clip")
    press(driver, "3")
    (canvas,) = on_show(driver, "canvas")
    assert canvas.rect == place
    tools.wait(lambda: close_to(tools.canvas_colors(driver)[0], COLORS[2]), "the third clip")
    assert tools.canvas_counters(driver) == [1]
    press(driver, Keys.ARROW_RIGHT)
    settled(driver, 2)
    assert tools.canvas_counters(driver) == [2]
    press(driver, "7")  # there is none
    assert len(on_show(driver, "canvas")) == 1
    press(driver, Keys.ESCAPE)
    tools.wait(lambda: tools.canvas_counters(driver) == [2, 2, 2], "all clips")
    on_show(driver, ".picture")[1].click()
    tools.wait(lambda: len(on_show(driver, "canvas")) == 1, "the clicked clip alone")
    on_show(driver, ".picture")[0].click()
    tools.wait(lambda: len(on_show(driver, "canvas")) == 3, "all clips")


def test_a_wipe_shows_another_clip_on_one_side(driver: Chrome, show: Open) -> None:
    show()
    press(driver, "3", "w")
    (canvas,) = on_show(driver, "canvas")

    def clips() -> list[int]:
        """Which clip is at 10, 40, 70 and 90 % of the width."""
        colors = tools.canvas_pixels(driver, [(share, 0.25) for share in (0.1, 0.4, 0.7, 0.9)])[0]
        return [next((i for i, own in enumerate(COLORS) if close_to(color, own)), -1) for color in colors]

    tools.wait(lambda: clips() == [0, 0, 2, 2], "input and third clip")
    assert [side.text for side in on_show(driver, ".side")] == ["input", "c"]
    ActionChains(driver).move_to_element_with_offset(canvas, int(canvas.rect["width"] * 0.3), 0).perform()
    tools.wait(lambda: clips() == [0, 0, 0, 2], "the divider under the pointer")
    press(driver, *[","] * 9)
    assert clips() == [0, 2, 2, 2]
    Select(find(driver, ".wipe select")).select_by_visible_text("b")
    assert clips() == [1, 1, 2, 2]
    find(driver, ".chip").click()
    tools.wait(lambda: clips() == [1, 1, 0, 0], "the input instead of the third clip")
    press(driver, "2")
    tools.wait(lambda: clips() == [0, 0, 1, 1], "the other way round")
    press(driver, "w")
    assert clips() == [1, 1, 1, 1]
    press(driver, Keys.ESCAPE)
    assert on_show(driver, ".side, .divider") == []


def test_the_names_above_hide_clips_and_curves(driver: Chrome, show: Open) -> None:
    show()
    chips = driver.find_elements(By.CSS_SELECTOR, ".chip")
    assert [chip.text for chip in chips] == NAMES
    chips[1].click()
    assert len(on_show(driver, "canvas")) == 2
    assert len(on_show(driver, ".chart:first-child .curve")) == 2
    assert all(map(close_to, tools.canvas_colors(driver), COLORS[::2]))
    assert [chip.get_attribute("aria-pressed") for chip in on_show(driver, ".chip")] == ["true", "false", "true"]
    on_show(driver, ".chip")[1].click()
    assert len(on_show(driver, "canvas")) == 3


def test_heat_fades_the_picture_into_its_map(driver: Chrome, show: Open) -> None:
    show()
    for value, share in ((50, 0.5), (100, 1.0)):
        slide(driver, "#heat", value)
        for color, own in zip(tools.canvas_colors(driver), COLORS, strict=False):
            assert close_to(color, tuple(round(h * share + c * (1 - share)) for h, c in zip(HEAT, own, strict=True)))
    press(driver, "h")
    assert all(map(close_to, tools.canvas_colors(driver), COLORS))
    press(driver, "h")
    assert all(close_to(color, HEAT) for color in tools.canvas_colors(driver))
    press(driver, "h")
    assert all(map(close_to, tools.canvas_colors(driver), COLORS))


def test_without_heat_maps_there_is_no_slider(driver: Chrome, show: Open, videos: list[bytes]) -> None:
    show(report([scene(NAMES, 0, TIMES, 0.96, heat=False)]), videos[:1])
    assert on_show(driver, "#heat, .heat") == []
    press(driver, "h")
    assert all(map(close_to, tools.canvas_colors(driver), COLORS))


def test_curves_and_clips_lead_each_other(driver: Chrome, show: Open) -> None:
    show()
    left, *others = playheads(driver)
    assert others == [left, left]
    press(driver, Keys.END)
    settled(driver, 23)
    right = playheads(driver)[0]
    slide(driver, "#scrubber", 8)
    settled(driver, 8)
    assert playheads(driver) == pytest.approx([left + (right - left) * 8 / 23] * 3, abs=0.1)
    assert [float(dot.get_attribute("cx") or 0) for dot in on_show(driver, ".dot")] == pytest.approx(
        [playheads(driver)[0]] * 9
    )
    plot = driver.find_elements(By.CSS_SELECTOR, ".plot")[1]
    from_middle = round(left + (right - left) * 15 / 23 - plot.rect["width"] / 2)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    chain = ActionChains(driver).move_to_element_with_offset(plot, from_middle, 0)
    chain.perform()
    assert find(driver, ".chart:nth-child(2) .readout").text.splitlines() == [
        "frame 16, 0.60 s",
        *("input", "0.0025", "b", "0.0035", "c", "0.0045"),
    ]
    chain.click().perform()
    settled(driver, 15)
    assert tools.canvas_counters(driver) == [15] * 3
    back = round((left - right) * 5 / 23)
    ActionChains(driver).move_to_element_with_offset(plot, from_middle, 0).click_and_hold().move_by_offset(
        back, 0
    ).release().perform()
    settled(driver, 10)
    assert [value.text for value in on_show(driver, ".panel dd")][:3] == ["0.800", "0.0020", "5.0"]


def test_curves_break_where_nothing_was_measured(driver: Chrome, show: Open, videos: list[bytes]) -> None:
    data = report([scene(NAMES, 0, TIMES, 0.96)])
    first = data["scenes"][0]["clips"][0]["curves"]
    first["ssim"] = [None, 0.5, None, 0.9, 0.8, *[None] * 19]
    for clip in data["scenes"][0]["clips"]:
        clip["curves"]["warp"] = [None] * 24
    show(data, videos[:1])
    path = find(driver, ".chart:nth-child(1) .curve.series-0").get_attribute("d") or ""
    assert re.fullmatch(r"M[\d. ]+h0\.01M[\d. ]+L[\d. ]+", path)  # a dot, a gap, a line
    assert find(driver, ".chart:nth-child(2)").text.endswith("Nothing could be measured.")
    slide(driver, "#scrubber", 4)
    settled(driver, 4)
    assert [value.text for value in on_show(driver, ".panel dd")][:3] == ["0.800", "–", "2.0"]


def test_tabs_change_the_scene_and_give_its_video_back(driver: Chrome, show: Open) -> None:
    spy = """const revoke = URL.revokeObjectURL;
        window.revoked = [];
        URL.revokeObjectURL = url => { revoked.push(url); revoke.call(URL, url); }"""
    with before_scripts(driver, spy):
        show()
    first = driver.execute_script("return document.querySelector('video').src")
    tabs = driver.find_elements(By.CSS_SELECTOR, "[role=tab]")
    assert [tab.text for tab in tabs] == ["scene 0", "scene 1"]
    tabs[0].click()
    slide(driver, "#scrubber", 9)
    settled(driver, 9)
    driver.execute_script("arguments[0].focus()", tabs[0])
    press(driver, Keys.ARROW_RIGHT)
    tools.wait(lambda: tools.shown_frame(driver) == 0, "the other scene")
    assert tools.canvas_counters(driver) == [40, 40]
    assert [tab.get_attribute("aria-selected") for tab in tabs] == ["false", "true"]
    assert driver.execute_script("return document.querySelectorAll('video').length") == 1
    assert driver.execute_script("return revoked") == [first]
    assert find(driver, "#position").text.startswith("1 / 12")
    press(driver, Keys.ARROW_RIGHT)  # round to the first again
    settled(driver, 0)
    tools.wait(lambda: tools.canvas_counters(driver) == [0, 0, 0], "the first scene")


def test_stills_lead_to_their_place(driver: Chrome, show: Open) -> None:
    show()
    texts = [find(driver, f".stills.{kind} .still").text for kind in ("crops", "occlusions", "failures")]
    assert "Least stable patch: frames 5 and 6" in texts[0]
    assert texts[0].count("21.3 dB") == texts[0].count("0.543") == 3
    assert texts[1].count("12.3 levels") == 3
    assert "misses by 40.3 levels" in texts[2] or "misses by 40.2 levels" in texts[2]
    crops, _, failures = on_show(driver, ".link")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", crops)
    crops.click()
    settled(driver, 5)
    outlines = on_show(driver, ".outline")
    assert len(outlines) == 3
    picture = find(driver, ".picture").rect
    box = outlines[0].rect
    assert box["x"] - picture["x"] == pytest.approx(picture["width"] * 24 / WIDTH, abs=1)
    assert box["width"] == pytest.approx(picture["width"] * 32 / WIDTH, abs=1)
    press(driver, Keys.ARROW_LEFT)
    settled(driver, 4)
    assert outlines[0].rect["x"] == pytest.approx(picture["x"], abs=1)
    press(driver, Keys.ARROW_LEFT)
    settled(driver, 3)
    assert on_show(driver, ".outline") == []
    driver.execute_script("arguments[0].click()", failures)
    settled(driver, 9)
    press(driver, Keys.ESCAPE)
    assert on_show(driver, ".outline") == []


def test_pixels_that_are_not_square_have_their_shape_everywhere(
    driver: Chrome, show: Open, videos: list[bytes]
) -> None:
    show(report([scene(NAMES, 0, TIMES, 0.96) | {"aspect": 2.0}]), videos[:1])

    def shapes(css: str) -> set[float]:
        return {round(each.rect["width"] / each.rect["height"], 1) for each in on_show(driver, css)}

    assert shapes("canvas") == {round(2 * WIDTH / HEIGHT, 1)}
    driver.execute_script("document.querySelector('.stills').scrollIntoView()")
    tools.wait(lambda: shapes(".strip img") == {2.0}, "stills of square pictures, twice as wide")


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


def test_wide_strips_stand_below_each_other_on_a_phone(driver: Chrome, show: Open) -> None:
    show(report([scene(NAMES, 0, TIMES[:4], 0.16) | {"aspect": 4.0 * HEIGHT / WIDTH}]), [video(3, TIMES[:4], 0.16)])
    tools.resize(driver, 390, 844, phone=True)
    tools.wait(lambda: len({panel.rect["x"] for panel in on_show(driver, ".panel")}) == 1, "one column")


def test_a_clip_that_is_enlarged_is_scrolled_into_sight(driver: Chrome, show: Open) -> None:
    show(
        report([scene(NAMES, 0, TIMES[:4], 0.16)], findings=["a sentence", *["another"] * 12]),
        [video(3, TIMES[:4], 0.16)],
    )
    press(driver, "2")
    below = "return document.querySelector('.panels').getBoundingClientRect().bottom"
    bar = "return document.getElementById('bar').getBoundingClientRect().top"
    tools.wait(lambda: driver.execute_script(below) <= driver.execute_script(bar), "the whole clip above the bar")


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


def luminance(color: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_background(driver: Chrome, show: Open, scheme: str) -> None:
    tools.color_scheme(driver, scheme)
    names = [f"clip {i}" for i in range(7)]
    show(report([scene(names, 0, TIMES[:6], 0.24)]), [video(7, TIMES[:6], 0.24)])

    def color(css: str, key: str) -> float:
        return luminance(driver.execute_script(f"return getComputedStyle(arguments[0]).{key}", find(driver, css)))

    paper = color("body", "backgroundColor")
    assert (paper > 0.9) == (scheme == "light")

    def contrast(css: str, key: str = "color", ground: float = paper) -> float:
        light, dark = sorted((color(css, key), ground), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for text in (".verdict", ".subtitle", ".caption", ".link", ".panel dt", ".chart figcaption span", "#footer dt"):
        assert contrast(text) >= 4.5, text
    assert contrast(".tick", "fill") >= 4.5
    raised = color(".chip", "backgroundColor")
    assert contrast(".chip", "color", raised) >= 4.5
    assert contrast("#play", "color", color("#play", "backgroundColor")) >= 4.5
    for series in range(7):
        assert contrast(f".curve.series-{series}", "stroke") >= 3, series
        assert contrast(f".chip .series-{series} .swatch", "backgroundColor", raised) >= 3, series


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


def test_on_paper_there_are_no_controls(driver: Chrome, show: Open) -> None:
    show()
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert on_show(driver, "#bar, .chips, .link, #tabs") == []
        assert len(on_show(driver, "canvas")) == 3
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
