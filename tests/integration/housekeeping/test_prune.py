"""Pruning: what nobody needs goes a little at a time, what somebody may need stays, and marks stay known."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.housekeeping import prune as retention
from whimbrel.engine.housekeeping.prune import FAILING, FOLLOWING, TREATED, UNDOABLE, Pruner, prune
from whimbrel.engine.operating.control import cancel
from whimbrel.engine.operating.start_cleanup import start_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import MigrationUnknown
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings
from whimbrel.workers.parent_process import ParentProcess

Data = Database[dict[str, Any]]
IT = Migration(name="old", collection="things", update={"$set": {"a": 1}})
UNDO = Migration(name="undo", collection="things", update=[{"$set": {"b": 1}}], undo=True)
LEDGER = ("runs", "batches", "failures", "causes", "blocks", "known")


def bad(document: dict[str, Any]) -> dict[str, Any]:
    if document["n"] < 5:
        raise ValueError("bad")
    return {"$set": {"c": 1}}


FAILS = Migration(name="fails", collection="things", transform=bad)


def seed(database: Data, count: int = 60) -> None:
    database["things"].insert_many([{"_id": key, "n": key} for key in range(count)])


def age(database: Data, days: int = 100) -> None:
    """Everything in the ledger happened so much earlier."""
    for name in ("endedAt", "createdAt"):
        shift = [{"$set": {name: {"$subtract": [f"${name}", days * 86_400_000]}}}]
        database["whimbrel_runs"].update_many({name: {"$type": "date"}}, shift)
    earlier = [{"$set": {"at": {"$subtract": ["$at", days * 86_400_000]}}}]
    database["whimbrel_audit"].update_many({}, earlier)


def rows(database: Data, run: Run) -> dict[str, int]:
    return {
        name: database[f"whimbrel_{name}"].count_documents({"_id" if name == "runs" else "run": run.id})
        for name in LEDGER
    }


def pruned(store: MongoStore, **options: Any) -> retention.PruneReport:
    return prune(store.ledger, 90, **{"seconds": 60, "who": "test", **options})


def follow(store: MongoStore, run: Run, *its: Migration) -> Run:
    with system(store, its):
        return until(store, run).run


def test_an_old_run_goes_with_all_that_the_ledger_knows_of_it(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, IT).run
    age(database)
    fresh = migrate(store, FAILS).run
    for run in (old, fresh):  # files that calls of its function have loaded
        store.ledger.codes.agree(run.id, {"rules.py": "0123"}, new={"rules.py"})
        store.ledger.known_causes.see(run.id, ["0123"], who="test", note="")
    found = pruned(store)
    assert (found.runs, found.more, dict(found.kept)) == ([old.id], False, {})
    assert rows(database, old) == dict.fromkeys(LEDGER, 0)
    assert (rows(database, fresh)["failures"], rows(database, fresh)["known"]) == (5, 1)
    assert [row["_id"] for row in database["whimbrel_codes"].find({"hash": "0123"})] == [
        f"{fresh.id}/rules.py"
    ]
    about = {row["run"] for row in database["whimbrel_audit"].find()} - {""}
    assert about == {fresh.id}
    assert database["whimbrel_leases"].count_documents({"_id": f"coordinator:{old.id}"}) == 0
    assert pruned(store).runs == []


def test_a_trial_says_what_would_go_and_removes_nothing(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, IT).run
    age(database)
    before = rows(database, old)
    assert pruned(store, trial=True).runs == [old.id]
    assert rows(database, old) == before


def test_documents_with_marks_of_a_pruned_run_are_no_faults_of_a_later_one(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    migrate(store, IT)
    age(database)
    database["things"].insert_many([{"_id": key, "n": key} for key in range(1000, 1030)])
    late = migrate(store, IT).run
    assert len(pruned(store).runs) == 1
    checking = start_verification(store, late.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
    assert follow(store, checking, IT).status is RunStatus.COMPLETED
    database["things"].update_one({"_id": 7}, {"$set": {"_whimbrel.old_v1": "20250101-nobody.1"}})
    checking = start_verification(store, late.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
    strange = follow(store, checking, IT)
    assert [each.verdict for each in strange.report if each.check == "marks"] == ["changed since"]
    assert [each.key.value for each in store.ledger.failures.list(strange.id)] == [7]


def test_what_an_open_failure_needs_stays_until_it_is_resolved(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, FAILS).run
    age(database)
    assert dict(pruned(store).kept) == {FAILING: 1}
    database["things"].update_many({"n": {"$lt": 5}}, {"$inc": {"n": 100}})
    late = migrate(store, FAILS).run  # resolves them
    assert late.status is RunStatus.COMPLETED
    assert pruned(store).runs == [old.id]


def test_what_a_rollback_needs_stays_until_it_is_rolled_back_or_cleaned_up(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    taken_back, cleaned = migrate(store, UNDO).run, None
    age(database)
    assert dict(pruned(store).kept) == {UNDOABLE: 1}
    rollback = start_rollback(store, taken_back.id, who="test", defaults=DEFAULTS)
    follow(store, rollback, UNDO)
    assert dict(pruned(store).kept) == {TREATED: 1}
    cleaned = migrate(store, UNDO).run
    age(database)
    found = pruned(store)
    assert set(found.runs) == {taken_back.id, rollback.id}
    assert dict(found.kept) == {UNDOABLE: 1}
    cleanup = start_cleanup(store, cleaned.id, who="test", defaults=DEFAULTS)
    follow(store, cleanup, UNDO)
    age(database)
    assert set(pruned(store).runs) == {cleaned.id, cleanup.id}
    assert database["whimbrel_batches"].count_documents({}) == 0


def test_conflicts_of_a_rollback_keep_both(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, UNDO).run
    database["things"].update_one({"_id": 3}, {"$set": {"b": 7}})
    rollback = start_rollback(store, old.id, who="test", defaults=DEFAULTS)
    assert follow(store, rollback, UNDO).status is RunStatus.COMPLETED_WITH_FAILURES
    age(database)
    assert dict(pruned(store).kept) == {FAILING: 1, FOLLOWING: 1}


def test_old_verifications_go_before_the_run_that_they_verified(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, FAILS).run
    checking = start_verification(store, old.id, FAILS.definition, who="test", defaults=DEFAULTS, sample=0)
    follow(store, checking, FAILS)
    age(database)
    found = pruned(store)
    assert (found.runs, dict(found.kept)) == ([checking.id], {FAILING: 1})


def test_runs_that_have_not_ended_stay_however_old(store: MongoStore, database: Data) -> None:
    seed(database)
    run = start(store, IT)
    age(database, 1000)
    assert pruned(store).runs == []
    cancel(store.ledger, run.id, who="test")
    assert pruned(store).runs == []  # it has ended now
    assert rows(database, run)["runs"] == 1


def test_a_call_is_bounded_and_the_next_one_goes_on(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database)
    old = migrate(store, IT, batch_size=5).run
    age(database)
    monkeypatch.setattr(retention, "ROWS", 5)
    batches = rows(database, old)["batches"]
    calls = 0
    real = store.ledger.retention.remove

    def cut_off(run_id: str, limit: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        found = real(run_id, limit)
        assert found.batches <= 5
        return found

    monkeypatch.setattr(store.ledger.retention, "remove", cut_off)
    with pytest.raises(KeyboardInterrupt):
        pruned(store)
    assert rows(database, old) == dict.fromkeys(LEDGER, 0) | {"batches": batches - 5}
    assert pruned(store).batches == batches - 5
    assert store.ledger.batches.orphaned() == []
    assert rows(database, old)["batches"] == 0


def test_the_age_is_by_the_servers_clock_and_to_the_day(store: MongoStore, database: Data) -> None:
    seed(database)
    old = migrate(store, IT).run
    for days, gone in ((89, False), (91, True)):
        ended = datetime.now(UTC) - timedelta(days=days)
        database["whimbrel_runs"].update_one({"_id": old.id}, {"$set": {"endedAt": ended}})
        assert (pruned(store).runs == [old.id]) is gone


def test_a_process_that_stays_applies_the_retention_by_itself(
    store: MongoStore, database: Data, mongo_uri: str, tmp_path: Path
) -> None:
    seed(database)
    old = migrate(store, IT).run
    age(database)
    fresh = migrate(store, FAILS).run
    settings = Settings(mongodb_uri=mongo_uri, mongodb_db_name=database.name, whimbrel_home=tmp_path)
    with ParentProcess(store, settings, None, scheduling=nothing) as parent:
        wait_until(lambda: rows(database, old) == dict.fromkeys(LEDGER, 0))
        assert parent.broken is None
    assert rows(database, fresh)["failures"] == 5


def test_one_process_prunes_and_another_takes_its_place(store: MongoStore, database: Data) -> None:
    seed(database)
    one, two = (Pruner(store.ledger, 90, name=name) for name in ("one", "two"))
    one.tick()
    old = migrate(store, IT).run
    age(database)
    two.tick()
    assert rows(database, old)["runs"] == 1
    store.ledger.leases.step_down("one")
    two.tick()
    assert rows(database, old)["runs"] == 0


def test_what_is_kept_does_not_hide_what_may_go(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However short a round is, and however much before it is kept."""
    seed(database)
    kept = migrate(store, FAILS).run
    old = migrate(store, IT).run
    age(database)
    monkeypatch.setattr(retention, "ROUND_SECONDS", 0)
    monkeypatch.setattr(retention, "ROWS", 1)
    pruner = Pruner(store.ledger, 90, name="one")
    store.ledger.leases.audit("nobody's", run="", who="test")
    age(database)
    for _ in range(40):
        pruner.tick()
    assert (rows(database, kept)["runs"], rows(database, old)["runs"]) == (1, 0)
    about = {row["run"] for row in database["whimbrel_audit"].find({"what": {"$ne": "run pruned"}})}
    assert about == {kept.id}


def test_what_killed_processes_have_left_goes(store: MongoStore, database: Data) -> None:
    ledger = store.ledger
    for name in ("dead", "alive"):
        ledger.leases.beat(
            name, slots=1, only=None, code=[], inHand=[], refuses=[], done=0, host="h", pid=1, version="0"
        )
        ledger.leases.lead(f"coordinator:{name}", name, 60)
    ledger.leases.switch("consumers", on=False, who="test")
    earlier = {"$subtract": ["$$NOW", 2 * 86_400_000]}
    database["whimbrel_workers"].update_one({"_id": "dead"}, [{"$set": {"seenAt": earlier}}])
    database["whimbrel_leases"].update_one({"_id": "coordinator:dead"}, [{"$set": {"until": earlier}}])
    Pruner(ledger, 90, name="one").tick()
    assert [row["_id"] for row in database["whimbrel_workers"].find()] == ["alive"]
    left = {row["_id"] for row in database["whimbrel_leases"].find()}
    assert left == {"coordinator:alive", "retention", "switch:consumers"}


def nothing(name: str) -> Definition:
    raise MigrationUnknown(name)


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
