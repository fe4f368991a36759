"""The pages of a run, on real runs with failures: read without JavaScript, by keyboard, on a phone, in light and dark, printed; nothing of a document is markup."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.accessibility import faults_of, too_wide
from tests.browser.conftest import TOKENS, Docs, Visit, environment, screenshot
from tests.browser.run_pages import BAD, COUNT, HOSTILE, MARKUP, SOURCE, fill, start
from tests.servers.serve import Serve, eventually


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "people.py").write_text(SOURCE)
    fill(docs)
    changes = environment(mongo_uri, docs, WHIMBREL_MIGRATIONS=str(folder / "people.py"))
    with Serve(changes, folder, "--workers", "1", token=TOKENS["admin"]) as server:
        server.wait()
        yield server


@pytest.fixture(scope="module")
def failed(served: Serve) -> str:
    """A run that has completed with failures, in batches of 100, and was verified."""
    run = start(served, "split", batchSize=100)
    assert served.ended(run)["failed"] == BAD
    verification = served.client.post(f"/migrate/verify/{run}", json={}).json()["migrationId"]
    assert served.ended(verification)["status"].startswith("completed")
    return run


@pytest.fixture(scope="module")
def busy(served: Serve) -> str:
    """A run that takes longer than these tests, by its rate."""
    run = start(served, "slow", batchSize=50, maxDocsPerSecond=40)
    eventually(lambda: served.run(run)["processedItems"] > 0)
    return run


def pages(failed: str, served: Serve) -> list[str]:
    group = served.get(f"/migrate/failures/{failed}")["groups"][0]["group"]
    run = f"/dashboard/runs/{failed}"
    return [run, f"{run}/causes", f"{run}/causes/{group}", f"{run}/batches/1", f"{run}/report"]


def number(text: str) -> int:
    return int(re.sub(r"[^0-9]", "", text))


def test_pages_can_be_read_without_javascript(visit: Visit, served: Serve, failed: str) -> None:
    page = visit(served, java_script_enabled=False)
    run, causes, _, batch, report = pages(failed, served)
    page.goto(run)
    expect(page.get_by_role("heading", level=1)).to_have_text("split")
    expect(page.locator(".run-state")).to_contain_text("completed with failures")
    table = page.locator("[data-part=run_outcomes] table")
    parts = [number(each) for each in table.locator("tbody td:nth-child(2)").all_inner_texts()]
    assert sum(parts) == number(table.locator("tfoot td").first.inner_text()) == COUNT + 1
    assert parts == [COUNT + 1 - COUNT // 10 - BAD + 1, 0, COUNT // 10 - 1, BAD, 0, 0]
    expect(page.locator("[data-part=run_causes] tbody tr")).to_have_count(3)
    expect(page.locator("[data-part=run_audit]")).to_contain_text("run added")
    page.get_by_text("The same as a table").click()
    expect(page.locator("[data-part=run_course] tbody tr").first).to_contain_text("UTC")
    page.goto(causes)
    expect(page.locator("table.causes tbody tr")).to_have_count(3)
    page.goto(batch)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Batch 1")
    expect(page.locator("main")).to_contain_text("the beginning of the collection")
    page.goto(report)
    expect(page.locator(".proofs tbody tr").filter(has_text="ranges tile")).to_contain_text("proved")


def test_what_documents_hold_is_only_ever_text(page: Page, served: Serve, failed: str) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a script of a document ran: {dialog.message}"))
    groups = served.get(f"/migrate/failures/{failed}")["groups"]
    hostile = next(each for each in groups if each["example"] == HOSTILE)
    for path in (f"/dashboard/runs/{failed}", f"/dashboard/runs/{failed}/causes/{hostile['group']}"):
        page.goto(path)
        main = page.locator("main")
        expect(main).to_contain_text(MARKUP)
        expect(main).to_contain_text("\\x1b[31mred")
        assert page.locator("main img").count() == 0
        assert "\x1b" not in page.content()
    expect(page.get_by_label("Values now")).to_contain_text(f'"{MARKUP}": {{')
    expect(page.get_by_label("Stack")).to_contain_text('raise ValueError(person["bad"])')
    expect(page.get_by_label("Message")).to_contain_text("\"double\" 'single' &amp; `back`")


def test_axe_finds_nothing_serious_and_nothing_is_wider_than_a_phone(
    visit: Visit, served: Serve, failed: str, busy: str
) -> None:
    page = visit(served, viewport={"width": 380, "height": 800})
    for path in (*pages(failed, served), f"/dashboard/runs/{busy}"):
        answer = page.goto(path)
        assert answer is not None
        assert len(answer.body()) < 100_000
        expect(page.locator("#age")).to_contain_text("Live")
        screenshot(page, f"run-{path.rpartition('/')[2]}")
        assert too_wide(page) == [], path
        assert faults_of(page) == [], path
        assert page.evaluate("document.querySelectorAll('*').length") < 3000


def test_progress_and_the_strip_follow_the_run(page: Page, busy: str) -> None:
    page.goto(f"/dashboard/runs/{busy}")
    done = page.locator('[data-live="processedItems"]')
    first = done.inner_text()
    expect(done).not_to_have_text(first)
    expect(page.locator("#chart-rate path.chart-line")).to_have_count(1)
    page.locator("#chart-rate svg").press("ArrowLeft")
    expect(page.locator("#chart-rate output")).to_contain_text("documents/s")
    layer = page.get_by_role("slider", name="Cells of the key space")
    expect(layer).to_have_attribute("aria-valuetext", re.compile(r"cell 1 of [\d,]+: "))
    layer.focus()
    expect(page.locator("#strip-said")).to_contain_text("Batch 1, 50 documents, keys from the beginning")
    page.keyboard.press("End")
    expect(layer).to_have_attribute("aria-valuetext", re.compile("not planned|planned, not begun"))
    page.keyboard.press("Home")
    page.keyboard.press("f")
    expect(layer).to_have_attribute("aria-valuetext", re.compile("with .*failures"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Batch 1")


# Each number lives for less than a second: whoever looks from outside may come too late for the first.
NOTE_DRAWN = """
window.drawn = [];
new MutationObserver((all) => window.drawn.push(...all.map((each) => each.target.dataset.changed)))
  .observe(document, { subtree: true, attributeFilter: ["data-changed"] });
