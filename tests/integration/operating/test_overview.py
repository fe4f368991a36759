"""What a watcher of the whole cluster sees from one look to the next: what goes on, what has ended, and no more than that costs."""

from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start
from whimbrel import Migration
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control, overview
from whimbrel.engine.operating.freezing import add_freezes, new_freeze_id
from whimbrel.engine.operating.overview import Watch, health_line
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
THINGS = Migration(name="things", collection="things", update={"$inc": {"n": 1}})


def states(seen: overview.Overview) -> dict[str, str]:
    return {name: line["status"] for name, line in seen.lines.items()}


def test_what_goes_on_and_what_has_ended(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["things"].insert_one({"n": 1})
    ledger, watch = store.ledger, Watch(store.ledger)
    before = start(store, THINGS)
    control.cancel(ledger, before.id, who="test")
    assert states(watch.look()) == {}  # what was over before is no news
    first, second = start(store, THINGS), start(store, THINGS)
    assert states(watch.look()) == {first.id: "queued", second.id: "queued"}
    ledger.runs.move(first.id, RunStatus.RUNNING, who="test")
    short = start(store, THINGS)
    control.cancel(ledger, short.id, who="test")
    assert states(watch.look()) == {first.id: "running", second.id: "queued", short.id: "cancelled"}
    control.cancel(ledger, second.id, who="test")
    assert states(watch.look()) == {first.id: "running", second.id: "cancelled"}
    third, fourth = start(store, THINGS), start(store, THINGS)
    assert states(watch.look()) == {first.id: "running", third.id: "queued", fourth.id: "queued"}
    database["whimbrel_runs"].delete_one({"_id": fourth.id})
    seen = watch.look()
    assert (states(seen), seen.gone, seen.more) == (
        {first.id: "running", third.id: "queued"},
        [fourth.id],
        False,
    )
    monkeypatch.setattr(overview, "MOST", 1)
    seen = watch.look()
    assert (states(seen), seen.gone, seen.dropped, seen.more) == ({first.id: "running"}, [], [third.id], True)
    assert watch.look().dropped == []


def test_the_first_run_of_a_ledger_is_told_though_it_was_over_before_anybody_saw_it(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "NEW", 2)
    database["things"].insert_one({"n": 1})
    watch, crowded = Watch(store.ledger), Watch(store.ledger)
    for each in (watch, crowded):
        assert (states(each.look()), each.look().missed) == ({}, False)
    short = start(store, THINGS)
    control.cancel(store.ledger, short.id, who="test")
    seen = watch.look()
    assert (states(seen), seen.missed) == ({short.id: "cancelled"}, False)
    assert states(watch.look()) == {}
    control.cancel(store.ledger, start(store, THINGS).id, who="test")
    assert crowded.look().missed


def test_more_new_runs_than_are_read_are_missed_and_said_to_be(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "NEW", 2)
    database["things"].insert_one({"n": 1})
    watch = Watch(store.ledger)
    start(store, THINGS)
    watch.look()
    for _ in range(3):
        control.cancel(store.ledger, start(store, THINGS).id, who="test")
    assert watch.look().missed
    assert not watch.look().missed


def test_health_and_freezes_are_told_with_what_is_worst(store: MongoStore) -> None:
    watch = Watch(store.ledger)
    seen = watch.look()
    assert (seen.health["share"], seen.health["worst"], seen.freeze["frozen"]) == (1.0, None, False)
    bad = (
        Reason("member-lag", Level.STOP, 1_700_000_000.0, "replication lag 9 s > 5 s on host2:27017"),
        Reason("dirty", Level.SLOW, 1_700_000_001.0, "dirty cache 12% > 10%"),
    )
    told = health_line(Verdict(share=0.0, level=Level.STOP, since=1_700_000_000.0, reasons=bad, age=0.5))
    assert told == {
        "state": "stop", "share": 0.0, "since": "2023-11-14T22:13:20.000Z",
        "said": "Waits since 22:13 UTC: replication lag 9 s > 5 s on host2:27017; dirty cache 12% > 10%.",
        "worst": {"signal": "member-lag", "level": "stop", "since": "2023-11-14T22:13:20.000Z", "said": "replication lag 9 s > 5 s on host2:27017"},
    }  # fmt: skip
    add_freezes(
        store.ledger, lambda look: [Freeze(id=new_freeze_id(), begins=look.now, note="peak")], who="test"
    )
    looks = [watch.look().freeze for _ in range(overview.EVERY)]
    assert looks[-1] == {"frozen": True, "until": None, "note": "peak"}


def test_a_look_takes_as_many_questions_for_many_runs_as_for_few(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"n": 1})
    watch = Watch(store.ledger)
    start(store, THINGS)

    def questions() -> int:
        database.command("profile", 2)
        for _ in range(overview.EVERY):
            watch.look()
        database.command("profile", 0)
        number = database["system.profile"].count_documents({"ns": {"$regex": r"\.whimbrel_"}})
        database.drop_collection("system.profile")
        return number

    few = [questions(), questions()][-1]
    (row,) = database["whimbrel_runs"].find()
    database["whimbrel_runs"].insert_many({**row, "_id": f"r{number}"} for number in range(300))
    many = [questions(), questions()][-1]
    assert many <= few
    assert few <= 9 * overview.EVERY
