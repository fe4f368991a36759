"""What axe-core finds wrong with a page, in light and in dark."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")


def faults_of(page: Page) -> list[str]:
    """The serious faults, in both colour schemes."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for fault in Axe().run(page).response["violations"]:
            if fault["impact"] in SERIOUS:
                where = [node["html"][:160] for node in fault["nodes"][:3]]
                found.append(f"{scheme}: {fault['id']}: {fault['help']}: {where}")
    page.emulate_media(color_scheme="light")
    return found


def too_wide(page: Page) -> list[str]:
    """What of a page reaches beyond its right edge."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((each) => {
            const box = each.getBoundingClientRect();
            const hidden = getComputedStyle(each).visibility === "hidden" || box.width === 0 || each.closest(".unseen, .scroll, thead, .skip");
            return !hidden && box.right > document.documentElement.clientWidth + 1;
        }).map((each) => each.outerHTML.slice(0, 120))"""
    )
    return found
