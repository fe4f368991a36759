"""Pages of ten thousand runs, and of as many entries of the audit: as plain loops over the rows find them, and read from an index."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from tests.conftest import SHORT
from whimbrel.domain.runs.audit import AuditQuery
from whimbrel.domain.runs.run import Run, Scope
from whimbrel.domain.runs.run_query import RunQuery
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_pages import run_page
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]
Row = Mapping[str, Any]
BEGAN = datetime(2026, 11, 1, tzinfo=UTC).replace(tzinfo=None)  # as rows have it
STATES = [
    "queued", "running", "pausing", "paused", "cancelling", "cancelled", "completed", "completed_with_failures", "failed",
]  # fmt: skip
KINDS = ["migration", "rollback", "cleanup", "verification"]
AT_WORK, WAITS = ("running", "pausing", "cancelling"), ("queued", "paused")
MANY = 10_000
NEAR = 12  # documents that a query of a page of ten may fetch
RANGES = 4 * (9 * 5 * 2 + 10)  # keys: one or two for each range that is merged


@pytest.fixture(scope="module")
def many(mongo_uri: str, client: MongoClient[dict[str, Any]]) -> Iterator[tuple[MongoStore, Data]]:
    """As if started over a week: runs of all states and kinds, and entries of an earlier version, without what they are found by."""
    database = client[f"test_{secrets.token_hex(4)}"]
    with connected(mongo_uri, database.name, SHORT) as store:
        fill(store, database)
    with connected(mongo_uri, database.name, SHORT) as store:
        store.prepare()
        yield store, database
    client.drop_database(database.name)


def fill(store: MongoStore, database: Data) -> None:
    run = Run(
        id="sample", migration="", version=1, database=database.name, collection="", filter=b"\5\0\0\0\0", mark="marker", status_field="status",
        declarative=True, claim=False, adopt="ours", scope=Scope("all"), legs=("pending",), batch_size=1, max_attempts=1, retry_delay=1.0, timeout=1.0,
        code_hash="", created_at=BEGAN, updated_at=BEGAN,
    )  # fmt: skip
    store.ledger.runs.add(run, "test")
    (row,) = database["whimbrel_runs"].find()
    database["whimbrel_runs"].delete_many({})
    rows = [
        {
            **row, "_id": f"run-{number:05}", "status": STATES[number * 7 % 9], "kind": KINDS[number // 9 % 4],
            "migration": "rare" if number % 999 == 5 else f"name-{number % 3}", "ns": f"db.things{number % 2}",
            "createdAt": BEGAN + timedelta(minutes=number // 2),
        }
        for number in range(MANY)
    ]  # fmt: skip
    for old in rows[:100]:
        del old["kind"]
    database["whimbrel_runs"].insert_many(rows)
    database["whimbrel_audit"].delete_many({})
    database["whimbrel_audit"].insert_many(
        {
            "_id": ObjectId(), "at": BEGAN + timedelta(seconds=number // 3), "run": f"run-{number % 50}" if number % 2 else "", "why": "",
            "what": WHAT[number * 5 % len(WHAT)][0], "who": WHO[number % len(WHO)] if number % 1000 else "anna@laptop",
        }
        for number in range(MANY)
    )  # fmt: skip


WHAT = [
    ("run paused", "run"), ("POST /migrate/pause/run-1", "request"), ("settings changed", "settings"), ("stage 2 passed", "stage"),
    ("causes accepted: 2f1a9c3e", "failures"), ("12 dead failures opened", "failures"), ("freeze 1f3a5c7e lifted", "freeze"),
    ("thresholds of member-lag: as in the table", "health"), ("signal member-lag heeded", "health"), ("scheduler started", "schedule"),
    ("schedule nightly set", "schedule"), ("consumers stopped", "queue"), ("3 messages of app.retry.queue purged", "queue"), ("samples seeded", "samples"),
    ("run pruned", "maintenance"), ("ledger upgraded from format 2 to 3", "maintenance"), ("code a1 replaced by b2: people.py", "code"),
]  # fmt: skip
WHO = [
    "api:bert@10.0.0.7",
    "api:bert@10.0.0.8",
    "bert@laptop",
    "coordinator",
    "schedule:nightly",
    "host1:4711:1f3a",
]
NAMES = {
    "api:bert@10.0.0.7": "bert",
    "api:bert@10.0.0.8": "bert",
    "bert@laptop": "bert",
    "anna@laptop": "anna",
}


def zoned(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def naive(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return zoned(year, month, day, hour, minute).replace(tzinfo=None)


S = RunStatus
FILTERS: list[tuple[RunQuery, Callable[[Row], bool]]] = [
    (RunQuery(), lambda _: True),
    (RunQuery(statuses=[S.FAILED]), lambda row: row["status"] == "failed"),
    (RunQuery(statuses=[S.FAILED, S.PAUSED]), lambda row: row["status"] in ("failed", "paused")),
    (RunQuery(kinds=["rollback"]), lambda row: row.get("kind") == "rollback"),
    (RunQuery(kinds=["cleanup", "migration"]), lambda row: row.get("kind", "migration") in ("cleanup", "migration")),
    (RunQuery(migration="rare"), lambda row: row["migration"] == "rare"),
    (RunQuery(migration="none"), lambda _: False),
    (RunQuery(migration="rare", statuses=[S.FAILED]), lambda row: row["migration"] == "rare" and row["status"] == "failed"),
    (RunQuery(migration="name-1", kinds=["verification"]), lambda row: (row["migration"], row.get("kind")) == ("name-1", "verification")),
    (RunQuery(collections=["things1", "db.things1"]), lambda row: row["ns"] == "db.things1"),
    (
        RunQuery(collections=["db.things1"], statuses=[S.PAUSED], kinds=["cleanup"]),
        lambda row: (row["ns"], row["status"], row.get("kind")) == ("db.things1", "paused", "cleanup"),
    ),
    (RunQuery(since=zoned(2026, 11, 4)), lambda row: row["createdAt"] >= naive(2026, 11, 4)),
    (RunQuery(until=zoned(2026, 11, 1, 1)), lambda row: row["createdAt"] < naive(2026, 11, 1, 1)),
    (
        RunQuery(since=zoned(2026, 11, 2), until=zoned(2026, 11, 3), statuses=[S.RUNNING], kinds=["migration"]),
        lambda row: row["createdAt"].day == 2 and (row["status"], row.get("kind")) == ("running", "migration"),
    ),
]  # fmt: skip


def newest_first(database: Data) -> list[Row]:
    fields = {"status": 1, "kind": 1, "migration": 1, "ns": 1, "createdAt": 1}
    return sorted(
        database["whimbrel_runs"].find({}, fields),
        key=lambda row: (row["createdAt"], row["_id"]),
        reverse=True,
    )


def first_pages(
    store: MongoStore, query: RunQuery, *, limit: int, pages: int, order: Any = "newest"
) -> list[str]:
    found: list[str] = []
    cursor = None
    for _ in range(pages):
        page = run_page(store.ledger, query, order=order, cursor=cursor, limit=limit)
        found += [run.id for run in page.runs]
        cursor = page.cursor
        if cursor is None:
            break
    return found


@pytest.mark.parametrize(
    ("query", "wanted"), FILTERS, ids=lambda each: "" if callable(each) else str(each)[9:90]
)
def test_filtered_runs(many: tuple[MongoStore, Data], query: RunQuery, wanted: Callable[[Row], bool]) -> None:
    store, database = many
    rows = [row for row in newest_first(database) if wanted(row)]
    assert first_pages(store, query, limit=7, pages=3) == [row["_id"] for row in rows][:21]
    groups = [[row for row in rows if row["status"] in group] for group in (AT_WORK, WAITS)]
    over = [row for row in rows if row["status"] not in AT_WORK + WAITS]
    in_order = [row["_id"] for group in (*groups, over) for row in group]
    assert first_pages(store, query, limit=1000, pages=1, order="active") == in_order[:1000]


def test_pages_of_any_size_join_without_gap_or_repetition(many: tuple[MongoStore, Data]) -> None:
    store, database = many
    rows = [row for row in newest_first(database) if row["migration"] == "rare"]
    whole = first_pages(store, RunQuery(migration="rare"), limit=1000, pages=1, order="active")
    assert sorted(whole) == sorted(row["_id"] for row in rows)
    assert len(whole) > 8
    for limit in (1, 2, 3, 5):
        assert first_pages(store, RunQuery(migration="rare"), limit=limit, pages=100, order="active") == whole


def examined(database: Data, collection: str, ask: Callable[[], Any]) -> list[tuple[int, int, bool]]:
    """Of each query: documents and keys that were looked at, and whether MongoDB had to sort."""
    database.command("profile", 2)
    try:
        ask()
    finally:
        database.command("profile", 0)
    rows = list(
        database["system.profile"].find(
            {"ns": f"{database.name}.{collection}", "op": {"$in": ["query", "command"]}}
        )
    )
    database.drop_collection("system.profile")
    return [
        (row.get("docsExamined", 0), row.get("keysExamined", 0), bool(row.get("hasSortStage")))
        for row in rows
    ]


@pytest.mark.parametrize("query", [query for query, _ in FILTERS], ids=lambda each: str(each)[9:90])
@pytest.mark.parametrize("order", ["newest", "active"])
def test_a_page_of_runs_reads_no_more_than_it_shows(
    many: tuple[MongoStore, Data], query: RunQuery, order: Any
) -> None:
    store, database = many
    found = examined(
        database, "whimbrel_runs", lambda: first_pages(store, query, limit=10, pages=2, order=order)
    )
    assert found
    assert [each for each in found if each[0] > NEAR or each[1] > RANGES or each[2]] == []


AUDITED: list[tuple[AuditQuery, Callable[[Row], bool]]] = [
    (AuditQuery(), lambda _: True),
    (AuditQuery(actor="bert"), lambda row: NAMES.get(row["who"]) == "bert"),
    (AuditQuery(actor="anna"), lambda row: NAMES.get(row["who"]) == "anna"),
    (AuditQuery(actor="api:bert@10.0.0.8"), lambda row: row["who"] == "api:bert@10.0.0.8"),
    (AuditQuery(actor="nobody"), lambda _: False),
    (AuditQuery(actor="anna", actions=["queue"]), lambda row: row["who"] == "anna@laptop" and dict(WHAT)[row["what"]] == "queue"),
    (AuditQuery(actions=["stage"]), lambda row: dict(WHAT)[row["what"]] == "stage"),
    (AuditQuery(actions=["health", "code"]), lambda row: dict(WHAT)[row["what"]] in ("health", "code")),
    (AuditQuery(run="run-7"), lambda row: row["run"] == "run-7"),
    (AuditQuery(since=zoned(2026, 11, 1, 0, 30)), lambda row: row["at"] >= naive(2026, 11, 1, 0, 30)),
    (
        AuditQuery(until=zoned(2026, 11, 1, 0, 5), actor="bert", actions=["run"]),
        lambda row: row["at"] < naive(2026, 11, 1, 0, 5) and NAMES.get(row["who"]) == "bert" and row["what"] == "run paused",
    ),
]  # fmt: skip


def audit_pages(store: MongoStore, query: AuditQuery, *, limit: int, pages: int) -> Sequence[str]:
    found: list[str] = []
    after = None
    for _ in range(pages):
        page = store.ledger.audit.list(query, after=after, limit=limit)
        found += [entry.id for entry in page]
        if len(page) < limit:
            break
        after = page[-1].place
    return found


@pytest.mark.parametrize(
    ("query", "wanted"), AUDITED, ids=lambda each: "" if callable(each) else str(each)[11:90]
)
def test_filtered_audit(
    many: tuple[MongoStore, Data], query: AuditQuery, wanted: Callable[[Row], bool]
) -> None:
    store, database = many
    rows = sorted(
        filter(wanted, database["whimbrel_audit"].find()),
        key=lambda row: (row["at"], row["_id"]),
        reverse=True,
    )
    assert audit_pages(store, query, limit=7, pages=3) == [str(row["_id"]) for row in rows][:21]
    found = examined(database, "whimbrel_audit", lambda: audit_pages(store, query, limit=10, pages=2))
    assert found
    assert [each for each in found if each[0] > NEAR or each[1] > RANGES or each[2]] == []


def test_entries_of_earlier_versions_are_found_as_new_ones_are(many: tuple[MongoStore, Data]) -> None:
    store, database = many
    store.ledger.leases.audit("run paused", run="run-x", who="api:carl@10.0.0.9", why="it is late")
    (new,) = store.ledger.audit.list(AuditQuery(actor="carl"))
    assert (new.what, new.who, new.why, new.run, new.action) == (
        "run paused",
        "api:carl@10.0.0.9",
        "it is late",
        "run-x",
        "run",
    )
    old = store.ledger.audit.list(AuditQuery(actions=["run"]), limit=2)[1]
    fields = {
        row["_id"]: row.keys()
        for row in database["whimbrel_audit"].find({"_id": {"$in": [ObjectId(new.id), ObjectId(old.id)]}})
    }
    assert fields[ObjectId(new.id)] == fields[ObjectId(old.id)]
    database["whimbrel_audit"].delete_one({"_id": ObjectId(new.id)})
