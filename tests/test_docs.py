"""The documents: what they point to is there, and what is of others is named."""

import re
from pathlib import Path

import pytest

from nststab.styles.shipped import styles

ROOT = Path(__file__).parents[1]
PAGES = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="a source distribution has no docs")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    local = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_picture_of_a_style_that_is_shipped_is_attributed() -> None:
    told = (ROOT / "ATTRIBUTION.md").read_text("utf-8")
    for style in styles():
        if style.image is not None:
            assert f"`nststab/styles/{style.name}/{style.image.name}`" in told
