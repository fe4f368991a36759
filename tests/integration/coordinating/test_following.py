"""Runs that follow: what an application writes after the sweep is changed too, once, until a person ends that. MongoDB itself says what is left."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.binary import Binary
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, nothing, start, system, until
from tests.waiting import until as wait
from whimbrel import SKIP, Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating import following as following_code
from whimbrel.engine.coordinating import recurring_documents
from whimbrel.engine.coordinating.fold_counts import fold
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView, row_object, view
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import CollectionUnsuitable, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]


def add_one(thing: dict[str, Any]) -> Any:
    return SKIP if thing.get("skip") else {"$set": {"n": thing["n"] + 1}}


OLD = {"n": 0, "status": "pending"}
WAYS: dict[str, Migration] = {
    "declared": Migration(name="declared", collection="things", update={"$inc": {"n": 1}}),
    "function": Migration(name="function", collection="things", transform=add_one, undo=True),
    "status": Migration(name="status", collection="things", mark="status", transform=add_one),
    "filter": Migration(name="filter", collection="things", mark="filter", filter={"n": 0}, update={"$inc": {"n": 1}}),
}  # fmt: skip
IT = WAYS["declared"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following_code, "GATHERING", 0.05)


def by_n(database: Data) -> dict[int, int]:
    groups = database["things"].aggregate([{"$group": {"_id": "$n", "count": {"$sum": 1}}}])
    return {row["_id"]: row["count"] for row in groups}


def now(store: MongoStore, run: Run) -> Run:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return found


def until_following(store: MongoStore, run: Run) -> Run:
    return wait(lambda: (found := now(store, run)).phase == "follow" and found)  # type: ignore[no-any-return]


def until_changed(database: Data, count: int) -> None:
    """As many documents are there, and each was changed once."""
    wait(lambda: by_n(database) == {1: count})


def end(store: MongoStore, run: Run) -> RunView:
    control.adjust(store.ledger, run.id, who="test", follow=False)
    return until(store, run)


@contextmanager
def following(
    store: MongoStore, it: Migration, *, step: Callable[[str], None] = nothing, **options: Any
) -> Iterator[Run]:
    """A run that has come to following."""
    with system(store, [it], step=step):
        run = start(store, it, follow=True, **options)
        until_following(store, run)
        yield run


def verified(store: MongoStore, it: Migration, run: Run) -> dict[str, bool | None]:
    checking = start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS)
    return {proof.check: proof.proved for proof in until(store, checking).run.report}


class Application(threading.Thread):
    """Writes old-shaped documents from before a run begins, and touches those that are there, until there are so many."""

    def __init__(self, database: Data, count: int) -> None:
        super().__init__()
        self._things, self._count = database["things"], count
        self.follows = threading.Event()  # half of them are left for then

    def run(self) -> None:
        for number in range(self._count):
            if number == self._count // 2:
                assert self.follows.wait(60)
            self._things.insert_one({**OLD, "number": number})
            self._things.update_one({"number": number // 2}, {"$inc": {"touched": 1}})


@pytest.mark.parametrize("way", WAYS)
def test_all_that_an_application_writes_meanwhile_is_changed_once(
    store: MongoStore, database: Data, way: str
) -> None:
    it, count = WAYS[way], 200
    database["things"].insert_many([{**OLD, "number": -1 - number} for number in range(300)])
    application = Application(database, count)
    with system(store, [it]):
        application.start()
        run = start(store, it, follow=True)
        until_following(store, run)
        application.follows.set()
        application.join()
        until_changed(database, 300 + count)
        assert now(store, run).status is RunStatus.RUNNING
        ended = end(store, run)
        assert (ended.run.status, ended.counts.changed) == (RunStatus.COMPLETED, 300 + count)
        assert ended.run.message.startswith("Nothing eligible is left")
        assert False not in verified(store, it, run).values()
        if it.definition.undo:
            until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))
            assert by_n(database) == {0: 300 + count}
    named = [
        key
        for batch in store.ledger.batches.list(run.id)
        if batch.phase == "follow"
        for key in batch.ids or ()
    ]
    assert len(named) <= count, "what the run has written itself made batches"


def test_a_stream_tells_what_others_write_and_not_what_the_run_does(
    store: MongoStore, database: Data
) -> None:
    """The mark is in the change in one of two ways: `_whimbrel` is new, or it was there."""
    second = Migration(name="second", collection="things", update={"$set": {"m": 1}})
    for it in (WAYS["function"], second, WAYS["status"]):
        database["things"].insert_one({**OLD, "_id": f"before {it.definition.name}"})
        run = start(store, it)
        stream = store.changes(run)
        began_at = stream.position
        with system(store, [it]):
            assert until(store, run).run.status is RunStatus.COMPLETED
        database["things"].insert_one({**OLD, "_id": it.definition.name})
        assert wait(stream.next).key.value == it.definition.name
        stream.close()
        again = store.changes(run, began_at)
        assert wait(again.next).key.value == it.definition.name
        assert again.next() is None
        again.close()


def test_an_empty_collection_is_followed_and_people_are_told(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    with following(store, IT) as run:
        database["things"].insert_many([dict(OLD) for _ in range(5)])
        until_changed(database, 5)
        found = wait(lambda: (seen := view(store.ledger, now(store, run))).counts.changed == 5 and seen)
        told = row_object(found)
        assert (told["phase"], told["etaSeconds"], told["status"]) == ("follow", None, "running")
        assert told["follow"]["documents"] == 5
        assert told["follow"]["behindSeconds"] is not None
        assert found.following.startswith("follows since ")
        assert found.following.endswith("5 documents since the sweep")
        other = start(store, WAYS["function"])
        waits = wait(lambda: view(store.ledger, now(store, other)).run.message)
        assert f"Waits for run {run.id}" in waits
        assert f"whimbrel set {run.id} --no-follow" in waits
        found_of = {each.check: each.reason for each in now(store, other).warnings}
        assert "follows until it is told to end" in found_of["runs"]
        assert "change-streams" not in found_of, "the run's own is no other's"
        control.cancel(store.ledger, other.id, who="test")
        ended = end(store, run)
        assert ended.following.startswith("followed since ")


def test_what_is_written_while_a_run_is_paused_is_done_when_it_goes_on(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one(dict(OLD))
    with following(store, IT) as run:
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
    database["things"].insert_many([dict(OLD) for _ in range(20)])
    with system(store, [IT]):
        control.resume(store.ledger, run.id, who="test", code=IT.definition)
        until_changed(database, 21)
        found = end(store, run).run
    assert found.status is RunStatus.COMPLETED
    assert found.follow is not None
    assert found.follow.lost == 0
    assert len(found.legs) == 6


def test_a_document_that_is_replaced_is_changed_again(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({**OLD, "_id": 1})
    with following(store, IT) as run:
        until_changed(database, 1)
        for _ in range(2):
            database["things"].replace_one({"_id": 1}, OLD)
            until_changed(database, 1)
        assert end(store, run).counts.changed == 3


@pytest.mark.parametrize("way", ["declared", "status"])
def test_what_is_written_until_the_last_sweep_begins_is_done_by_it(
    store: MongoStore, database: Data, way: str
) -> None:
    """Also where no index tells statuses apart, so that other sweeps look only at what an earlier phase has seen."""
    it = WAYS[way]
    database["things"].insert_many([{**OLD, "_id": number} for number in (1, 3)])

    def step(name: str) -> None:
        if name == "S11" and now(store, run).phase == "follow":
            database["things"].insert_one({**OLD, "_id": 2})

    run = start(store, it, follow=True)
    with system(store, [it], step=step):
        until_following(store, run)
        assert end(store, run).run.status is RunStatus.COMPLETED
    assert by_n(database) == {1: 3}


def test_an_application_that_sets_back_a_document_is_no_fault_of_the_definition(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one({**OLD, "_id": 1})
    back = threading.Event()

    def step(name: str) -> None:
        if name == "S8" and database["things"].find_one({"_id": 2, "n": 1}) and not back.is_set():
            back.set()
            database["things"].update_one({"_id": 2}, {"$set": {"n": 0}})

    with following(store, WAYS["filter"], step=step) as run:
        database["things"].insert_one({**OLD, "_id": 2})
        assert back.wait(60)
        until_changed(database, 2)
        assert end(store, run).counts.changed == 3


# a position that is lost


def unknown(database: Data) -> bytes:
    """The position of a change that this collection never had, as after a restore."""
    with database["others"].watch() as stream:
        database["others"].insert_one({})
        return bson.encode(stream.next()["_id"])


def unreadable(_: Data) -> bytes:
    return bson.encode({"_data": "82"})


def forget(database: Data, run: Run, position: bytes) -> None:
    database["whimbrel_runs"].update_one({"_id": run.id}, {"$set": {"follow.position": Binary(position)}})


@pytest.mark.parametrize("lost", [unknown, unreadable])
def test_where_mongodb_does_not_know_what_changed_a_sweep_makes_up_for_it(
    store: MongoStore, database: Data, lost: Callable[[Data], bytes]
) -> None:
    database["things"].insert_many([dict(OLD) for _ in range(10)])
    with following(store, IT) as run:
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
    forget(database, run, lost(database))
    database["things"].insert_many([dict(OLD) for _ in range(10)])
    with system(store, [IT]):
        control.resume(store.ledger, run.id, who="test", code=IT.definition)
        until_changed(database, 20)
        wait(lambda: now(store, run).phase == "follow" and now(store, run).leg == 5)
        database["things"].insert_one(dict(OLD))
        until_changed(database, 21)
        assert "changes lost and swept for 1 times" in view(store.ledger, now(store, run)).following
        ended = end(store, run)
        assert (ended.run.status, ended.counts.changed) == (RunStatus.COMPLETED, 21)
        assert False not in verified(store, IT, run).values()
    assert ended.run.legs == ("pending", "failed", "sweep", "follow", "sweep", "follow", "sweep", "failed")
    assert database["whimbrel_audit"].count_documents({"run": run.id, "what": "changes lost"}) == 1


def test_a_sweep_may_take_longer_than_the_oplog_reaches_back(store: MongoStore, database: Data) -> None:
    """What changes during the sweep is read meanwhile: the stored position, which MongoDB does not know any more by then, is not needed."""
    database["things"].insert_many([dict(OLD) for _ in range(10)])
    names: list[str] = []

    def step(name: str) -> None:
        if name == "S11" and now(store, run).phase == "sweep":
            names.extend(thread.name for thread in threading.enumerate())
            forget(database, run, unreadable(database))
            database["things"].insert_many([dict(OLD) for _ in range(10)])

    run = start(store, IT, follow=True)
    with system(store, [IT], step=step):
        until_changed(database, 20)
        assert f"changes for {run.id}" in names, "read already during the sweep"
        found = now(store, run).follow
        assert found is not None
        assert found.lost == 0
        ended = end(store, run)
    assert ended.counts.changed == 20
    assert ended.run.legs == ("pending", "failed", "sweep", "follow", "sweep", "failed")


def test_a_position_that_is_lost_time_after_time_pauses_the_run(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody reads ahead, as with a coordinator that dies in each sweep."""
    monkeypatch.setattr(following_code.Following, "read_ahead", lambda *_: None)
    database["things"].insert_one(dict(OLD))
    lose = threading.Event()
    lose.set()

    def step(name: str) -> None:
        if name == "S11" and lose.is_set() and now(store, run).phase == "sweep":
            forget(database, run, unreadable(database))

    run = start(store, IT, follow=True)
    with system(store, [IT], step=step):
        paused = until(store, run, RunStatus.PAUSED).run
        assert "3 times in a row" in (paused.error or "")
        assert f"whimbrel set {run.id} --no-follow" in (paused.error or "")
        lose.clear()
        database["things"].insert_one(dict(OLD))
        control.resume(store.ledger, run.id, who="test", code=IT.definition)
        until_changed(database, 2)
        assert end(store, run).run.status is RunStatus.COMPLETED


