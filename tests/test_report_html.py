"""The report's file: one piece, safe from the texts in it, and shut against the network."""

import base64
import copy
import hashlib
import json
import math
import re
from typing import Any

import pytest

from nststab.report.html import report_html

HOSTILE = '</script><script>alert(1)</script><!--<title>"@script@'
DATA: Any = {
    "title": "a & b",
    "subtitle": "",
    "findings": [],
    "measures": [],
    "styles": [],
    "scenes": [{"name": "one", "video": "video-0"}, {"name": "two", "video": "video-1"}],
    "tables": [],
    "settings": {},
    "versions": {},
    "command": "",
    "left_out": [],
}
VIDEOS = [b"first", bytes(range(256))]


def scripts(page: str) -> dict[str, str]:
    """The text of each script element by its id, "" for the page's own."""
    elements = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    ids = [re.search(r'id="([^"]*)"', attributes) for attributes, _ in elements]
    return {found[1] if found else "": text for found, (_, text) in zip(ids, elements, strict=True)}


def test_holds_data_and_videos_byte_for_byte() -> None:
    found = scripts(report_html(DATA, VIDEOS))
    assert json.loads(found["report"]) == DATA
    assert [base64.b64decode(found[f"video-{number}"]) for number in range(2)] == VIDEOS
    assert list(found) == ["report", "video-0", "video-1", ""]


def test_no_text_ends_its_element_or_fills_a_place_of_the_template() -> None:
    data = copy.deepcopy(DATA) | {"title": HOSTILE, "findings": [HOSTILE], "command": "@videos@ @policy@"}
    page = report_html(data, VIDEOS)
    found = scripts(page)
    assert json.loads(found["report"]) == data
    assert list(found) == ["report", "video-0", "video-1", ""]
    assert "<script>alert" not in page
    assert page.count("<title>") == page.count("</title>") == 1


def test_a_name_that_is_no_utf8_can_be_written() -> None:
    data = DATA | {"title": "fil\udcff.mp4"}
    page = report_html(data, VIDEOS).encode().decode()
    assert json.loads(scripts(page)["report"]) == data
    assert "<title>fil\\udcff.mp4</title>" in page


def test_the_policy_names_the_own_script_and_style_and_nothing_else() -> None:
    page = report_html(DATA, VIDEOS)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy
    assert style
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    for kind, text in (("script-src", scripts(page)[""]), ("style-src", style[1])):
        assert rules.pop(kind) == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    nothing = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert rules == nothing | {"img-src": "data:", "media-src": "blob:"}
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_refuses_a_scene_without_its_video() -> None:
    with pytest.raises(ValueError, match="expected each scene's video among 1, got video-1 for two"):
        report_html(DATA, VIDEOS[:1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_figures_that_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report_html(DATA | {"settings": {"figure": value}}, VIDEOS)
