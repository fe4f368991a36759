"""What all pages have in common."""

from playwright.sync_api import Page, expect

from tests.servers.serve import Serve


def test_the_runs_are_at_the_front(page: Page, served: Serve) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    expect(page.locator("#age")).to_contain_text("Live")
