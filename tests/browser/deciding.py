"""What the tests of pages on which people decide have in common."""

import os

from playwright.sync_api import Locator, Page

from tests.browser.accessibility import faults_of, too_wide
from tests.browser.conftest import screenshot

WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 380, "height": 800}
MARKUP = '<img src=x onerror="document.title=1"> & \u202eevil \x1b[31m'
MIGRATIONS = '''
from whimbrel import Migration, migration

@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person):
    """Splits names in two."""
    first, _, last = person["name"].partition(" ")
    title = {"title": person["title"].strip()} if "title" in person else {}
    return {"$set": {"first": first, "last": last, **title}, "$unset": {"name": ""}}

cents = Migration(name="price-in-cents", collection="products", update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}], undo=True)
'''


def good_for_everybody(page: Page, phone: Page, name: str) -> None:
    """By axe in light and dark, and without a horizontal scroll bar on a phone. With SCREENSHOTS, pictures of all four."""
    assert not faults_of(page), name
    assert not too_wide(phone), name
    width = phone.evaluate("document.documentElement.scrollWidth")
    assert width <= 380, (name, width)
    for scheme in ("light", "dark") if os.environ.get("SCREENSHOTS") else ():
        for each, device in ((page, ""), (phone, "-phone")):
            each.emulate_media(color_scheme=scheme)
            screenshot(each, f"{name}-{scheme}{device}")


def tab_to(page: Page, wanted: Locator, most: int = 80) -> None:
    """Moves the focus by the keyboard alone."""
    for _ in range(most):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {wanted}")
