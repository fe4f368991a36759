"""The list of runs in a browser: it moves by itself, and people can freeze everything by it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults_of, too_wide
from tests.browser.conftest import Docs, Visit, screenshot
from tests.integration.api.conftest import seed
from tests.servers.serve import Serve, eventually

SLOW = {"maxDocsPerSecond": 40, "batchSize": 20}


@pytest.fixture(scope="module")
def run(served: Serve, docs: Docs) -> Iterator[str]:
    """A run that takes as long as a test wants."""
    seed(docs, 20_000)
    answer = served.client.post("/migrate", json=SLOW)
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["migrationId"]
    eventually(lambda: served.run(found)["processedItems"])
    yield found
    served.client.delete(f"/migrate/cancel/{found}")


@pytest.fixture(autouse=True)
def at_work(served: Serve, run: str) -> None:
    """Each test finds the run at work, and nothing frozen."""
    served.client.delete("/freeze")
    if served.run(run)["status"] == "paused":
        served.client.post(f"/migrate/resume/{run}")
    eventually(lambda: served.run(run)["status"] == "running")


def number(page: Page, run: str) -> int:
    text = page.locator(f"#run-{run} [data-field=processedItems]").inner_text()
    return int(text.replace(",", ""))


def moves(page: Page, run: str) -> None:
    """Waits until its number has grown."""
    first = number(page, run)
    eventually(lambda: number(page, run) > first)


def test_a_run_moves_without_being_asked_for(page: Page, served: Serve, run: str) -> None:
    page.goto("/")
    row = page.locator(f"#run-{run}")
    expect(row).to_contain_text("some-model")
    expect(row.locator(".badge").first).to_have_text("Running")
    moves(page, run)
    bar = row.locator("progress")
    assert float(bar.get_attribute("value") or 0) > 0
    expect(page.locator("#age")).to_contain_text("Live")
    screenshot(page, "runs-busy")
    assert not faults_of(page)
    assert not too_wide(page)
    served.client.post(f"/migrate/pause/{run}")
    expect(row.locator(".badge").first).to_have_text(re.compile("Paus"))
    expect(row.locator(".badge").first).to_have_text("Paused")


def test_a_run_that_is_started_appears(page: Page, served: Serve, run: str, docs: Docs) -> None:
    page.goto("/")
    expect(page.locator(f"#run-{run}")).to_be_visible()
    answer = served.client.post("/migrate", json={"dryRun": False, **SLOW})
    assert answer.status_code == 202, answer.text
    queued = answer.json()["migrationId"]
    row = page.locator(f"#run-{queued}")
    expect(row.locator(".badge")).to_have_text("Queued")
    expect(row.locator(".reason")).to_contain_text(f"Waits for run {run}")
    served.client.delete(f"/migrate/cancel/{queued}")
    expect(page.locator(f"table #run-{queued}")).to_contain_text("Cancelled")


def test_eight_windows_of_one_browser_all_move_and_their_buttons_work(
    page: Page, served: Serve, run: str
) -> None:
    """A browser has six connections to a server, and a stream keeps one: there must be some left."""
    windows = [page, *(page.context.new_page() for _ in range(7))]
    for window in windows:
        window.goto("/")
    for window in windows:
        moves(window, run)
        expect(window.locator("#age")).to_contain_text("Live")
    last = windows[-1]
    last.get_by_text("Freeze …").click()
    last.get_by_role("button", name="Freeze", exact=True).click()
    expect(last.locator("#freeze-answer")).to_contain_text("Frozen by")
    for window in windows:
        expect(window.locator("[data-part=cluster]")).to_contain_text("Frozen")
    served.client.delete("/freeze")
    for window in windows[:3]:  # their streams are left to others
        window.close()
    for window in windows[3:]:
        expect(window.locator("[data-part=cluster]")).not_to_contain_text("Frozen")
        moves(window, run)


def test_what_a_person_has_opened_stays_open_while_the_page_changes(
    page: Page, served: Serve, run: str
) -> None:
    page.goto("/")
    page.get_by_text("Filter", exact=True).click()
    page.get_by_role("textbox", name="Migration").fill("half typed")
    first = number(page, run)
    eventually(lambda: number(page, run) > first)
    expect(page.get_by_role("textbox", name="Migration")).to_have_value("half typed")
    expect(page.get_by_role("textbox", name="Migration")).to_be_focused()


def test_filters_are_in_the_address(page: Page, served: Serve, run: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="All but completed").click()
    expect(page).to_have_url(re.compile(r"/\?status=queued,running,.*failed$"))
    expect(page.locator(f"#run-{run}")).to_be_visible()
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("rollback").check()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name="No run is like that")).to_be_visible()
    assert "migration=" not in page.url
    page.reload()
    expect(page.get_by_label("rollback")).to_be_checked()
    screenshot(page, "runs-none")
    assert not faults_of(page)
    page.get_by_role("link", name="Show all of them").click()
    expect(page.locator(f"#run-{run}")).to_be_visible()


def test_people_freeze_everything_and_lift_it(visit: Visit, served: Serve, run: str, docs: Docs) -> None:
    page = visit(served, "operate")
    page.goto("/")
    page.get_by_text("Freeze …").click()
    page.get_by_label("Why; runs that wait will say it").fill("peak season")
    page.get_by_role("button", name="Freeze", exact=True).click()
    expect(page.locator("#freeze-answer")).to_contain_text(
        "Frozen by api:operate-2@127.0.0.1, until somebody lifts it"
    )
    expect(page.locator(".cluster")).to_contain_text("Frozen until it is lifted")
    expect(page.locator(".cluster")).to_contain_text("peak season")
    expect(page.locator(f"#run-{run} .reason")).to_contain_text("peak season")
    expect(page.locator(f"#run-{run}")).to_contain_text("Waiting")
    screenshot(page, "runs-frozen")
    assert not faults_of(page)
    page.get_by_text("Freeze …").click()
    page.get_by_role("button", name="Lift what is in force").click()
    expect(page.locator("#freeze-answer")).to_contain_text("Lifted by api:operate-2@127.0.0.1")
    expect(page.locator(".cluster")).not_to_contain_text("Frozen")


def test_who_may_only_read_sees_no_button(visit: Visit, served: Serve, run: str) -> None:
    page = visit(served, "read")
    page.goto("/")
    expect(page.locator(f"#run-{run}")).to_be_visible()
    expect(page.get_by_text("Freeze …")).to_have_count(0)
    names = page.get_by_role("button").all_inner_texts()
    assert names in (["Log out"], ["Log out", "Show"])


def test_failures_are_new_until_they_were_seen(visit: Visit, served: Serve, run: str) -> None:
    page = visit(served)
    page.goto("/")
    expect(page.locator(f"#run-{run} [data-new]")).to_be_hidden()
    page.goto("/dashboard/frame")  # elsewhere: what was shown is remembered
    remembered: dict[str, Any] = page.evaluate("JSON.parse(localStorage.getItem('whimbrel.seen'))")
    assert remembered["runs"][run] == 0
    again = visit(served)
    again.add_init_script(
        f"localStorage.setItem('whimbrel.seen', JSON.stringify({{at: 1, runs: {{'{run}': -3}}}}))"
    )
    again.goto("/")
    expect(again.locator(f"#run-{run} [data-new]")).to_have_text("+3 new")


@pytest.mark.parametrize("width", [380, 3840])
def test_a_list_fits_any_screen(visit: Visit, served: Serve, run: str, width: int) -> None:
    page = visit(served, "admin", viewport={"width": width, "height": 900})
    page.goto("/")
    expect(page.locator(f"#run-{run}")).to_be_visible()
    assert not too_wide(page)
    screenshot(page, f"runs-{width}")
