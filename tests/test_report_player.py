"""The player of a report in a real browser: clips in step, and parts that lead to each other."""

import re

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests import browser as tools
from tests.report_reader import (
    BROWSER,
    Open,
    before_scripts,
    close_to,
    find,
    on_show,
    paused,
    playheads,
    press,
    settled,
    slide,
)
from tests.report_samples import COLORS, HEAT, HEIGHT, NAMES, TIMES, UNEVEN, WIDTH, report, scene, video

pytest_plugins = ("tests.report_fixtures",)
pytestmark = BROWSER
WITHOUT_CALLBACK = "delete HTMLVideoElement.prototype.requestVideoFrameCallback"


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
