"""Failures of a run by cause, code, acceptance and time, as plain loops over the rows find them; and when causes were met, by hand."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start
from tests.waiting import until
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, FailureState
from whimbrel.domain.failures.failure_query import CauseQuery
from whimbrel.domain.failures.trend import Trend
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.failure_pages import failure_page, group_page
from whimbrel.mongo.ledger import failure_search
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
Row = Mapping[str, Any]
THINGS = Migration(name="things", collection="things", update={"$inc": {"n": 1}})
LATE = datetime(2026, 11, 2, tzinfo=UTC)
NUMBER = 60


def failed(number: int) -> FailedDocument:
    """Of four causes: two refusals of MongoDB by number, an error of the function, and one of each later document."""
    kind, type_, code = (
        (FailureKind.DATA, "DocumentValidationFailure", 121), (FailureKind.DATA, "DuplicateKey", 11000), (FailureKind.CODE, "KeyError", None),
        (FailureKind.HANG, "Timeout", None),
    )[number % 4]  # fmt: skip
    return FailedDocument(
        key=Key.of(number), kind=kind, type=type_, message="bad", code=code, traceback="t" * 100
    )


@pytest.fixture
def run(store: MongoStore, database: Data) -> Run:
    """A run with failures of all states, an hour apart from one another."""
    database["things"].insert_one({"_id": "last"})
    found = start(store, THINGS)
    store.ledger.runs.move(found.id, RunStatus.RUNNING, who="test")
    store.ledger.batches.add([Batch(run=found.id, seq=1, leg=0, phase="pending")])
    batch = store.ledger.batches.claim([found.id], worker="A", lsid=b"0" * 16)
    assert batch is not None
    store.ledger.failures.record(found, batch, [failed(number) for number in range(NUMBER)])
    rows = database["whimbrel_failures"]
    for number in range(NUMBER):
        state = ("dead", "open", "resolved")[number // 4 % 3]
        at = LATE - timedelta(hours=number)
        rows.update_one({"key._id": number}, {"$set": {"state": state, "lastAt": at}})
    until(lambda: all(seen.trend for seen in store.ledger.failures.causes_seen(found.id).values()))
    return found


def accepted_group(store: MongoStore, run: Run) -> str:
    (group,) = [
        group for group, seen in store.ledger.failures.causes_seen(run.id).items() if seen.code == 121
    ]
    store.ledger.known_causes.accept(run.id, [group], who="test")
    return group


def expected(database: Data, wanted: Callable[[Row], bool]) -> list[Any]:
    rows = [row for row in database["whimbrel_failures"].find() if wanted(row)]
    order = {"dead": 0, "open": 1, "resolved": 2}
    rows.sort(key=lambda row: (order[row["state"]], row["group"], row["key"]["_id"]))
    return [row["key"]["_id"] for row in rows]


def found(store: MongoStore, run: Run, query: CauseQuery, *states: FailureState, limit: int) -> list[Any]:
    keys: list[Any] = []
    after = None
    while True:
        page = failure_page(
            store.ledger, run.id, query, states=states or None, after=after, limit=limit, slim=True
        )
        assert len(page.failures) <= limit
        assert all(failure.traceback == "" for failure in page.failures)
        keys += [failure.key.value for failure in page.failures]
        if page.after is None:
            return keys
        after = page.after


def at(hour: int) -> datetime:
    return LATE - timedelta(hours=hour)


@pytest.mark.parametrize("looked_at", [3, 5_000])
def test_failures_are_found_in_pages(
    store: MongoStore, database: Data, run: Run, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(failure_search, "LOOKED_AT", looked_at)
    group = accepted_group(store, run)
    naive = {hour: at(hour).replace(tzinfo=None) for hour in (10, 40)}
    dead, resolved = FailureState.DEAD, FailureState.RESOLVED
    table: list[tuple[CauseQuery, tuple[FailureState, ...], Callable[[Row], bool]]] = [
        (CauseQuery(), (), lambda _: True),
        (CauseQuery(), (dead, resolved), lambda row: row["state"] != "open"),
        (CauseQuery(code=11000), (), lambda row: row["code"] == 11000),
        (CauseQuery(code=5), (), lambda _: False),
        (CauseQuery(kinds=["code", "hang"]), (dead,), lambda row: row["kind"] in ("code", "hang") and row["state"] == "dead"),
        (CauseQuery(accepted=True), (), lambda row: row["group"] == group),
        (CauseQuery(accepted=False), (resolved,), lambda row: row["group"] != group and row["state"] == "resolved"),
        (CauseQuery(accepted=False, code=121), (), lambda _: False),
        (CauseQuery(group=group, since=at(40)), (), lambda row: row["group"] == group and row["lastAt"] >= naive[40]),
        (CauseQuery(since=at(40), until=at(10)), (), lambda row: naive[40] <= row["lastAt"] < naive[10]),
        (CauseQuery(since=at(40), code=121), (dead,), lambda row: row["lastAt"] >= naive[40] and row["code"] == 121 and row["state"] == "dead"),
    ]  # fmt: skip
    for query, states, wanted in table:
        for limit in (1, 7, 100):
            assert found(store, run, query, *states, limit=limit) == expected(database, wanted), (
                query,
                limit,
            )


def test_a_page_looks_at_so_many_rows_and_no_more(
    store: MongoStore, database: Data, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_search, "LOOKED_AT", 5)
    monkeypatch.setattr(failure_search, "ADDED", 1)
    database.command("profile", 2)
    page = failure_page(store.ledger, run.id, CauseQuery(until=at(1000)), limit=10)
    database.command("profile", 0)
    assert (page.failures, page.after is not None) == ([], True)
    asked = list(database["system.profile"].find({"ns": f"{database.name}.whimbrel_failures"}))
    assert [(row["keysExamined"] <= 7, row.get("hasSortStage", False)) for row in asked] == [
        (True, False)
    ] * len(asked)
    assert len(asked) == 2


def test_causes_by_what_is_known_of_them(store: MongoStore, database: Data, run: Run) -> None:
    group = accepted_group(store, run)
    ledger = store.ledger

    def groups(query: CauseQuery, *states: FailureState) -> set[str]:
        page = group_page(
            ledger, run.id, query, known=ledger.known_causes.of(run.id), states=states or None
        )  # fmt: skip
        return {each.type for each in page.groups}

    whole = {"DocumentValidationFailure", "DuplicateKey", "KeyError", "Timeout"}
    assert groups(CauseQuery()) == groups(CauseQuery(), FailureState.DEAD, FailureState.OPEN) == whole
    assert groups(CauseQuery(accepted=True)) == groups(CauseQuery(code=121)) == {"DocumentValidationFailure"}
    assert groups(CauseQuery(kinds=["data"])) == {"DocumentValidationFailure", "DuplicateKey"}
    now = datetime.now(UTC)
    assert (
        groups(CauseQuery(since=now + timedelta(hours=1)))
        == groups(CauseQuery(until=now - timedelta(hours=1)))
        == set()
    )
    assert groups(CauseQuery(since=now - timedelta(hours=1), until=now + timedelta(hours=1))) == whole
    # What an earlier version has stored tells neither code nor times: it may be meant.
    database["whimbrel_causes"].update_many({"group": group}, {"$unset": {"code": "", "seen": ""}})
    assert groups(CauseQuery(code=11000, since=now + timedelta(hours=1))) == {"DocumentValidationFailure"}
    assert found(store, run, CauseQuery(code=11000), limit=100) == expected(
        database, lambda row: row["code"] == 11000
    )


def test_when_a_cause_was_met_is_kept_in_ever_longer_periods(
    store: MongoStore, database: Data, run: Run
) -> None:
    causes = database["whimbrel_causes"]
    (group,) = [
        group for group, seen in store.ledger.failures.causes_seen(run.id).items() if seen.type == "KeyError"
    ]
    trends = store.ledger.failures._causes  # type: ignore[attr-defined]

    told = [(0.0, 15)]

    def met(number: int, seconds: float) -> Trend:
        """So many failures, so long after the first."""
        now = database.command("hello")["localTime"]
        causes.update_one({"group": group}, {"$set": {"seen.since": now - timedelta(seconds=seconds)}})
        trends.count(run.id, {group: number})
        return cast(
            "Trend",
            until(
                lambda: (
                    (trend := store.ledger.failures.causes_seen(run.id)[group].trend)
                    and sum(trend.counts) == sum(each for _, each in told) + number
                    and trend
                )
            ),
        )

    first = store.ledger.failures.causes_seen(run.id)[group].trend
    assert first is not None
    assert (first.counts, first.width) == ((15,), 10.0)
    for number, seconds in (
        (2, 3.0),
        (1, 25.0),
        (4, 595.0),
        (7, 605.0),
        (1, 1193.0),
        (3, 1205.0),
        (2, 9000.0),
        (5, 9003.0),
        (1, 1_000_000.0),
    ):
        trend = met(number, seconds)
        told.append((seconds, number))
        counts = [0] * len(trend.counts)
        for after, met_then in told:
            counts[int(after // trend.width)] += met_then
        assert list(trend.counts) == counts, seconds
        assert 30 <= len(trend.counts) <= 60 or trend.width == 10.0
        assert trend.last >= trend.since
    assert trend.width == 10.0 * 2**11
