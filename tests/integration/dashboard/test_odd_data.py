"""Pages over what nobody expects in a database: names of collections that are addresses and markup, values of every type, deep and large ones."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from bson import Binary, Code, DatetimeMS, DBRef, Decimal128, Int64, MaxKey, MinKey, Regex, Timestamp

from tests.integration.api.conftest import TOKENS
from tests.integration.dashboard.conftest import ALL, BROWSER, Docs
from tests.servers.serve import Serve

COLLECTION = "a/b?c#d%20 &+.<i>é\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH SPACE}"
SHOWN = r"a/b?c#d%20 &+.<i>é\u202e\u200b"
LONG_NAME = "n" * 60
SOURCE = f"""
from whimbrel import migration

@migration(name={LONG_NAME!r}, collection={COLLECTION!r}, undo=True, max_attempts=1)
def odd(document):
    raise type(document["error"], (ValueError,), {{}})("no")

@migration(collection="few", undo=True)
def few(document):
    return {{"$set": {{"done": True}}}}
"""


def deep(levels: int) -> Any:
    found: Any = {"bottom": 1}
    for level in range(levels):
        found = {f"l{level}": found} if level % 2 else [found]
    return found


# What the page of a cause shows of a document's values.
VALUES: list[tuple[str, Any, str]] = [
    ("not a number", float("nan"), "value: NaN"),
    ("a double", 5.0, "value: 5.0"),
    ("a long", Int64(5), "value: NumberLong(5)"),
    ("a decimal", Decimal128("1E+6144"), 'value: NumberDecimal("1.000'),
    ("bytes", Binary(b"\0\xff", 128), '"$binary"'),
    ("a reference", DBRef("c", 1, "db"), '"$ref": "c"'),
    ("an expression", Regex("<b>.*", "im"), 'pattern: "<b>.*"'),
    ("ends", [MinKey(), MaxKey(), Timestamp(1, 2), Code("f()", {"a": 1})], '"$minKey"'),
    ("a far date", DatetimeMS(2**62), f"ISODate({2**62})"),
    ("names", {"": 1, "a.b": 2, "$x": 3, "$date": "no"}, '"$x": 3'),
    ("100 levels", deep(100), "bottom: 1"),
    ("a megabyte", "x" * 1_000_000, "has 1.0 MB and is not shown"),
]


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "odd.py").write_text(SOURCE, encoding="utf-8")
    docs["few"].insert_one({"_id": 1})
    docs[COLLECTION].insert_many(
        {"_id": why, "error": f"Error{number}", "value": value}
        for number, (why, value, _) in enumerate(VALUES)
    )
    environment = {
        "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "API_TOKENS": ALL, "WHIMBREL_MIGRATIONS": str(folder / "odd.py"),
    }  # fmt: skip
    with Serve(environment, folder, "--workers", "1", token=TOKENS["admin"]) as server:
        server.wait()
        yield server


@pytest.fixture
def browser(served: Serve) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=served.url, headers=BROWSER | {"Origin": served.url}, timeout=60) as client:
        assert client.post("/dashboard/login", data={"token": TOKENS["admin"]}).status_code == 303
        yield client


@pytest.fixture(scope="module")
def run(served: Serve) -> str:
    asked = {
        "migration": LONG_NAME,
        "maxFailures": "off",
        "maxFailureRate": "off",
        "maxNewCause": "off",
        "force": True,
    }
    answer = served.client.post("/migrate", json=asked)
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["migrationId"]
    assert served.ended(found)["status"] == "completed_with_failures"
    return found


def page(browser: httpx2.Client, address: str) -> str:
    answer = browser.get(address)
    assert answer.status_code == 200, address
    assert len(answer.content) < 100_000, address
    for character in "\N{RIGHT-TO-LEFT OVERRIDE}\N{ZERO WIDTH SPACE}":
        assert character not in answer.text, address
    assert "<i>" not in answer.text, address
    return unescape(answer.text)


def test_every_page_can_show_a_collection_of_any_name(browser: httpx2.Client, run: str) -> None:
    listed = page(browser, f"/?collection={quote(COLLECTION, safe='')}")
    assert f'data-run="{run}"' in listed
    for address in (
        "/", f"/dashboard/runs/{run}", f"/dashboard/runs/{run}/causes", f"/dashboard/runs/{run}/batches/1", f"/dashboard/runs/{run}/report",
        f"/dashboard/runs/{run}/rollback?plan=1", f"/dashboard/runs/{run}/cleanup?plan=1", f"/dashboard/audit?run={run}",
        f"/dashboard/start?migration={LONG_NAME}&plan=1", "/dashboard/schedules", "/dashboard/workers", "/dashboard/queues",
    ):  # fmt: skip
        shown = page(browser, address)
        assert SHOWN in shown or "collection" not in shown, address


@pytest.mark.parametrize(("why", "expected"), [(why, text) for why, _, text in VALUES])
def test_the_values_of_a_failed_document_are_shown_with_their_types(
    browser: httpx2.Client, served: Serve, run: str, why: str, expected: str
) -> None:
    groups = served.get(f"/migrate/failures/{run}")["groups"]
    cause = next(each["group"] for each in groups if each["example"] == why)
    found = page(browser, f"/dashboard/runs/{run}/causes/{cause}")
    assert expected in found


def test_a_migration_that_always_keeps_before_images_is_not_said_to_be_final(browser: httpx2.Client) -> None:
    found = page(browser, "/dashboard/start?migration=few&plan=1")
    assert re.search(r"<b>1</b> document of the collection", found)
    assert "cannot be rolled back" not in found