# ends


def test_a_run_that_is_told_to_end_before_it_follows_ends_as_any_other(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one(dict(OLD))
    run = start(store, IT, follow=True)
    control.adjust(store.ledger, run.id, who="test", follow=False)
    with system(store, [IT]):
        found = until(store, run)
        assert found.run.status is RunStatus.COMPLETED
        assert found.run.legs == ("pending", "failed", "sweep", "failed")
        assert False not in verified(store, IT, run).values()
    with pytest.raises(StateForbids, match="its settings change nothing"):
        control.adjust(store.ledger, run.id, who="test", follow=False)


def test_following_ends_for_good_and_only_where_it_is(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    run, other = start(store, IT, follow=True), start(store, IT)
    control.adjust(store.ledger, run.id, who="test", follow=True)
    for _ in range(2):
        control.adjust(store.ledger, run.id, who="test", follow=False)
    with pytest.raises(StateForbids, match="cannot follow again"):
        control.adjust(store.ledger, run.id, who="test", follow=True)
    with pytest.raises(StateForbids, match="does not follow"):
        control.adjust(store.ledger, other.id, who="test", follow=False)
    with pytest.raises(StateForbids, match="from its start"):
        control.adjust(store.ledger, other.id, who="test", follow=True)


def test_a_run_that_follows_can_be_cancelled(store: MongoStore, database: Data) -> None:
    database["things"].insert_one(dict(OLD))
    with following(store, IT) as run:
        control.cancel(store.ledger, run.id, who="test")
        assert until(store, run).run.status is RunStatus.CANCELLED


@pytest.mark.parametrize("renamed", [True, False])
def test_a_collection_that_goes_away_pauses_the_run(
    store: MongoStore, database: Data, *, renamed: bool
) -> None:
    database["things"].insert_one(dict(OLD))
    with following(store, IT) as run:
        database["things"].rename("elsewhere") if renamed else database["things"].drop()
        paused = until(store, run, RunStatus.PAUSED).run
        assert "that the run began with was" in (paused.error or "")
        if renamed:  # back again: the stream has ended by it, so a sweep makes up
            database["elsewhere"].insert_one(dict(OLD))
            database["elsewhere"].rename("things")
            control.resume(store.ledger, run.id, who="test", code=IT.definition)
            until_changed(database, 2)
            assert end(store, run).run.status is RunStatus.COMPLETED


# failures


def test_failures_are_tried_again_while_the_run_follows(store: MongoStore, database: Data) -> None:
    tried: dict[Any, int] = {}

    def stubborn(thing: dict[str, Any]) -> dict[str, Any]:
        tried[thing["_id"]] = tried.get(thing["_id"], 0) + 1
        if thing["fails"] >= tried[thing["_id"]]:
            raise ValueError("not yet")
        return {"$set": {"n": thing["n"] + 1}}

    it = Migration(name="stubborn", collection="things", transform=stubborn)
    database["things"].insert_one({**OLD, "fails": 0})
    with following(store, it) as run:
        database["things"].insert_many([{**OLD, "_id": number, "fails": number} for number in (1, 9)])
        wait(lambda: by_n(database) == {0: 1, 1: 2})
        wait(lambda: store.ledger.failures.counts(run.id)["dead"] == 1)
        database["things"].update_one(
            {"_id": 9}, {"$set": {"touched": True}}
        )  # it has failed: no batch names it again
        database["things"].insert_one({**OLD, "_id": 3, "fails": 0})
        wait(lambda: by_n(database) == {0: 1, 1: 3})
        assert tried[9] == 3
        assert now(store, run).phase == "follow"
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
        assert control.retry(store.ledger, run.id, who="test", code=it.definition)[1] == 1
        wait(lambda: tried[9] == 6)
        wait(lambda: store.ledger.failures.counts(run.id)["dead"] == 1)
        ended = end(store, run)
    assert ended.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert (ended.counts.changed, ended.failures["failed"]) == (3, 1)


def test_what_is_skipped_without_a_mark_is_looked_at_once(store: MongoStore, database: Data) -> None:
    it = Migration(name="skips", collection="things", mark="filter", filter={"n": 0}, transform=add_one)
    database["things"].insert_one({**OLD, "skip": True})
    with following(store, it) as run:
        database["things"].update_many({}, {"$set": {"touched": 1}})
        database["things"].insert_one(dict(OLD))
        wait(lambda: by_n(database) == {0: 1, 1: 1})
        ended = end(store, run)
    assert (ended.run.status, ended.counts.changed, ended.counts.skipped) == (RunStatus.COMPLETED, 1, 1)


def test_documents_that_are_eligible_again_and_again_pause_the_run(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recurring_documents, "TIMES", 4)
    monkeypatch.setattr(following_code, "GATHERING", 0.0)
    it = Migration(
        name="endless", collection="things", mark="filter", filter={"n": {"$gte": 0}},
        update=[{"$set": {"n": {"$cond": ["$good", -1, {"$add": ["$n", 1]}]}}}],
    )  # fmt: skip
    database["things"].insert_many([{"n": 0, "good": True} for _ in range(5)])
    with following(store, it) as run:
        database["things"].insert_one({"_id": "odd", "n": 0, "good": False})
        paused = until(store, run, RunStatus.PAUSED).run
    assert "'odd' was changed 4 times" in (paused.error or "")


# what cannot follow


def test_runs_over_a_part_cannot_follow(store: MongoStore, database: Data) -> None:
    database["things"].insert_one(dict(OLD))
    with pytest.raises(CollectionUnsuitable, match="over the first 5 documents cannot follow"):
        start(store, IT, limit=5, follow=True)
    with pytest.raises(CollectionUnsuitable, match="over documents that are failed cannot follow"):
        start(store, WAYS["status"], filter_={"status": "failed"}, follow=True)
    assert start(store, WAYS["status"], filter_={"status": "pending"}, follow=True).phase == "pending"


# merged batches

BAD = 5


def until_evaluated(database: Data, number: int) -> None:
    """All up to this one are changed, but for one, which fails."""
    done = number + 2 - (number >= BAD)
    wait(
        lambda: by_n(database).get(1) == done and (number != BAD or database["whimbrel_failures"].find_one())
    )


def test_old_batches_are_merged_and_all_can_be_proved(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following_code, "GATHERING", 0.0)
    monkeypatch.setattr(following_code, "LEFT_APART", 2)
    monkeypatch.setattr(following_code, "TOGETHER", 3)

    def fail(thing: dict[str, Any]) -> dict[str, Any]:
        if thing["_id"] == BAD:
            raise ValueError("bad")
        return {"$set": {"n": thing["n"] + 1}}

    it = Migration(name="often", collection="things", transform=fail)
    database["things"].insert_one({**OLD, "_id": -1})
    with following(store, it) as run:
        rows, number = database["whimbrel_batches"], 0
        # Merged before the batch that failed, and behind it: where its retry comes depends on the machine.
        while number < 12 or rows.count_documents({"run": run.id, "upTo": {"$exists": True}}) < 2:
            database["things"].insert_one({**OLD, "_id": number})
            until_evaluated(database, number)
            number += 1
        seen_long_ago = replace(now(store, run), folded_through=3)
        assert fold(store.ledger, seen_long_ago, nothing).folded_through > 3, (
            "no row is missed that was merged"
        )
        ended = end(store, run)
        assert (ended.run.status, ended.counts.changed) == (RunStatus.COMPLETED_WITH_FAILURES, number)
        assert rows.count_documents({"run": run.id}) < ended.run.planned - 3
        assert rows.count_documents({"run": run.id, "failing.n": 1}) == 1, "what failures name is left"
        report = verified(store, it, run)
        assert (report["ranges tile"], report["marks"], report["outcomes add up"]) == (True, True, True)
