"""Processes that come back, statements that go on, and an application that writes all the while."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from bson.binary import Binary
from pymongo.errors import PyMongoError

from tests.faults.rig import Rig
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress, Stretch
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.control import cancel
from whimbrel.errors import EmbeddedUnavailable, LeaseLost
from whimbrel.mongo.embedded.folder import Folder


def until(true: Any, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def stopped_in_the_middle(rig: Rig) -> Callable[[], None]:
    """A parent and its worker, stopped while they migrate; call what is returned to let them go on."""
    first = rig.parent(workers=1)
    until(lambda: rig.things.count_documents({"n": 1}) > 0)
    zombies = [*rig.children(), psutil.Process(first.pid)]
    rig.suspended = zombies
    until(lambda: harmlessly_suspended(rig, zombies))
    rig.parents.remove(first)

    def wake() -> None:
        for each in zombies:
            each.resume()
        rig.parents.append(first)

    return wake


def harmlessly_suspended(rig: Rig, zombies: list[psutil.Process]) -> bool:
    """Not while they look after the embedded MongoDB: nobody else could join it."""
    for each in zombies:
        each.suspend()
    try:
        with Folder.at(rig.home).starting(0):
            return True
    except EmbeddedUnavailable:
        for each in zombies:
            each.resume()
        return False


def test_h12_a_worker_that_was_stopped_writes_nothing_when_it_comes_back(rig: Rig) -> None:
    rig.seed(2000)
    run = rig.start("slow")
    rig.hold(1999)
    wake = stopped_in_the_middle(rig)
    rig.let_go()
    rig.parent(workers=2)
    found = rig.finish(run)
    rig.reckon(found, 2000)
    # As a rollback would: the documents are byte for byte what the zombies have read.
    rig.things.update_many({}, {"$set": {"n": 0}, "$unset": {"_whimbrel": ""}})
    wake()
    woke = rig.start("pipeline-marker", filter_={"number": -1})  # they are awake when they have seen this run
    rig.finish(woke)
    assert Counter(each["n"] for each in rig.things.find()) == {0: 2000}


def test_cancelled_means_that_nothing_is_written_any_more_even_by_a_stopped_worker(rig: Rig) -> None:
    rig.seed(2000)
    run = rig.start("slow")
    rig.hold(1999)
    wake = stopped_in_the_middle(rig)
    rig.parent(workers=1)
    cancel(rig.store.ledger, run.id, who="test")
    rig.let_go()
    found = rig.until(run, RunStatus.CANCELLED)
    done = rig.things.count_documents({"n": 1})
    assert found.counts.changed == done
    wake()
    woke = rig.start("pipeline-marker", filter_={"number": -1})
    rig.finish(woke)
    assert rig.things.count_documents({"n": 1}) == done


def test_h13_the_statement_of_a_killed_worker_is_ended_before_its_batch_is_taken_over(rig: Rig) -> None:
    rig.seed(100)
    slow = {
        "$expr": {
            "$eq": [
                {"$function": {"body": "function() { sleep(200); return true }", "args": [], "lang": "js"}},
                True,
            ]
        }
    }
    session = rig.client.start_session()
    lsid = Binary(session.session_id["id"], 4)
    running = threading.Thread(
        target=_ignoring, args=(lambda: rig.things.update_many(slow, {"$set": {"late": 1}}, session=session),)
    )
    running.start()
    batches = rig.client[rig.store.database]["whimbrel_batches"]
    until(lambda: _operations(rig, lsid))
    batches.insert_one({
        "_id": "r.1", "run": "r", "seq": 1, "leg": 0, "phase": "pending", "lo": None, "cuts": [], "ids": None, "last": True,
        "estimated": 0, "status": "running", "claims": 1, "takeovers": 0, "solo": False, "counts": {}, "owner": "nonce",
        "worker": "dead", "lsid": lsid, "leaseUntil": None,
    })  # fmt: skip
    taken = rig.store.ledger.batches.take_over(worker="dead")
    assert [each.token for each in taken] == ["r.1"]
    until(lambda: not _operations(rig, lsid), 20)
    running.join(10)
    late = rig.things.count_documents({"late": 1})
    assert late < 100
    session.end_session()


def _ignoring(act: Any) -> None:
    try:
        act()
    except PyMongoError:
        return


def _operations(rig: Rig, lsid: Any) -> list[Any]:
    found = rig.client.admin.aggregate(
        [{"$currentOp": {}}, {"$match": {"lsid.id": lsid, "op": {"$in": ["update", "command"]}}}]
    )
    return [each for each in found if "update" in each.get("command", {}) or each.get("op") == "update"]


def test_an_application_that_changes_what_the_function_reads_loses_no_write(rig: Rig) -> None:
    """Promise 3: `sum` must always be what the function makes of the fields as they are in the document."""
    rig.things.insert_many([{"number": i, "a": 0, "b": 0} for i in range(1500)])
    over = threading.Event()
    written: Counter[int] = Counter()

    def application() -> None:
        number = 0
        while not over.is_set():
            number = (number + 7) % 1500
            # An application that knows of `sum` keeps it right: a stale sum can only come from a lost race.
            rig.things.update_one(
                {"number": number},
                [
                    {"$set": {"a": {"$add": ["$a", 1]}}},
                    {
                        "$set": {
                            "sum": {
                                "$cond": [
                                    {"$eq": [{"$type": "$sum"}, "missing"]},
                                    "$$REMOVE",
                                    {"$add": ["$a", "$b", 1000]},
                                ]
                            }
                        }
                    },
                ],
            )
            written[number] += 1

    writers = [threading.Thread(target=application) for _ in range(2)]
    for each in writers:
        each.start()
    try:
        for name in ("summing", "summing-reads"):
            rig.things.update_many({}, {"$unset": {"sum": ""}})
            run = rig.start(name, batch_size=300)
            if not rig.parents:
                rig.parent()
            found = rig.finish(run)
            assert found.run.status is RunStatus.COMPLETED, rig.store.ledger.failures.list(run.id)
    finally:
        over.set()
        for each in writers:
            each.join()
    documents = list(rig.things.find())
    assert sum(written.values()) > 500
    lost = [each for each in documents if each["a"] != written[each["number"]]]
    assert not lost
    stale = [each for each in documents if each["sum"] != each["a"] + each["b"] + 1000]
    assert not stale


def test_h25_two_coordinators_plan_one_chain_of_batches(rig: Rig) -> None:
    rig.seed(5000)
    run = rig.start("declarative-marker", batch_size=50)
    for _ in range(3):
        rig.parent(workers=1)
    stop = time.monotonic() + 1.5

    def pausing() -> Any:
        while time.monotonic() < stop:
            for parent in rig.parents:
                os.kill(parent.pid, signal.SIGSTOP)
                yield
                os.kill(parent.pid, signal.SIGCONT)
                yield

    found = rig.finish(run, chaos=pausing())
    rig.reckon(found, 5000)
    rows = rig.store.ledger.batches.list(run.id, limit=10_000)
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))


def test_h3_a_claim_that_was_lost_can_write_nothing_to_the_batch_any_more(rig: Rig) -> None:
    rig.seed(100)
    run = rig.start("declarative-marker")
    rig.parent(workers=0)
    batches = rig.store.ledger.batches
    until(lambda: batches.last(run.id))
    rig.stop()  # it would take over what stands still here for longer than a lease
    rig.parents.clear()
    first = batches.claim([run.id], worker="a", lsid=b"0" * 16)
    assert first is not None
    assert batches.take_over(worker="a")
    second = batches.claim([run.id], worker="b", lsid=b"1" * 16)
    assert second is not None
    assert second.token == first.token
    assert second.owner != first.owner
    for act in (
        lambda: batches.settle(first, Counts(1), inferred=False),
        lambda: batches.renew(first),
        lambda: batches.note(first, Progress((Stretch(1, Counts(100)),))),
        lambda: batches.suspect(first, Key.of(1), Progress()),
        lambda: batches.keep_before(first, {1: 100}),
    ):
        with pytest.raises(LeaseLost):
            act()
    batches.release(first)
    row = batches.list(run.id)[0]
    assert (row.owner, str(row.status)) == (second.owner, "running")
    assert (row.progress, row.suspect, row.before) == (Progress(), None, None)
