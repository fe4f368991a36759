"""A run without progress is told once; a run that waits for a reason of its own is not."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.in_process_system import DEFAULTS, start, system, until
from tests.integration.notifying.conftest import sender
from tests.integration.notifying.test_deliveries import sent
from tests.integration.notifying.test_events import INC, row, things
from tests.servers.receiver import Receiver
from tests.waiting import until as eventually
from whimbrel import Migration
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Verdict
from whimbrel.domain.runs.allowance import Allowance, Hold
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.notifying.sender import WebhookSender
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.start import start_run
from whimbrel.mongo.store import MongoStore
from whimbrel.ports.ledger import CONSUMERS

MINUTE = 60.0


def running(store: MongoStore) -> Run:
    """A run at work that nobody works on."""
    things(store)
    run = start(store, INC)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    return run


def later(store: MongoStore, seconds: float, *, seen: float = 1.0) -> None:
    """Lets time pass without progress. `seen`: seconds since somebody looked."""
    store.client[store.database]["whimbrel_runs"].update_many({"still": {"$exists": True}}, [{"$set": {
        "still.since": {"$subtract": ["$still.since", int(seconds * 1000)]}, "still.looked": {"$subtract": ["$$NOW", int(seen * 1000)]},
    }}])  # fmt: skip


def looked(it: WebhookSender) -> None:
    it._standstills._looked = float("-inf")
    sent(it)


def told(receiver: Receiver) -> list[dict[str, Any]]:
    return [
        json.loads(each.body)
        for each in receiver.requests
        if each.headers["Whimbrel-Event"] == "run.no_progress"
    ]


def test_a_standstill_is_told_once_and_again_after_progress(store: MongoStore, receiver: Receiver) -> None:
    run, it = running(store), sender(store, receiver, no_progress=MINUTE)
    looked(it)
    later(store, 50)
    looked(it)
    assert told(receiver) == []
    for _ in range(2):
        later(store, 20)
        looked(it)
    (event,) = told(receiver)
    assert (event["from"], event["to"], event["run"]["migrationId"]) == ("running", "running", run.id)
    assert event["reason"].startswith("No progress for 1 min.")
    assert store.ledger.runs.fold(run, Counts(changed=1), 1, inferred=False)  # progress
    looked(it)
    assert len(told(receiver)) == 1
    later(store, 70)
    looked(it)
    assert len(told(receiver)) == 2


def test_another_process_goes_on_counting(store: MongoStore, receiver: Receiver) -> None:
    running(store)
    looked(sender(store, receiver, no_progress=MINUTE))
    later(store, 50)
    store.ledger.leases.step_down("one")
    looked(sender(store, receiver, name="two", no_progress=MINUTE))
    later(store, 20)
    store.ledger.leases.step_down("two")
    looked(sender(store, receiver, name="three", no_progress=MINUTE))
    assert len(told(receiver)) == 1


@pytest.mark.parametrize("why", ["health", "consumers", "unseen"])
def test_waiting_is_no_standstill(store: MongoStore, receiver: Receiver, why: str) -> None:
    run, it = running(store), sender(store, receiver, no_progress=MINUTE, watched=True)
    store.ledger.health.keep(Verdict(share=0.0 if why == "health" else 1.0), None)
    if why == "consumers":
        store.ledger.leases.switch(CONSUMERS, on=False, who="test")
    looked(it)
    passing = 600 if why == "unseen" else 20
    for _ in range(4):
        later(store, passing, seen=passing)
        looked(it)
    assert row(store, run.id)["still"]["for"] < 20_000
    assert told(receiver) == []


def test_waiting_for_retries_is_no_standstill(store: MongoStore, receiver: Receiver) -> None:
    def bad(_: dict[str, Any]) -> Any:
        raise ValueError("bad")

    failing = Migration(name="failing", collection="things", transform=bad)
    things(store, 3)
    run = start_run(store, failing.definition, who="test", defaults=replace(DEFAULTS, retry_delay=3600.0))
    with system(store, [failing]):
        eventually(lambda: view(store.ledger, control.find_run(store.ledger, run.id)).next_retry)
    it = sender(store, receiver, no_progress=MINUTE)
    looked(it)
    for _ in range(4):
        later(store, 20, seen=20)
        looked(it)
    assert row(store, run.id)["still"]["for"] < 20_000
    assert told(receiver) == []


FROZEN = Hold(signal="freeze", level=Level.STOP, share=0.0, sentence="frozen until somebody lifts it")
FOLLOWING = {"legs": ["pending", "failed", "sweep", "follow", "sweep", "failed"], "leg": 3}


@pytest.mark.parametrize("waits", ["frozen", "at a gate", "following"])
def test_waiting_by_itself_is_no_standstill(store: MongoStore, receiver: Receiver, waits: str) -> None:
    run, it = running(store), sender(store, receiver, no_progress=MINUTE)
    runs = store.client[store.database]["whimbrel_runs"]
    if waits == "frozen":
        store.ledger.runs.hold(run.id, Allowance(0.0, (FROZEN,)), "frozen", waits=True)
    elif waits == "following":
        runs.update_one({"_id": run.id}, {"$set": FOLLOWING})
    else:
        at = {"0": {"asked": "1", "state": "approval"}, "1": {"asked": "100%", "state": "open"}}
        gated = {
            "stages": {"hold": 0, "approve": True, "at": at},
            "legs": ["pending", "failed", *run.legs],
            "leg": 1,
        }
        runs.update_one({"_id": run.id}, {"$set": gated})
    looked(it)
    for _ in range(4):
        later(store, 20, seen=20)
        looked(it)
    assert told(receiver) == []


def test_a_run_that_is_paused_or_waits_for_its_collection_is_not_at_work(
    store: MongoStore, receiver: Receiver
) -> None:
    run, it = running(store), sender(store, receiver, no_progress=MINUTE)
    queued = start(store, INC)
    looked(it)
    control.pause(store.ledger, run.id, who="test")
    later(store, 100)
    looked(it)
    store.ledger.runs.move(run.id, RunStatus.PAUSED, who="test")
    looked(it)
    assert told(receiver) == []
    assert "still" not in row(store, queued.id)
    control.resume(store.ledger, run.id, who="test")
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    looked(it)  # being resumed is progress
    assert told(receiver) == []


def test_a_chunk_within_a_batch_is_progress(store: MongoStore) -> None:
    things(store, 1500)
    seen, marks = [0], set[str]()

    def looks(_: dict[str, Any]) -> Any:
        seen[0] += 1
        if seen[0] % 500 == 0:
            marks.add(store.ledger.webhooks.progress_marks([run])[run.id])
        return {"$inc": {"n": 1}}

    it = Migration(name="looks", collection="things", transform=looks)
    run = start(store, it, batch_size=1500)
    with system(store, [it], slots=1):
        until(store, run)
    # Before and after the first chunk of a thousand; on a busy machine chunks are smaller.
    assert len(marks) >= 2


def test_a_claim_is_no_progress(store: MongoStore) -> None:
    things(store)
    run = start(store, INC)
    ledger = store.ledger
    ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    ledger.batches.add([Batch(run=run.id, seq=1, leg=0, phase="pending")])
    found = ledger.runs.get(run.id)
    assert found is not None
    before = ledger.webhooks.progress_marks([found])
    batch = ledger.batches.claim([run.id], worker="a", lsid=b"0" * 16)
    assert batch is not None
    assert ledger.webhooks.progress_marks([found]) == before
    ledger.batches.release(batch)
    assert ledger.webhooks.progress_marks([found]) == before
    batch = ledger.batches.claim([run.id], worker="a", lsid=b"0" * 16)
    assert batch is not None
    ledger.batches.settle(batch, Counts(changed=1))
    assert ledger.webhooks.progress_marks([found]) != before


def test_zero_minutes_are_never(store: MongoStore, receiver: Receiver) -> None:
    run, it = running(store), sender(store, receiver, no_progress=0)
    looked(it)
    assert "still" not in row(store, run.id)
