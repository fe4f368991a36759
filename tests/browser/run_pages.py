"""What the tests of a run's pages share: migrations that fail on purpose, documents that hold markup."""

from typing import Any

from tests.browser.conftest import Docs
from tests.servers.serve import Serve

MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP} \x1b[31mred \"double\" 'single' &amp; `back`"
COUNT = 1200
BAD = 3  # documents of `split` that fail, the hostile one among them
SOURCE = """
from whimbrel import SKIP, Migration, migration

@migration(collection="people", filter={"name": {"$exists": True}}, undo=True, max_attempts=1)
def split(person):
    if "bad" in person:
        raise ValueError(person["bad"])
    if person["_id"] == 500:
        return {"$set": {"first": person["absent"]}}
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}} if last else SKIP

@migration(collection="orders", max_attempts=1)
def slow(order):
    if order["_id"] == 7:
        raise KeyError("customer")
    return {"$set": {"done": True}}

cents = Migration(name="cents", collection="products", update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}])
"""


def fill(docs: Docs) -> None:
    """Documents for the migrations of SOURCE."""
    docs["people"].insert_many(
        {"_id": key, "name": "Solo" if key % 10 == 0 else f"Ann{key} Bee"} for key in range(1, COUNT + 1)
    )
    docs["people"].update_one({"_id": 499}, {"$set": {"bad": "no such name"}})
    docs["people"].insert_one({"_id": HOSTILE, "name": HOSTILE, "bad": HOSTILE, MARKUP: {"deep": [MARKUP]}})
    docs["orders"].insert_many({"_id": key} for key in range(1, 30_001))
    docs["products"].insert_many({"_id": key, "price": key} for key in range(1, 301))


def start(served: Serve, migration: str, **options: Any) -> str:
    answer = served.client.post("/migrate", json={"migration": migration, **options})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["migrationId"])
