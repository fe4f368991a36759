"""The pages: their links lead somewhere, the pictures need nothing from elsewhere, and the wheel has the name that is said."""

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


@pytest.mark.parametrize("name", ["terminal.svg", "top.svg"])
def test_a_picture_of_the_terminal_needs_no_other_host(name: str) -> None:
    picture = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert f"({name})" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert len(picture) < 200_000
    assert not re.search(r"@font-face|@import|<image|<script|url\(\s*[\"']?\w+:|href=[\"']\w+:", picture)


def test_the_readme_has_one_picture_of_the_dashboard() -> None:
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [there for _, there in pictures] == ["docs/screenshots/run.webp"]
    assert sum(file.stat().st_size for file in (ROOT / "docs" / "screenshots").iterdir()) < 1_500_000


def test_the_wheel_has_the_name_that_is_said() -> None:
    for name in ("README.md", "docs/install.md"):
        said = re.findall(r"whimbrel[-:](\d+(?:\.\d+)+)", (ROOT / name).read_text(encoding="utf-8"))
        assert said, name
        assert set(said) == {__version__}, name
