"""From a definition to a run, to its rollback and cleanup, by the pages alone: nothing starts that was not seen and confirmed."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import TOKENS, Docs, Visit, environment, screenshot
from tests.browser.deciding import MARKUP, MIGRATIONS, PHONE, WIDE, good_for_everybody, tab_to
from tests.servers.serve import Serve

PEOPLE = 120
Data = dict[str, Any]


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """With migrations of its own."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "people.py").write_text(MIGRATIONS)
    changes = {"WHIMBREL_MIGRATIONS": str(folder / "people.py")}
    with Serve(environment(mongo_uri, docs, **changes), folder, "--workers", "1", token=TOKENS["admin"]) as server:  # fmt: skip
        server.wait()
        yield server


@pytest.fixture(autouse=True)
def people(docs: Docs) -> None:
    """Documents, one with values that are markup and escapes."""
    docs["people"].drop()
    docs["people"].insert_many([{"_id": number, "name": f"Ada {number}"} for number in range(PEOPLE)])
    docs["people"].insert_one({"_id": MARKUP, "name": f"{MARKUP} {'long ' * 100}", "title": f" {MARKUP}"})
    docs["products"].drop()
    docs["products"].insert_many([{"_id": number, "price": number} for number in range(40)])


def phrase_of(page: Page) -> str:
    return page.locator("#confirm-form").get_attribute("data-phrase") or ""


def confirm(page: Page, text: str) -> None:
    page.locator("#confirm-form input").fill(text)
    page.locator("#confirm-form button").click()


def started(page: Page) -> str:
    """The run that was started, once it has ended."""
    link = page.locator("#started a")
    expect(link).to_be_visible()
    expect(page.locator("#started [data-status^=completed]")).to_be_visible()
    return (link.get_attribute("href") or "").rpartition("/")[2]


def runs(served: Serve) -> int:
    found: int = served.get("/migrate")["count"]
    return found


def test_the_whole_way(page: Page, served: Serve, docs: Docs) -> None:
    before, people = runs(served), list(docs["people"].find().sort("_id", 1))
    page.goto("/dashboard/start")
    page.get_by_role("radio", name=re.compile("split-name")).check()
    page.get_by_label(re.compile("Keep before-images")).check()
    page.get_by_role("button", name="Try it on a sample").click()
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    assert "migration=split-name" in page.url
    plan = page.locator("#plan")
    expect(plan).to_contain_text(f"{PEOPLE + 1}documents in {docs.name}.people")
    expect(plan).to_contain_text("predicted")
    diff = plan.locator(
        "table.diff", has_text="title"
    )  # of the only document that changes there: it is shown beside the others
    expect(diff.locator("tr.removed .old")).to_contain_text("<img src=x onerror=")
    for side in ("old", "new"):
        expect(diff.locator(f"tr.changed .{side}")).to_contain_text("<img src=x onerror=")
    assert plan.locator("img").count() == 0
    assert "\u202e" not in plan.inner_text()
    screenshot(page, "start-plan")
    phrase = phrase_of(page)
    assert phrase.startswith(f"{PEOPLE + 1} {docs.name}.people ")
    for wrong in ("yes", phrase.replace("1", "2", 1), f"{PEOPLE + 1} {docs.name}.people", phrase.replace("people", "products")):  # fmt: skip
        confirm(page, wrong)
        expect(page.locator("#started")).to_contain_text("Nothing was started")
    assert runs(served) == before
    confirm(page, phrase)
    run = started(page)
    assert served.run(run)["changed"] == PEOPLE + 1
    assert docs["people"].count_documents({"first": "Ada"}) == PEOPLE

    docs["people"].update_one({"_id": 3}, {"$set": {"last": "Lovelace"}})
    page.goto(f"/dashboard/runs/{run}/rollback")
    expect(page.locator("#plan")).to_contain_text("1would be left alone")
    expect(page.locator("#plan")).to_contain_text("changed since: last")
    confirm(page, phrase_of(page))
    back = served.run(started(page))
    assert (back["changed"], back["conflicts"]) == (PEOPLE, 1)
    restored = {each["_id"]: each for each in docs["people"].find()}
    assert [each for each in people if restored[each["_id"]] != each] == [people[3]]


