"""Runs of very many batches: the end is looked at a little in each tick, and never twice."""

import threading
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.coordinating.test_waiting_runs import current, looked_at
from tests.integration.in_process_system import DEFAULTS, nothing, start, until
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.engine.coordinating import coordinator as coordinate
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.planning.tiling import check_more
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
IT = Migration(name="long", collection="things", update={"$set": {"a": 1}})
MANY = 2500


def coordinator_of(store: MongoStore) -> Coordinator:
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    return Coordinator(store, announcer, name="inline", role_seconds=SHORT.lease, step=nothing)


def worked_off(store: MongoStore, database: Data) -> Run:
    """A run in its last phase, whose many batches are all settled."""
    database.create_collection("things")
    run = start(store, IT)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    rows = [
        Batch(
            run=run.id, seq=seq, leg=0 if seq < MANY else 2, phase="pending", status=BatchStatus.DONE,
            lo=Key.of(seq - 1) if 1 < seq < MANY else None, cuts=(Key.of(seq),), last=seq >= MANY - 1,
        )
        for seq in range(1, MANY + 1)
    ]  # fmt: skip
    store.ledger.batches.add(rows)
    store.ledger.runs.describe(run.id, leg=2, foldedThrough=0)
    return run


def test_the_end_of_a_long_run_takes_several_ticks_and_others_go_on_meanwhile(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinate, "TILING_SECONDS", 0.0)  # a page in each tick
    run, coordinator = worked_off(store, database), coordinator_of(store)
    database.create_collection("others")
    other = start(store, Migration(name="other", collection="others", update={"$set": {"a": 1}}))
    known = [0]
    for _ in range(30):
        coordinator.tick()
        now = current(store, run)
        known.append(now.tiling.through)
        if now.status is not RunStatus.RUNNING:
            break
        assert current(store, other).status is not RunStatus.QUEUED
    assert now.status is RunStatus.COMPLETED
    assert known == sorted(known)
    assert {1000, 2000, MANY} <= set(known)


def test_what_was_looked_at_is_not_looked_at_again(store: MongoStore, database: Data) -> None:
    run = worked_off(store, database)
    ledger, seen = store.ledger, []

    def look(tiling: Tiling, through: int) -> Tiling:
        found: list[Tiling] = []
        seen.append(
            looked_at(
                database,
                lambda: found.append(check_more(ledger, run.id, tiling, through=through, seconds=60)),
            )
        )
        return found[0]

    most = look(Tiling(), MANY - 10)
    assert look(most, MANY).through == MANY
    assert look(look(most, MANY), MANY).fault is None
    assert seen[0] >= MANY
    assert max(seen[1:]) < 100


def test_a_gap_far_behind_is_found_and_looked_for_again_when_the_run_is_resumed(
    store: MongoStore, database: Data
) -> None:
    run, rows = worked_off(store, database), database["whimbrel_batches"]
    row = rows.find_one({"run": run.id, "seq": 2100})
    assert row is not None
    rows.update_one({"_id": row["_id"]}, {"$set": {"lo": row["cuts"][0]}})
    coordinator = coordinator_of(store)
    while current(store, run).status is RunStatus.RUNNING:
        coordinator.tick()
    assert f"{run.id}.2100" in (current(store, run).error or "")
    rows.replace_one({"_id": row["_id"]}, row)  # mended
    store.ledger.runs.move(run.id, RunStatus.QUEUED, who="test")
    while current(store, run).status in (RunStatus.QUEUED, RunStatus.RUNNING):
        coordinator.tick()
    assert current(store, run).status is RunStatus.COMPLETED


def test_a_verification_looks_at_the_ranges_of_a_long_run_in_pieces(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinate, "TILING_SECONDS", 0.0)
    run, coordinator = worked_off(store, database), coordinator_of(store)
    while current(store, run).status is RunStatus.RUNNING:
        coordinator.tick()
    checking = start_verification(store, run.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
    known = set()
    while current(store, checking).ended_at is None:
        coordinator.tick()
        known.add(current(store, checking).checked.through)
    found = until(store, checking)
    (ranges,) = [each for each in found.run.report if each.check == "ranges tile"]
    assert ranges.proved, ranges.sentence
    assert {1000, 2000, MANY} <= known


def test_a_proof_that_takes_long_holds_up_no_other_run(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, coordinator = worked_off(store, database), coordinator_of(store)
    while current(store, run).status is RunStatus.RUNNING:
        coordinator.tick()
    checking = start_verification(store, run.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
    go_on, summed = threading.Event(), store.ledger.proofs.summed

    def slowly(run_id: str) -> Any:
        assert go_on.wait(60)
        return summed(run_id)

    monkeypatch.setattr(store.ledger.proofs, "summed", slowly)
    database.create_collection("others")
    other = start(store, Migration(name="other", collection="others", update={"$set": {"a": 1}}))
    while current(store, other).ended_at is None:
        coordinator.tick()
    while current(store, checking).checked.through < MANY:
        coordinator.tick()
    assert current(store, checking).status is RunStatus.RUNNING
    go_on.set()
    while current(store, checking).ended_at is None:
        coordinator.tick()
    assert current(store, checking).status is RunStatus.COMPLETED


def test_a_proof_of_a_run_that_is_gone_pauses_the_verification(store: MongoStore, database: Data) -> None:
    run, coordinator = worked_off(store, database), coordinator_of(store)
    while current(store, run).status is RunStatus.RUNNING:
        coordinator.tick()
    checking = start_verification(store, run.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
    database["whimbrel_runs"].delete_one({"_id": run.id})
    while current(store, checking).status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING):
        coordinator.tick()
    assert current(store, checking).status is RunStatus.PAUSED
    assert "gone" in (current(store, checking).error or "")
