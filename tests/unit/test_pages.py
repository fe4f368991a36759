"""The pages: their links lead somewhere, the picture needs nothing from elsewhere, and the wheel has the name that is said."""

import re
from pathlib import Path

import pytest

from whimbrel import __version__

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "deploy" / "README.md"]
FENCED = re.compile(r"```.*?```", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), link
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), link


def test_the_picture_needs_no_other_host() -> None:
    picture = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")
    assert "(docs/terminal.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(picture) < 100_000
    assert not re.search(r"@font-face|@import|<image|<script|url\(\s*[\"']?\w+:|href=[\"']\w+:", picture)


def test_the_wheel_has_the_name_that_is_said() -> None:
    for name in ("README.md", "docs/install.md"):
        said = re.findall(r"whimbrel[-:](\d+(?:\.\d+)+)", (ROOT / name).read_text(encoding="utf-8"))
        assert said, name
        assert set(said) == {__version__}, name
