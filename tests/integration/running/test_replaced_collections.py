"""A run is bound to the collection that it began with: what is renamed, dropped or put in its place in mid-run pauses it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start_cleanup import start_cleanup
from whimbrel.engine.operating.start_over import start_over
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import CollectionReplaced, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
COUNT = 600
OTHERS = 40  # documents of the collection that comes instead


def seed(database: Data, name: str = "things", count: int = COUNT, word: str = "first") -> None:
    database[name].insert_many({"_id": at, "n": 0, "status": "pending", "from": word} for at in range(count))


def renamed_away(database: Data) -> None:
    database["things"].rename("elsewhere")


def dropped(database: Data) -> None:
    database["things"].drop()


def made_anew(database: Data) -> None:
    database["things"].drop()
    seed(database, count=OTHERS, word="second")


def renamed_over(database: Data) -> None:
    seed(database, "staging", OTHERS, "second")
    database["staging"].rename("things", dropTarget=True)


def exchanged(database: Data) -> None:
    database["things"].rename("elsewhere")
    seed(database, count=OTHERS, word="second")


# What has become of the collection. Whether another has its name already depends on the moment.
HAPPENINGS = {
    renamed_away: "was renamed to 'elsewhere'",
    dropped: "was dropped, or renamed into another database",
    made_anew: "was dropped, or renamed into another database",
    renamed_over: "was dropped, or renamed into another database",
    exchanged: "was renamed to 'elsewhere'",
}
KINDS: dict[str, dict[str, Any]] = {
    "declared": {"update": {"$inc": {"n": 1}}},
    "function": {"transform": lambda document: {"$set": {"n": document["n"] + 1}}},
    "status": {"update": [{"$set": {"n": {"$add": ["$n", 1]}}}], "mark": "status"},
    "filter": {"update": {"$inc": {"n": 1}}, "mark": "filter", "filter": {"n": 0}},
    "claimed": {"transform": lambda document: {"$set": {"n": document["n"] + 1}}, "mark": "status", "claim": True},
}  # fmt: skip


def migration_of(kind: str, **options: Any) -> Migration:
    return Migration(name="m", collection="things", **KINDS[kind], **options)


class Once:
    """Does something when a step of the protocol is reached for the second time: in the middle of a run."""

    def __init__(self, step: str, act: Callable[[], None]) -> None:
        self._step, self._act = step, act
        self._lock, self._seen = threading.Lock(), 0

    def __call__(self, step: str) -> None:
        with self._lock:
            self._seen += step == self._step
            if self._seen == 2 and self._act is not None:
                act, self._act = self._act, lambda: None
                act()


def broken_off(store: MongoStore, database: Data, it: Migration, happening: Any, step: str = "S6") -> RunView:
    """A run in whose middle something happens to its collection, when it has stopped."""
    with system(store, [it], step=Once(step, lambda: happening(database))):
        return until(
            store, start(store, it, batch_size=100), RunStatus.PAUSED, RunStatus.FAILED, RunStatus.COMPLETED
        )


@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", ["declared", "function"])
def test_it_pauses_and_says_what_happened(
    store: MongoStore, database: Data, kind: str, happening: Any
) -> None:
    seed(database)
    ended = broken_off(store, database, migration_of(kind), happening)
    assert ended.run.status is RunStatus.PAUSED
    assert HAPPENINGS[happening] in (ended.run.error or "")
    assert ended.run.counts.changed < COUNT
    assert database["things"].count_documents({"from": "second", "n": {"$ne": 0}}) == 0


@pytest.mark.parametrize("step", ["S1", "S3", "S5", "S7", "S8", "S10", "S11"])
def test_at_whatever_moment(store: MongoStore, database: Data, step: str) -> None:
    seed(database)
    it = Migration(
        name="m", collection="things", max_attempts=1,
        transform=lambda document: {"$set": {"n": 1}} if document["_id"] % 50 else 1 / 0,
    )  # fmt: skip
    ended = broken_off(store, database, it, made_anew, step)
    assert ended.run.status is RunStatus.PAUSED
    assert HAPPENINGS[made_anew] in (ended.run.error or "")
    assert database["things"].count_documents({"n": {"$ne": 0}}) == 0


@pytest.mark.parametrize("kind", ["status", "filter", "claimed"])
def test_by_every_mark(store: MongoStore, database: Data, kind: str) -> None:
    seed(database)
    ended = broken_off(store, database, migration_of(kind), exchanged)
    assert ended.run.status is RunStatus.PAUSED
    assert database["things"].count_documents({"n": 0, "status": "pending"}) == OTHERS


def test_renamed_back_it_goes_on(store: MongoStore, database: Data) -> None:
    seed(database)
    it = migration_of("declared")
    paused = broken_off(store, database, it, renamed_away).run
    database["elsewhere"].rename("things")
    control.resume(store.ledger, paused.id, who="test")
    with system(store, [it]):
        ended = until(store, paused)
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, COUNT)
    assert database["things"].count_documents({"n": 1}) == COUNT


@pytest.mark.parametrize("kind", ["declared", "function", "claimed"])
def test_h76_nothing_is_told_of_reads_that_found_nothing_because_it_was_away(
    store: MongoStore, database: Data, kind: str
) -> None:
    """Else the batch would go on behind documents that it has never seen, and leave them to the sweep."""
    seed(database, count=3000)
    it = migration_of(kind, batch_size=3000)
    acts = iter([lambda: renamed_away(database)])

    def step(name: str) -> None:
        if name == "S6":
            next(acts, lambda: None)()

    run = start(store, it)
    with system(store, [it], slots=1, step=step):
        until(store, run, RunStatus.PAUSED, RunStatus.COMPLETED)
    database["elsewhere"].rename("things")
    control.resume(store.ledger, run.id, who="test")
    with system(store, [it], slots=1):
        ended = until(store, run)
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, 3000)
    pending = [each for each in store.ledger.batches.list(run.id) if each.phase == "pending"]
    assert sum(each.counts.changed for each in pending) == 3000


def test_resumed_all_the_same_it_pauses_again(store: MongoStore, database: Data) -> None:
    seed(database)
    it = migration_of("function")
    paused = broken_off(store, database, it, made_anew).run
    control.resume(store.ledger, paused.id, who="test")
    with system(store, [it]):
        again = until(store, paused, RunStatus.PAUSED, RunStatus.COMPLETED)
    assert again.run.status is RunStatus.PAUSED
    assert database["things"].count_documents({"n": 0}) == OTHERS


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_new_one_it_begins_afresh(store: MongoStore, database: Data, kind: str) -> None:
    seed(database)
    it = migration_of(kind)
    paused = broken_off(store, database, it, made_anew).run
    new = start_over(store, paused.id, it.definition, who="somebody")
    with system(store, [it]):
        ended, old = until(store, new), until(store, paused)
    assert (ended.run.status, ended.run.counts.changed) == (RunStatus.COMPLETED, OTHERS)
    assert database["things"].count_documents({"n": 1}) == OTHERS
    assert (old.run.status, old.run.counts.changed) == (RunStatus.CANCELLED, old.run.counts.changed)
    said = {
        (each["run"], each["who"])
        for each in database["whimbrel_audit"].find({"what": {"$regex": "over|begun"}})
    }
    assert {(paused.id, "somebody"), (new.id, "somebody")} <= said
    assert set(database["things"].distinct("_whimbrel.m_v1")) <= {f"{new.id}.{seq}" for seq in range(1, 9)}


def test_what_cannot_begin_afresh_says_why(store: MongoStore, database: Data) -> None:
    seed(database)
    it = migration_of("declared")
    run = start(store, it)
    with pytest.raises(StateForbids, match="is the collection that it began with"):
        start_over(store, run.id, it.definition, who="test")
    with system(store, [it]):
        until(store, run)
    made_anew(database)
    with pytest.raises(StateForbids, match="is completed"):
        start_over(store, run.id, it.definition, who="test")


def test_a_run_that_waited_meanwhile_does_not_begin(store: MongoStore, database: Data) -> None:
    seed(database)
    it = migration_of("declared")
    run = start(store, it)
    made_anew(database)
    with system(store, [it]):
        ended = until(store, run, RunStatus.PAUSED, RunStatus.COMPLETED)
    assert ended.run.status is RunStatus.PAUSED
    assert database["things"].count_documents({"n": 0}) == OTHERS


def following(store: MongoStore, run: Run, it: Migration, what: str, **options: Any) -> Run:
    if what == "verify":
        return start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS, **options)
    start_it = start_rollback if what == "rollback" else start_cleanup
    return start_it(store, run.id, who="test", defaults=DEFAULTS, **options)


@pytest.mark.parametrize("what", ["verify", "rollback", "cleanup"])
def test_what_follows_a_run_is_about_its_collection_too(store: MongoStore, database: Data, what: str) -> None:
    seed(database)
    it = migration_of("declared", undo=True)
    with system(store, [it]):
        run = until(store, start(store, it)).run
    database["things"].aggregate([{"$out": "copy"}])
    with system(store, [it], step=Once("S8", lambda: exchanged(database))):
        ended = until(
            store, following(store, run, it, what, **({} if what == "cleanup" else {"batch_size": 100})),
            RunStatus.PAUSED, RunStatus.COMPLETED,
        )  # fmt: skip
        if what != "cleanup":  # of one batch
            assert (ended.run.status, ended.run.report) == (RunStatus.PAUSED, ended.run.report)
            control.cancel(store.ledger, ended.run.id, who="test")
            until(store, ended.run, RunStatus.CANCELLED)
    assert database["things"].count_documents({"n": 0, "_whimbrel": {"$exists": False}}) == OTHERS
    if what == "cleanup":
        return
    with pytest.raises(CollectionReplaced, match="another one has that name"):
        following(store, run, it, what)
    # A copy of it, as a restored backup is: somebody says that it shall be taken.
    database["things"].drop()
    database["copy"].rename("things")
    with system(store, [it]):
        ended = until(store, following(store, run, it, what, new_collection=True))
    assert ended.run.status is RunStatus.COMPLETED
    if what == "rollback":
        assert database["things"].count_documents({"n": 0, "_whimbrel": {"$exists": False}}) == COUNT
