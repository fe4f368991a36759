"""Health, workers, queues, schedules and the audit: what they show, and what people do there."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import TOKENS, Docs, Visit, environment, screenshot
from tests.browser.deciding import PHONE, WIDE, good_for_everybody
from tests.servers.serve import Serve, eventually
from whimbrel.samples.seeder import documents

PAGES = ("health", "workers", "queues", "schedules", "audit")
LOST = {
    "_id": "far-away:7:0a0a", "host": "far-away", "pid": 7, "version": "0.0.9", "slots": 2, "only": None, "code": [{"migration": "some-model", "hash": "0000000000000000"}],
    "done": 41, "inHand": [{"batch": "20261124-abcdef.7", "since": None}], "refuses": [], "format": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """It watches the database's health."""
    changes = {"WHIMBREL_HEALTH": "on"}
    with Serve(environment(mongo_uri, docs, **changes), tmp_path_factory.mktemp("serve"), "--workers", "1", token=TOKENS["admin"]) as server:  # fmt: skip
        server.wait()
        yield server


def failed(served: Serve, docs: Docs) -> str:
    """A run with dead failures."""
    docs["somemodels"].create_index([("status", 1), ("_id", 1)])
    docs["somemodels"].insert_many(list(documents(30)) + list(documents(3, invalid=1.0, seed=2)))
    served.client.patch("/health/signals/read-canary", json={"ignoreSeconds": 3600})
    run: str = served.client.post("/migrate", json={}).json()["migrationId"]
    assert served.ended(run)["failed"] == 3
    return run


def test_a_signal_is_overridden_with_an_end_and_heeded_again(page: Page, served: Serve) -> None:
    page.goto("/dashboard/health")
    card = page.locator('[data-signal="disk-used"]')
    expect(card).to_contain_text("Slower from")
    expect(card).to_contain_text("dbStats")
    expect(card.locator("svg.multiple polyline").first).to_be_attached()
    card.get_by_role("link", name="Override").click()
    form = page.locator("#override-form")
    expect(form.locator("select[name=signal]")).to_have_value("disk-used")
    form.get_by_label("Ignore it for").select_option("900")
    form.get_by_label(re.compile("Why")).fill("a backup is written")
    form.get_by_role("button").click()
    expect(form.locator(".answer")).to_contain_text("Runs ignore disk-used until")
    expect(card).to_contain_text("A person lets runs ignore it until")
    ignored = [each for each in served.get("/health/signals")["signals"] if each["name"] == "disk-used"]
    assert ignored[0]["ignoredUntil"] is not None
    screenshot(page, "health-overridden")
    card.get_by_role("button", name="Take back").click()
    expect(card.get_by_role("link", name="Override")).to_be_visible()
    audit = served.get("/audit", params={"action": "health"})["entries"]
    assert [each["why"] for each in audit if "disk-used ignored" in each["what"]] == ["a backup is written"]
    page.goto("/dashboard/health?signal=member-lag")
    expect(page.locator("#override-form select[name=signal]")).to_have_value("member-lag")


def test_thresholds_are_changed(page: Page, served: Serve, quiet: list[str]) -> None:
    quiet.append("409")
    page.goto("/dashboard/health?signal=cache-used")
    page.get_by_text("Change its thresholds").click()
    form = page.locator("#thresholds-form")
    form.get_by_label("Slower from").fill("99")
    form.get_by_role("button").click()
    expect(form.locator(".answer.bad")).to_be_visible()
    form.get_by_label("Slower from").fill("80")
    form.get_by_role("button").click()
    expect(page.locator('[data-signal="cache-used"]')).to_contain_text("80%")


def test_workers_alive_and_lost_and_with_other_code(page: Page, served: Serve, docs: Docs) -> None:
    page.goto("/dashboard/workers")
    expect(page.locator("main")).to_contain_text("1worker processes are alive")
    docs["whimbrel_workers"].update_one({"_id": LOST["_id"]}, [{"$set": {**LOST, "startedAt": "$$NOW", "seenAt": {"$add": ["$$NOW", 60_000]}}}], upsert=True)  # fmt: skip
    expect(page.locator("tr.mismatched")).to_contain_text("not the code of this server")
    screenshot(page, "workers-mismatch")
    docs["whimbrel_workers"].update_one({"_id": LOST["_id"]}, [{"$set": {"seenAt": {"$subtract": ["$$NOW", 60_000]}}}])  # fmt: skip
    gone = page.locator("tr.gone")
    expect(gone).to_contain_text("far-away:7:0a0a")
    expect(gone).to_contain_text("20261124-abcdef.7")
    screenshot(page, "workers-lost")


def test_queues_without_a_broker_and_dead_failures_are_replayed(page: Page, served: Serve, docs: Docs) -> None:  # fmt: skip
    run = failed(served, docs)
    page.goto("/dashboard/queues")
    expect(page.locator("main")).to_contain_text("There is no broker")
    row = page.locator("[data-part=dead] tr", has_text=run)
    expect(row).to_contain_text("3")
    screenshot(page, "queues-dead")
    docs["somemodels"].update_many({"data": {"$type": "string"}}, {"$set": {"data": {}}})
    page.get_by_role("button", name="Replay").click()
    expect(page.locator("#replay-form .answer")).to_contain_text("3 dead failures are tried again")
    expect(page.locator("[data-part=dead]")).to_contain_text("There are no dead letters")
    assert served.ended(run)["status"] == "completed"
    page.get_by_role("button", name="Stop consumers").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop them").click()
    expect(page.locator("[data-part=queues]")).to_contain_text("A person has stopped all consumers")
    page.get_by_role("button", name="Start consumers", exact=True).click()
    expect(page.locator("[data-part=queues]")).not_to_contain_text("A person has stopped all consumers")


