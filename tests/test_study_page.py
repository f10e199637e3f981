"""A study in a real browser: from the first pair to the last, twice at once, through a reload and a kill."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from nststab.study.answers import Answers, collect
from nststab.study.design import Study, read_study
from nststab.study.page import pack_study
from tests import browser as tools
from tests.report_reader import BROWSER, find, on_show, press
from tests.study_samples import COLORS, served, small_study

pytestmark = BROWSER


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with tools.browser() as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_study(tmp_path)
    return tmp_path / "STUDY"


def script(driver: Chrome, expression: str) -> Any:
    """At once: an element that was found may be gone when it is asked."""
    return driver.execute_script(f"return {expression}")


def title(driver: Chrome) -> str:
    return str(script(driver, "document.querySelector('h1')?.textContent ?? ''"))


def click(driver: Chrome, text: str) -> None:
    (button,) = [one for one in on_show(driver, "button, a") if one.text == text]
    button.click()


def begin(driver: Chrome, address: str) -> None:
    driver.get(address)
    tools.wait(lambda: title(driver) == "Which of two clips?", "the welcome")
    click(driver, "Begin")
    pair(driver, 1)


def pair(driver: Chrome, number: int) -> None:
    """Waits for a pair, and until its clips were seen once."""
    tools.wait(lambda: title(driver).startswith(f"Pair {number} of"), f"pair {number}")
    tools.wait(lambda: script(driver, "document.querySelector('input')?.disabled === false"), "the end of the clips")


def code(driver: Chrome) -> str:
    return str(script(driver, "document.querySelector('textarea').value"))


def ended(driver: Chrome) -> None:
    tools.wait(lambda: title(driver) == "Thank you", "the end")


def checked(driver: Chrome) -> Any:
    return script(driver, "[...document.querySelectorAll('input:checked')].map((one) => one.value)")


def answer(driver: Chrome, choices: str = "abs") -> None:
    press(driver, *choices, Keys.ENTER)


def answers(folder: Path, study: Study) -> list[Any]:
    return Answers(folder, study).all()


def clips_on_show(driver: Chrome) -> list[str]:
    """The names of the clips on the left and on the right, and of the third canvas, by their colours."""
    return [
        min(COLORS, key=lambda name: sum(abs(a - b) for a, b in zip(COLORS[name], color, strict=True)))
        for color in tools.canvas_colors(driver)
    ]


def test_from_the_first_pair_to_the_results(driver: Chrome, folder: Path) -> None:
    """With a clip of a hostile name; all three canvases show one frame, and what is chosen is what was shown."""
    study = read_study(folder)
    tools.resize(driver, 1280, 800)
    tools.said(driver)
    tools.requested(driver)
    with served(folder) as (address, _):
        begin(driver, address)
        assert not find(driver, ".primary").is_enabled()
        seen = []
        count = len(study.sheets[0])
        for number in range(1, count + 1):
            pair(driver, number)
            press(driver, " ")
            tools.wait(lambda: script(driver, "document.querySelector('video').paused"), "a pause")
            tools.wait(lambda: len(set(tools.canvas_counters(driver))) == 1, "one frame on all canvases")
            seen.append(clips_on_show(driver))
            answer(driver, ["asb", "bas", "sbb"][number % 3])
        ended(driver)
    kept = answers(folder, study)
    assert [one.trial for one in kept] == [trial for trial, _ in study.sheets[0]]
    for one, (left, right, original) in zip(kept, seen, strict=True):
        trial = study.trials[one.trial]
        assert original == "input"
        assert [left, right] == ([trial.second, trial.first] if one.swapped else [trial.first, trial.second])
        assert one.seconds > study.scenes[trial.scene].times[-2]  # it is answered where the last frame was seen
    assert [one.choices for one in kept] == [["asb", "bas", "sbb"][number % 3] for number in range(1, count + 1)]
    host = re.escape(address.partition("/")[2].partition("/")[0])
    assert [one for one in tools.requested(driver) if not re.match(rf"(http:/{host}|blob:|data:)", one)] == []
    assert [one for one in tools.said(driver) if "favicon" not in one] == []


def test_a_reload_and_another_window_go_on(driver: Chrome, folder: Path) -> None:
    study = read_study(folder)
    with served(folder) as (address, _):
        begin(driver, address)
        answer(driver)
        pair(driver, 2)
        find(driver, "label").click()  # not sent yet
        driver.refresh()
        pair(driver, 2)
        assert checked(driver) == []
        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        driver.get(address)
        pair(driver, 2)
        answer(driver, "bbb")
        pair(driver, 3)
        driver.close()
        driver.switch_to.window(first)
        pair(driver, 2)  # still open here: its second answer is refused, and the page goes on
        answer(driver, "aaa")
        pair(driver, 3)
    assert [one.choices for one in answers(folder, study)] == ["abs", "bbb"]


def test_two_people_at_once(driver: Chrome, folder: Path) -> None:
    study = read_study(folder)
    with served(folder) as (address, _), tools.browser() as other:
        begin(driver, address)
        begin(other, address)
        for number in range(1, len(study.sheets[0]) + 1):
            for one, choices in ((driver, "aaa"), (other, "bbb")):
                pair(one, number)
                answer(one, choices)
        for one in (driver, other):
            ended(one)
    kept = answers(folder, study)
    people = dict.fromkeys(one.person for one in kept)
    assert len(people) == 2
    for place, (person, choices) in enumerate(zip(people, ("aaa", "bbb"), strict=True)):
        own = [one for one in kept if one.person == person]
        assert [(one.trial, one.swapped) for one in own] == study.sheets[place]
        assert {one.choices for one in own} == {choices}


def test_a_server_that_is_killed_and_started_again_loses_nothing(driver: Chrome, folder: Path) -> None:
    study = read_study(folder)
    with served(folder) as (address, process):
        begin(driver, address)
        answer(driver, "sss")
        pair(driver, 2)
        process.kill()
        process.wait()
        answer(driver, "bab")
        tools.wait(lambda: "cannot be reached" in find(driver, "#alert").text, "a word of it")
    assert [one.choices for one in answers(folder, study)] == ["sss"]
    port = int(re.findall(r":(\d+)/", address)[0])
    with served(folder, port) as (again, _):
        assert again == address
        pair(driver, 3)
        assert not find(driver, "#alert").is_displayed()
    assert [one.choices for one in answers(folder, study)] == ["sss", "bab"]


def test_a_wrong_token_shows_nothing(driver: Chrome, folder: Path) -> None:
    with served(folder) as (address, _):
        driver.get(address[:-2] + "x/")
        assert find(driver, "body").text == '{"error": "there is nothing here"}'
        assert driver.find_elements(By.TAG_NAME, "script") == []


def test_keys_answer_take_back_and_do_not_send_too_early(driver: Chrome, folder: Path) -> None:
    with served(folder) as (address, _):
        begin(driver, address)
        press(driver, "a", "b", Keys.ENTER)
        assert title(driver).startswith("Pair 1")
        assert checked(driver) == ["a", "b"]
        press(driver, Keys.ARROW_UP, "s", "s")
        assert checked(driver) == ["a", "s", "s"]
        press(driver, " ")
        tools.wait(lambda: script(driver, "document.querySelector('video').paused"), "a pause")
        press(driver, "r")
        tools.wait(lambda: not script(driver, "document.querySelector('video').paused"), "it plays")
        press(driver, Keys.ENTER)
        pair(driver, 2)


def test_an_answer_that_is_refused_is_told_and_may_be_given_again(driver: Chrome, folder: Path) -> None:
    def change(query: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(folder / "answers.sqlite")) as database, database:
            return database.execute(query, values).fetchall()

    with served(folder) as (address, _):
        begin(driver, address)
        ((person, sheet),) = change("SELECT * FROM people")
        change("DELETE FROM people")
        answer(driver)
        tools.wait(lambda: find(driver, "#alert").text == "there is no such person", "a word of it")
        change("INSERT INTO people VALUES (?, ?)", person, sheet)
        press(driver, Keys.ENTER)
        pair(driver, 2)
        assert not find(driver, "#alert").is_displayed()
        change("DELETE FROM people")
        click(driver, "Stop here")
        click(driver, "Go on")
        tools.wait(lambda: title(driver) == "Which of two clips?", "the welcome")


def test_time_is_counted_from_the_first_frame(driver: Chrome, folder: Path) -> None:
    with served(folder) as (address, _):
        driver.get(address)
        tools.wait(lambda: title(driver) == "Which of two clips?", "the welcome")
        driver.execute_script(
            """
            const { set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "src");
            Object.defineProperty(HTMLMediaElement.prototype, "src", {
              set(value) { setTimeout(() => { set.call(this, value); this.play(); }, 4000); },
            });
            """
        )
        click(driver, "Begin")
        pair(driver, 1)
        answer(driver)
        tools.wait(lambda: answers(folder, read_study(folder)), "the answer")
    assert 0 < answers(folder, read_study(folder))[0].seconds < 4


def test_a_restart_is_not_taken_for_the_end(driver: Chrome, folder: Path) -> None:
    with served(folder) as (address, _):
        driver.get(address)
        tools.wait(lambda: title(driver) == "Which of two clips?", "the welcome")
        driver.execute_script(
            "const play = HTMLMediaElement.prototype.play;"
            "HTMLMediaElement.prototype.play = function () { this.playbackRate = 0.1; return play.call(this); }"
        )
        click(driver, "Begin")
        tools.wait(lambda: (tools.shown_frame(driver) or 0) >= 2, "the third frame")
        press(driver, "r")
        tools.wait(lambda: tools.shown_frame(driver) == 0, "the first frame again")
        assert script(driver, "document.querySelector('input').disabled")
        pair(driver, 1)
        press(driver, "r")
        answer(driver)
        pair(driver, 2)
    assert answers(folder, read_study(folder))[0].replays >= 1


class _Static(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def static() -> Iterator[Callable[[Path], str]]:
    """Serves a folder as a static host does, which knows nothing of studies."""
    with ExitStack() as opened:

        def host(folder: Path) -> str:
            server = opened.enter_context(
                ThreadingHTTPServer(("127.0.0.1", 0), partial(_Static, directory=str(folder)))
            )
            threading.Thread(target=server.serve_forever, daemon=True).start()
            opened.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield host


def test_a_packed_study_gives_a_code_that_is_taken(
    driver: Chrome, folder: Path, tmp_path: Path, static: Callable[[Path], str]
) -> None:
    study = read_study(folder)
    address = static(pack_study(folder, tmp_path / "packed").parent)
    begin(driver, address)
    answer(driver, "abs")
    pair(driver, 2)
    click(driver, "Stop here")
    half = code(driver)
    click(driver, "Go on")
    pair(driver, 2)
    driver.refresh()
    for number in range(2, len(study.sheets[0]) + 1):
        pair(driver, number)
        answer(driver, "bbb")
    ended(driver)
    whole = code(driver)
    driver.refresh()
    ended(driver)
    assert code(driver) == whole
    assert find(driver, "a[download]").get_attribute("download") == f"answers-{whole.split('.')[2]}.txt"
    assert collect(folder, [half]) == (1, 1, [])
    assert collect(folder, [whole]) == (1, len(study.sheets[0]) - 1, [])
    kept = answers(folder, study)
    sheet = study.sheets[int(whole.split(".")[3])]
    assert [(one.trial, one.swapped) for one in kept] == sheet
    assert [one.choices for one in kept] == ["abs", *["bbb"] * (len(sheet) - 1)]
    click(driver, "Begin for another person")
    driver.switch_to.alert.dismiss()
    assert code(driver) == whole  # it may not be handed in yet
    another_person(driver)


def another_person(driver: Chrome) -> None:
    click(driver, "Begin for another person")
    driver.switch_to.alert.accept()
    tools.wait(lambda: title(driver) == "Which of two clips?", "the welcome")


def test_two_people_at_one_packed_study_have_answers_of_their_own(
    driver: Chrome, folder: Path, tmp_path: Path, static: Callable[[Path], str]
) -> None:
    address = static(pack_study(folder, tmp_path / "packed").parent)
    begin(driver, address)
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.get(address)
    pair(driver, 1)
    click(driver, "Stop here")
    another_person(driver)
    click(driver, "Begin")
    pair(driver, 1)
    click(driver, "Stop here")
    codes = [code(driver)]
    driver.close()
    driver.switch_to.window(first)
    pair(driver, 1)
    answer(driver)
    pair(driver, 2)
    click(driver, "Stop here")
    codes.append(code(driver))
    assert len({text.split(".")[2] for text in codes}) == 2
    assert ["abs" in text.split(".")[4] for text in codes] == [False, True]