"""


def test_only_cells_that_have_changed_are_drawn(page: Page, busy: str) -> None:
    page.add_init_script(NOTE_DRAWN)
    page.goto(f"/dashboard/runs/{busy}?cells=10000")

    def drawn() -> list[str]:
        found: list[str] = page.evaluate("window.drawn")
        return found

    # What the run has done since
    eventually(lambda: any(re.fullmatch(r"\d{1,3}", each) for each in drawn()[1:]))
    assert re.fullmatch(r"\d{4,5}", drawn()[0]), "all of them, at first"


def test_a_run_is_paused_changed_resumed_and_cancelled(
    page: Page, served: Serve, busy: str, quiet: list[str]
) -> None:
    quiet.append("422")  # windows that cannot be
    page.goto(f"/dashboard/runs/{busy}")
    answer, state = page.locator("#run-answer"), page.locator(".run-state")
    page.get_by_role("button", name="Pause").click()
    expect(state).to_contain_text("paused")
    expect(answer).to_contain_text(re.compile(r"Pause: asked.*It is paused now\."))
    assert served.run(busy)["status"] == "paused"

    page.get_by_text("Change", exact=True).click()
    page.get_by_label("Rate, documents/s").fill("35")
    page.get_by_role("textbox", name=re.compile("^Nice")).fill("1")
    page.get_by_role("textbox", name=re.compile("^Windows")).fill("00:00-24:00 UTC")
    page.get_by_role("button", name="Store").click()
    expect(page.locator("#settings-answer")).to_contain_text("Settings: asked")
    expect(page.locator("[data-part=run_settings]")).to_contain_text("35 documents/s at most")
    now = served.run(busy)
    assert (now["maxDocsPerSecond"], now["nice"], now["windows"]) == (35, 1, ["00:00-24:00 UTC"])
    page.get_by_role("textbox", name=re.compile("^Windows")).fill("whenever")
    page.get_by_role("button", name="Store").click()
    expect(page.locator("#settings-answer")).to_have_class(re.compile("bad"))

    page.get_by_role("button", name="Resume").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(re.compile(r"[\d,]+ documents of .*\.orders \("))
    dialog.get_by_role("button", name="Resume").click()
    expect(state).to_contain_text("running")
    expect(page.locator("[data-part=run_audit]")).to_contain_text("settings changed")

    page.get_by_role("button", name="Cancel").click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Cancel for good")
    expect(confirm).to_be_disabled()
    page.get_by_role("dialog").get_by_role("textbox").fill("slow")
    confirm.click()
    expect(state).to_contain_text("cancelled")
    expect(answer).to_contain_text("It is cancelled now.")
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_a_stage_is_approved(page: Page, served: Serve) -> None:
    run = start(served, "cents", stages=["50", "100%"], approve=True, batchSize=50)
    page.goto(f"/dashboard/runs/{run}")
    expect(page.locator("[data-part=run_stages]")).to_contain_text("approval")
    page.get_by_role("button", name="Approve the stage").click()
    page.get_by_role("dialog").get_by_role("button", name="Approve the stage").click()
    expect(page.locator(".run-state")).to_contain_text("completed")
    expect(page.locator("[data-part=run_stages]")).to_contain_text("approved by")


def test_a_cause_is_accepted_withdrawn_mended_and_retried(
    page: Page, served: Serve, docs: Docs, failed: str
) -> None:
    groups = served.get(f"/migrate/failures/{failed}")["groups"]
    mended = next(each for each in groups if each["example"] == 499)
    page.goto(f"/dashboard/runs/{failed}/causes/{mended['group']}")
    page.get_by_label("accept it, with a note").fill("known, see the wiki")
    page.get_by_role("button", name="Accept this cause").click()
    expect(page.locator("[data-part=cause_figures]")).to_contain_text("Note: known, see the wiki")
    page.get_by_role("button", name="Accept it no longer").click()
    page.get_by_role("dialog").get_by_role("button", name="Accept no longer").click()
    expect(page.locator("[data-part=cause_figures]")).not_to_contain_text("Note:")
    docs["people"].update_one({"_id": 499}, {"$unset": {"bad": 1}})
    page.get_by_role("button", name="Retry these 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.locator("#cause-answer")).to_contain_text("1 failure is open again")
    expect(page.locator("[data-part=cause_figures] dl div").nth(2)).to_contain_text("1")
    assert served.ended(failed)["failed"] == BAD - 1
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON lines").click()
    assert Path(download.value.path()).read_text().count("\n") == 1


def test_the_report_is_verified_again_and_printed(page: Page, served: Serve, failed: str) -> None:
    page.goto(f"/dashboard/runs/{failed}/report")
    expect(page.locator(".verdict")).to_contain_text("Verified")
    expect(page.locator("main tfoot").first).to_contain_text("adds up")
    before = page.locator(".verdict a").inner_text()
    page.get_by_role("button", name="Verify again").click()
    page.get_by_role("dialog").get_by_role("button", name="Verify").click()
    expect(page.locator("#report-answer")).to_contain_text("Verify: asked")
    expect(page.locator(".verdict a")).not_to_have_text(before)
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print")).not_to_be_visible()
    expect(page.get_by_role("heading", name="What was checked")).to_be_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_who_may_only_read_sees_no_button_and_no_values(visit: Visit, served: Serve, failed: str) -> None:
    page = visit(served, "read")
    for path in pages(failed, served):
        page.goto(path)
        expect(page.locator("#age")).to_contain_text("Live")
        assert page.locator("main [data-act]").count() == 0, path
    group: dict[str, Any] = served.get(f"/migrate/failures/{failed}")["groups"][0]
    page.goto(f"/dashboard/runs/{failed}/causes/{group['group']}")
    expect(page.locator("main")).to_contain_text("shown to tokens of the scope operate")
