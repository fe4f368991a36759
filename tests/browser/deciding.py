"""What the tests of pages on which people decide have in common."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

SERIOUS = ("serious", "critical")
MARKUP = '<img src=x onerror="document.title=1"> & \u202eevil \x1b[31m'
MIGRATIONS = '''
from whimbrel import Migration, migration

@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    """Splits names in two."""
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}

cents = Migration(name="price-in-cents", collection="products", update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}], undo=True)
'''


def serious(page: Page) -> list[str]:
    """What axe finds seriously wrong with a page, and where."""
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{each['id']}: {node['html'][:150]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def tab_to(page: Page, wanted: Locator, most: int = 80) -> None:
    """Moves the focus by the keyboard alone."""
    for _ in range(most):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {wanted}")


def width(page: Page) -> int:
    """How wide the content is, of which a phone shows 380 pixels."""
    found: int = page.evaluate("document.documentElement.scrollWidth")
    return found