def test_a_schedule_is_made_and_the_week_is_shown(page: Page, served: Serve, docs: Docs) -> None:
    page.goto("/dashboard/schedules")
    form = page.locator("#schedule-form")
    form.get_by_label("Name").fill("nightly")
    form.locator("select[name=migration]").select_option("some-model")
    form.get_by_label(re.compile("Cron")).fill("0 3 * * *")
    form.get_by_label("Time zone").fill("Europe/Berlin")
    form.get_by_label(re.compile("Windows")).fill("22:00-06:00 Europe/Berlin")
    form.get_by_role("button", name="Save").click()
    row = page.locator("#schedule-nightly")
    expect(row).to_contain_text("Enabled")
    expect(page.locator(".week-line", has_text="nightly")).to_contain_text("due 7 times")
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    for begins in (soon, soon.replace(year=soon.year + 100)):  # the second is no part of the week
        body = {"from": begins.isoformat().replace("+00:00", "Z"), "note": f"peak season {begins.year}"}
        assert served.client.post("/freeze", json=body).status_code == 201
    missed = {"at": soon, "first": soon, "outcome": "missed", "run": None, "reason": "No scheduler was there.", "decidedAt": soon}  # fmt: skip
    docs["whimbrel_schedules"].update_one({"_id": "nightly"}, {"$push": {"history": missed}})
    page.reload()
    expect(page.locator(".week-line").first).to_contain_text(f"Frozen: peak season {soon.year} ")
    expect(page.locator(".week-line").first).not_to_contain_text(str(soon.year + 100))
    expect(page.locator("[data-part=ticks]")).to_contain_text("No scheduler was there.")
    expect(row).to_contain_text("Missed")
    screenshot(page, "schedules")


def test_a_schedule_is_run_disabled_and_deleted(page: Page, served: Serve, docs: Docs) -> None:
    docs["somemodels"].insert_many(list(documents(5, seed=3)))
    body = {"migration": "some-model", "cron": "0 3 * * *", "windows": ["22:00-06:00 UTC"], "filters": {"n": None, "a": None}, "stages": ["10%", "100%"], "holdSeconds": 1}  # fmt: skip
    served.client.put("/migrate/scheduler/schedules/weekly", json=body)
    page.goto("/dashboard/schedules")
    row, answer = page.locator("#schedule-weekly"), page.locator("#schedule-answer")
    row.get_by_role("button", name="Run now").click()
    page.get_by_role("dialog").get_by_role("button", name="Run it now").click()
    expect(answer).to_contain_text(re.compile("Run [0-9]{8}-"))
    expect(row).to_contain_text("By hand, by api:")
    row.get_by_role("button", name="Disable").click()
    expect(row).to_contain_text("Disabled")
    schedule = served.get("/migrate/scheduler/schedules/weekly")["schedule"]
    assert {name: schedule[name] for name in body} == body
    assert (schedule["enabled"], list(schedule["filters"])) == (False, ["n", "a"])
    row.get_by_role("button", name="Change").click()
    expect(page.locator("#schedule-form").get_by_label("Name")).to_have_value("weekly")
    row.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Delete it")).to_be_disabled()
    dialog.get_by_role("textbox").fill("weekly")
    dialog.get_by_role("button", name="Delete it").click()
    expect(row).not_to_be_attached()


def test_the_audit_by_filters_in_the_address(page: Page, served: Serve) -> None:
    for _ in range(60):
        served.client.patch("/health/signals/disk-used", json={"ignoreSeconds": 0})
    page.goto("/dashboard/audit")
    page.get_by_label("Kind").select_option("health")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"/dashboard/audit\?action=health$"))
    expect(page.locator("tbody tr").first).to_contain_text("signal disk-used no longer ignored")
    assert set(page.locator('tbody td[data-label="Kind"]').all_inner_texts()) == {"health"}
    page.goto("/dashboard/audit?actor=nobody")
    expect(page.locator(".empty")).to_contain_text("Nobody did anything that these filters let through")
    page.goto("/dashboard/audit")
    newest = page.locator("tbody tr").first.get_attribute("id")
    page.get_by_role("link", name="Older").click()
    expect(page).to_have_url(re.compile("cursor="))
    expect(page.locator("tbody tr").first).to_be_visible()
    expect(page.locator(f"#{newest}")).to_have_count(0)
    page.goto("/dashboard/audit?from=soon")
    expect(page.get_by_role("alert").first).to_contain_text("Give a time such as")


def test_what_a_smaller_scope_sees(visit: Visit, served: Serve) -> None:
    reader = visit(served, "read")
    for name in PAGES:
        reader.goto(f"/dashboard/{name}")
        expect(reader.get_by_role("heading", level=1)).to_be_visible()
        buttons = reader.locator("main button").all_inner_texts()
        assert buttons == (["Show"] if name == "audit" else []), name


@pytest.mark.parametrize("name", PAGES)
def test_for_everybody(visit: Visit, served: Serve, name: str) -> None:
    """By axe, on a phone, within a bound of bytes and nodes; without JavaScript."""
    eventually(lambda: served.get("/health/signals")["age"] is not None)
    page, phone = visit(served, viewport=WIDE), visit(served, viewport=PHONE)
    for each in (page, phone):
        each.goto(f"/dashboard/{name}")
    good_for_everybody(page, phone, name)
    assert page.evaluate("document.querySelectorAll('*').length") < 3000
    assert len(served.client.get(f"/dashboard/{name}", headers={"Accept": "text/html"}).content) < 100_000
    plain = visit(served, java_script_enabled=False)
    plain.goto(f"/dashboard/{name}")
    assert plain.locator("main").inner_text()
