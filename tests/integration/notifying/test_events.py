"""An event is written with the change that it tells of: whatever dies then, receivers learn of it, and can tell that they have had it."""

import json
from typing import Any

import pytest

from tests.integration.in_process_system import start, system, until
from tests.integration.notifying.conftest import sender
from tests.integration.operating.test_scheduler import hourly, scheduler
from tests.servers.receiver import Receiver
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.housekeeping.prune import prune
from whimbrel.engine.operating import control
from whimbrel.errors import Transient
from whimbrel.mongo.store import MongoStore

INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})


def things(store: MongoStore, count: int = 10) -> None:
    store.client[store.database]["things"].insert_many({"n": 0} for _ in range(count))


def row(store: MongoStore, run_id: str) -> dict[str, Any]:
    found = store.client[store.database]["whimbrel_runs"].find_one({"_id": run_id})
    assert found is not None
    return dict(found)


def test_a_run_is_told_from_its_beginning_to_its_end(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    it = sender(store, receiver)
    it.round()  # from now on events are sent
    with system(store, [INC]):
        run = until(store, start(store, INC)).run
    it.round()
    it.finish(60)
    assert receiver.events == ["run.queued", "run.running", "run.completed"]
    assert receiver.ids == [f"{run.id}:{number}" for number in (1, 2, 3)]
    last = json.loads(receiver.requests[-1].body)
    assert (last["id"], last["event"], last["from"], last["to"], last["number"]) == (
        f"{run.id}:3", "run.completed", "running", "completed", 3
    )  # fmt: skip
    assert (last["run"]["migrationId"], last["run"]["succeeded"], last["run"]["status"]) == (
        run.id,
        10,
        "completed",
    )
    assert "filters" not in last["run"]
    assert "unsent" not in row(store, run.id)


def test_a_process_that_dies_after_a_change_loses_no_event(
    store: MongoStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change and its event are one statement: what comes after it is never reached."""
    things(store)

    def dies(*_: object, **__: object) -> None:
        raise Transient("killed")

    monkeypatch.setattr(type(store.ledger.leases), "audit", dies)
    with pytest.raises(Transient):
        start(store, INC)
    (run,) = store.ledger.runs.list()
    with pytest.raises(Transient):
        control.pause(store.ledger, run.id, who="somebody", why="because")
    monkeypatch.undo()
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    assert receiver.events == ["run.queued", "run.paused"]
    assert json.loads(receiver.requests[1].body) | {"run": {}, "time": ""} == {
        "id": f"{run.id}:2", "event": "run.paused", "time": "", "number": 2, "from": "queued", "to": "paused", "by": "somebody",
        "reason": "because", "run": {},
    }  # fmt: skip


def test_a_run_of_a_schedule_is_told_too(store: MongoStore, receiver: Receiver) -> None:
    hourly(store)
    scheduler(store).tick()
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    assert receiver.events == ["run.queued"]
    assert json.loads(receiver.requests[0].body)["by"] == "schedule:s"


def test_a_sender_that_dies_before_the_event_is_removed_makes_no_second_delivery(
    store: MongoStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    things(store)
    run = start(store, INC)

    def dies(*_: object) -> None:
        raise Transient("killed")

    monkeypatch.setattr(type(store.ledger.webhooks), "forget", dies)
    with pytest.raises(Transient):
        sender(store, receiver).round()
    monkeypatch.undo()
    assert row(store, run.id)["unsent"]
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    assert receiver.ids == [f"{run.id}:1"]
    assert len(store.ledger.webhooks.list()) == 1


def test_a_change_that_is_refused_is_no_event(store: MongoStore) -> None:
    things(store)
    run = start(store, INC)
    assert not store.ledger.runs.move(run.id, RunStatus.COMPLETED, who="test")
    assert [event["type"] for event in row(store, run.id)["unsent"]] == ["run.queued"]


def test_events_that_nobody_sends_stay_few_and_their_numbers_tell(
    store: MongoStore, receiver: Receiver
) -> None:
    things(store)
    run = start(store, INC)
    for _ in range(30):
        control.pause(store.ledger, run.id, who="test")
        control.resume(store.ledger, run.id, who="test")
    kept = [event["n"] for event in row(store, run.id)["unsent"]]
    assert kept == list(range(12, 62))


def test_what_happened_before_there_were_webhooks_is_not_told(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    run = start(store, INC)
    runs = store.client[store.database]["whimbrel_runs"]
    runs.update_one({"_id": run.id}, [{"$set": {"unsent": {"$map": {"input": "$unsent", "in": {
        "$mergeObjects": ["$$this", {"at": {"$subtract": ["$$NOW", 3_600_000]}}]
    }}}}}])  # fmt: skip
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    assert (receiver.requests, store.ledger.webhooks.list()) == ([], [])
    assert "unsent" not in row(store, run.id)


def test_what_waited_too_long_for_a_sender_is_recorded_as_failed(
    store: MongoStore, receiver: Receiver
) -> None:
    things(store)
    run = start(store, INC)
    eight_days = 8 * 86_400_000
    rows = store.client[store.database]
    rows["whimbrel_deliveries"].insert_one({"_id": "since"})
    rows["whimbrel_deliveries"].update_one(
        {"_id": "since"}, [{"$set": {"at": {"$subtract": ["$$NOW", 2 * eight_days]}}}]
    )
    rows["whimbrel_runs"].update_one({"_id": run.id}, [{"$set": {"unsent": {"$map": {"input": "$unsent", "in": {
        "$mergeObjects": ["$$this", {"at": {"$subtract": ["$$NOW", eight_days]}}]
    }}}}}])  # fmt: skip
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    (delivery,) = store.ledger.webhooks.list()
    assert (delivery.state, receiver.requests) == ("failed", [])
    assert "more than 7 days old" in delivery.problem
    assert store.ledger.webhooks.counts().failed == 1


def test_a_ledger_of_an_earlier_version_has_no_events_yet(store: MongoStore, receiver: Receiver) -> None:
    things(store)
    run = start(store, INC)
    rows = store.client[store.database]["whimbrel_runs"]
    rows.update_one({"_id": run.id}, {"$unset": {"unsent": "", "eventNumber": ""}})
    control.pause(store.ledger, run.id, who="test")
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    assert receiver.ids == [f"{run.id}:1"]


def test_a_run_that_is_pruned_takes_nothing_of_webhooks_with_it(
    store: MongoStore, receiver: Receiver
) -> None:
    things(store)
    with system(store, [INC]):
        until(store, start(store, INC))
    it = sender(store, receiver)
    it.round()
    it.finish(60)
    store.client[store.database]["whimbrel_runs"].update_many(
        {}, [{"$set": {"endedAt": {"$subtract": ["$$NOW", 864_000_000]}}}]
    )
    assert len(prune(store.ledger, 5, seconds=60, who="test").runs) == 1
    assert len(store.ledger.webhooks.list()) == 3