def test_what_is_cleaned_up_is_said_to_be_lost(page: Page, served: Serve, docs: Docs) -> None:
    run = served.client.post("/migrate", json={"migration": "price-in-cents"}).json()["migrationId"]
    assert served.ended(run)["status"] == "completed"
    page.goto(f"/dashboard/runs/{run}/cleanup")
    expect(page.locator("#plan")).to_contain_text("40documents hold something of the run")
    expect(page.locator("#plan")).to_contain_text("could not be rolled back any more")
    expect(page.locator("#plan")).to_contain_text("would change the documents again")
    screenshot(page, "cleanup")
    confirm(page, phrase_of(page))
    started(page)
    assert docs["products"].count_documents({"_whimbrel": {"$exists": True}}) == 0
    page.goto(f"/dashboard/runs/{run}/rollback")
    expect(page.get_by_role("alert").first).to_contain_text("has removed its before-images")
    assert page.locator("#confirm-form").count() == 0


def test_what_was_not_seen_is_not_started(page: Page, served: Serve, docs: Docs, quiet: list[str]) -> None:
    """Neither what is asked for now, but was not tried, nor the documents that have come since."""
    quiet.append("409")
    before = runs(served)
    page.goto("/dashboard/start?migration=price-in-cents&plan=1")
    phrase = phrase_of(page)
    page.get_by_label(re.compile("Filter in Extended JSON")).fill('{"price": {"$gt": 5}}')
    confirm(page, phrase)
    expect(page.locator("#started")).to_contain_text("has changed since it was tried")
    page.get_by_label(re.compile("Filter in Extended JSON")).fill("")
    docs["products"].insert_many([{"_id": number, "price": 1} for number in range(1000, 1500)])
    confirm(page, phrase)
    expect(page.locator("#started")).to_contain_text("540 documents now, and not 40: nothing was started")
    assert runs(served) == before
    page.get_by_label(re.compile("Filter in Extended JSON")).fill("{price")
    page.get_by_role("button", name="Try it on a sample").click()
    expect(page.locator("#plan [role=alert]")).to_contain_text("The filter is no JSON")


def test_by_the_keyboard_alone(page: Page, served: Serve, docs: Docs) -> None:
    page.goto("/dashboard/start")
    tab_to(page, page.get_by_role("radio", name=re.compile("some-model")))
    while not page.get_by_role("radio", name=re.compile("price-in-cents")).is_checked():
        page.keyboard.press("ArrowDown")
    tab_to(page, page.get_by_role("button", name="Try it on a sample"))
    page.keyboard.press("Enter")
    expect(page.locator("#confirm-form")).to_be_visible()
    tab_to(page, page.locator("#confirm-form input"))
    page.keyboard.type(phrase_of(page))
    page.keyboard.press("Enter")
    assert served.run(started(page))["changed"] == 40


def test_what_a_smaller_scope_sees(visit: Visit, served: Serve, docs: Docs) -> None:
    run = served.client.post("/migrate", json={"migration": "price-in-cents"}).json()["migrationId"]
    served.ended(run)
    reader = visit(served, "read")
    reader.goto("/dashboard/start?migration=price-in-cents&plan=1")
    expect(reader.locator("#plan")).to_contain_text("takes a token of the scope operate")
    expect(reader.get_by_role("button", name="Try it on a sample")).to_be_disabled()
    for kind in ("rollback", "cleanup"):
        reader.goto(f"/dashboard/runs/{run}/{kind}")
        expect(reader.locator("#plan")).to_contain_text("takes a token of the scope operate")
        assert reader.locator("main button").count() == 0
    operator = visit(served, "operate")
    operator.goto(f"/dashboard/runs/{run}/rollback")
    expect(operator.locator("#plan")).to_contain_text("Doing it takes a token of the scope admin")
    assert operator.locator("#confirm-form").count() == 0


@pytest.mark.parametrize("name", ["start", "rollback", "cleanup"])
def test_for_everybody(visit: Visit, served: Serve, docs: Docs, name: str) -> None:
    """By axe, on a phone, and without JavaScript."""
    path = "/dashboard/start?migration=split-name&plan=1"
    if name != "start":
        run = served.client.post("/migrate", json={"migration": "price-in-cents"}).json()["migrationId"]
        served.ended(run)
        path = f"/dashboard/runs/{run}/{name}"
    page, phone = visit(served, viewport=WIDE), visit(served, viewport=PHONE)
    for each in (page, phone):
        each.goto(path)
        expect(each.locator(".figures").first).to_be_visible()
    good_for_everybody(page, phone, name)
    plain = visit(served, java_script_enabled=False)
    plain.goto(path)
    if name == "start":
        assert "<img src=x onerror=" in plain.locator("table.diff", has_text="title").inner_text()
        return
    plain.get_by_role("link", name="Look at the documents now").click()
    expect(plain.locator("#plan .figures")).to_be_visible()
