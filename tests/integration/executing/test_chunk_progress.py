"""How far a batch is stands in its row, chunk by chunk: what is known to be done is neither done nor counted again."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from tests.integration.profiling import profiled
from whimbrel import SKIP, Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.marks import stamp
from whimbrel.domain.runs.batch_progress import Progress, Stretch
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
Calls = Counter[int]
COUNT, CHUNK = 5000, 1000
MARKS = ["marker", "status", "filter"]


@pytest.fixture
def store(patient_store: MongoStore) -> MongoStore:
    """By patient times: a statement that is sent again would change what is counted here."""
    return patient_store


def seed(database: Data, count: int = COUNT) -> None:
    database["things"].insert_many([{"_id": at, "n": 0, "status": "pending"} for at in range(count)])


def updating(mark: str) -> Migration:
    return Migration(
        name="m", collection="things", mark=mark, filter={"n": 0}, update={"$inc": {"n": 1}}, batch_size=COUNT
    )


def calling(mark: str, calls: Calls, change: Callable[[dict[str, Any]], Any] | None = None) -> Migration:
    def add(thing: dict[str, Any]) -> Any:
        calls[thing["_id"]] += 1
        return change(thing) if change else {"$set": {"n": thing["n"] + 1}}

    return Migration(
        name="m", collection="things", mark=mark, filter={"n": 0}, transform=add, batch_size=COUNT
    )


def eventually(what: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def claimed(store: MongoStore, it: Migration, **options: Any) -> tuple[Run, Batch]:
    """A run whose first batch a worker has claimed, which has died since."""
    run = start(store, it, **options)
    with system(store, [it], slots=0):
        eventually(lambda: bool(store.ledger.batches.count(run.id, [BatchStatus.QUEUED])))
    batch = store.ledger.batches.claim([run.id], worker="dead", lsid=bytes(16))
    assert batch is not None
    assert batch.fresh
    return run, batch


def changed(database: Data, batch: Batch, mark: str, below: int) -> None:
    """What that worker has done to the documents."""
    done: dict[str, Any] = {"n": 1}
    token = stamp(batch.token, "changed")
    if mark == "marker":
        done["_whimbrel.m_v1"] = token
    if mark == "status":
        done |= {"status": "success", "processedBy": token}
    database["things"].update_many({"_id": {"$lt": below}}, {"$set": done})


def noted(store: MongoStore, batch: Batch, chunks: int, at: int | None = None) -> None:
    """What that worker has said of it last."""
    stretches = [Stretch(end, Counts(CHUNK)) for end in range(1, chunks + 1)]
    if at is not None:
        stretches.append(Stretch(chunks + 1, Counts(at + 1 - chunks * CHUNK)))
    since = store.client.admin.command("ping")["operationTime"]
    progress = Progress(tuple(stretches), None if at is None else Key.of(at))
    store.ledger.batches.note(batch, progress, since=since)


def the_batch(store: MongoStore, run: Run) -> Batch:
    return next(each for each in store.ledger.batches.list(run.id) if each.seq == 1)


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("path", ["update", "function"])
@pytest.mark.parametrize(
    ("chunks", "at", "below"),
    [(4, None, 4300), (3, None, 3000), (2, 2499, 2700), (2, None, 4700), (0, None, 300)],
    ids=[
        "in the last chunk",
        "between two",
        "in the part of a chunk",
        "notes were lost",
        "in the first chunk",
    ],
)
def test_h62_after_a_crash_only_what_is_not_known_is_done_again_and_counted(
    store: MongoStore, database: Data, mark: str, path: str, chunks: int, at: int | None, below: int
) -> None:
    seed(database)
    calls: Calls = Counter()
    it = updating(mark) if path == "update" else calling(mark, calls)
    run, batch = claimed(store, it)
    if chunks:
        changed(database, batch, mark, chunks * CHUNK if at is None else at + 1)
        noted(store, batch, chunks, at)
    changed(database, batch, mark, below)
    store.ledger.batches.release(batch)
    with profiled(database) as looks, system(store, [it], slots=1):
        found = until(store, run)
        rows = looks.rows()
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=COUNT))
    assert database["things"].count_documents({"n": 1}) == COUNT
    assert found.run.inferred is (mark == "filter")
    row = the_batch(store, run)
    assert [(each.end, each.counts.changed) for each in row.progress.stretches] == [
        (end, CHUNK) for end in range(1, 6)
    ]
    begin = chunks * CHUNK if at is None else at + 1
    if path == "function":
        assert calls == Counter(range(below, COUNT))
    if mark != "filter":
        mine = [each for each in rows if batch.token in str(each["command"])]
        counting = [each for each in mine if each["op"] == "command"]
        assert sum(each["keysExamined"] for each in counting) <= COUNT - begin + len(counting)


@pytest.mark.parametrize("path", ["update", "function"])
def test_h65_a_note_tells_the_time_of_the_last_answer_not_of_its_own_arrival(
    store: MongoStore, database: Data, path: str
) -> None:
    """One that is carried out late must not say that nothing was sent before now."""
    seed(database, 1000)
    it = updating("filter") if path == "update" else calling("filter", Counter())
    later: list[Any] = []
    told: list[Any] = []

    def step(name: str) -> None:
        if name == "S6":  # the answer is there, the note is on its way
            database["others"].insert_one({})
            later.append(database.client.admin.command("ping")["operationTime"])
        if name == "S6b":
            told.append((database["whimbrel_batches"].find_one({"seq": 1}) or {})["began"])

    run = start(store, it)
    with system(store, [it], slots=1, step=step):
        until(store, run)
    assert later
    assert all(time < after for time, after in zip(told, later, strict=False))
    assert told


def test_h63_a_note_of_a_worker_that_has_lost_its_batch_changes_nothing(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    run, first = claimed(store, updating("marker"))
    noted(store, first, 1)
    store.ledger.batches.release(first)
    second = store.ledger.batches.claim([run.id], worker="b", lsid=bytes(16))
    assert second is not None
    assert (second.progress.chunks, second.fresh) == (1, False)
    with pytest.raises(Exception, match="taken over"):
        noted(store, first, 4)
    assert the_batch(store, run).progress.chunks == 1


@pytest.mark.parametrize("mark", MARKS)
def test_a_run_that_is_paused_goes_on_behind_the_last_document_and_counts_as_if_it_had_not(
    store: MongoStore, database: Data, mark: str
) -> None:
    seed(database)
    calls: Calls = Counter()
    paused: list[str] = []
    at_work: list[WorkerState] = []

    def pausing(thing: dict[str, Any]) -> Any:
        if thing["_id"] == 1234 and not paused:
            paused.append("")
            control.pause(store.ledger, run.id, who="test")
            eventually(lambda: any(lease.stop for each in at_work for lease in list(each.holds.values())))
            time.sleep(0.6)  # the chunk's time is over then
        return {"$set": {"n": 1}}

    it = calling(mark, calls, pausing)
    run = start(store, it, rate=10_000_000)
    with system(store, [it], slots=1) as state:
        at_work.append(state)
        until(store, run, RunStatus.PAUSED)
    row = the_batch(store, run)
    assert (row.progress.chunks, row.progress.last_key, row.fresh) == (1, Key.of(1234), True)
    assert row.progress.counts == Counts(changed=1235)
    control.resume(store.ledger, run.id, who="test")
    with profiled(database) as looks, system(store, [it], slots=1):
        found = until(store, run)
        rows = looks.rows()
    assert (found.counts, found.run.inferred) == (Counts(changed=COUNT), False)
    assert calls == Counter(range(COUNT))
    mine = [each for each in rows if row.token in str(each["command"])]
    assert not [each for each in mine if "aggregate" in each["command"]]  # nothing had to be counted


def test_documents_that_become_eligible_again_in_a_chunk_that_is_done_are_the_sweeps(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    calls: Calls = Counter()
    it = calling("marker", calls)
    run, batch = claimed(store, it)
    changed(database, batch, "marker", 4000)
    noted(store, batch, 4)
    database["things"].update_many({"_id": {"$lt": 10}}, {"$set": {"n": 0}, "$unset": {"_whimbrel": ""}})
    store.ledger.batches.release(batch)
    with system(store, [it], slots=1):
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED
    assert found.counts == Counts(changed=COUNT + 10)  # so often documents were changed
    assert the_batch(store, run).counts == Counts(changed=COUNT)
    assert calls == Counter([*range(10), *range(4000, COUNT)])


@pytest.mark.parametrize("mark", MARKS)
def test_what_failed_and_what_was_passed_over_is_told_by_chunk(
    store: MongoStore, database: Data, mark: str
) -> None:
    seed(database)

    def judge(thing: dict[str, Any]) -> Any:
        match thing["_id"] % CHUNK:
            case 1:
                raise ValueError("bad")
            case 2:
                return SKIP
            case 3:
                return {"$set": {"n": 0}}
        return {"$set": {"n": 1}}

    it = calling(mark, Counter(), judge)
    run, batch = claimed(store, it, rate=10_000_000)
    store.ledger.batches.release(batch)  # so nothing counts by the replies
    with system(store, [it], slots=1):
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert found.counts == Counts(changed=COUNT - 15, unchanged=5, skipped=5)
    stretches = the_batch(store, run).progress.stretches
    assert [(each.end, each.counts, each.failed) for each in stretches] == [
        (end, Counts(CHUNK - 3, 1, 1), 1) for end in range(1, 6)
    ]


@pytest.mark.parametrize("path", ["update", "function"])
def test_a_batch_of_named_documents_goes_on_behind_those_that_are_done(
    store: MongoStore, database: Data, path: str
) -> None:
    """The filter's index yields few, so planning names them."""
    database["things"].insert_many([{"_id": at, "n": at % 10, "status": "pending"} for at in range(20_000)])
    database["things"].create_index("n")
    calls: Calls = Counter()
    it = updating("marker") if path == "update" else calling("marker", calls)
    run, batch = claimed(store, it)
    assert batch.ids is not None
    assert batch.chunks == 2
    keys = [key.value for key in batch.ids]
    done = {"$set": {"_whimbrel.m_v1": batch.token, "n": 1}}
    database["things"].update_many({"_id": {"$in": keys[:1500]}}, done)
    store.ledger.batches.note(
        batch, Progress((Stretch(1, Counts(1000)), Stretch(2, Counts(400))), batch.ids[1399])
    )
    store.ledger.batches.release(batch)
    with profiled(database) as looks, system(store, [it], slots=1):
        found = until(store, run)
        rows = looks.rows()
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=2000))
    mine = [each for each in rows if batch.token in str(each["command"])]
    # Two keys a document where a list of them is looked up: by updates, and in later versions of 6.0 by aggregations too.
    assert sum(each.get("keysExamined", 0) for each in mine) <= 4 * 700
    if path == "function":
        assert calls == Counter(keys[1500:])


def test_a_run_with_a_rate_tells_the_parts_of_its_chunks(store: MongoStore, database: Data) -> None:
    seed(database, 1000)
    it = updating("marker")
    run = start(store, it, rate=400)

    def part() -> Progress:
        return next((each.progress for each in store.ledger.batches.list(run.id)), Progress())

    with system(store, [it], slots=1):
        eventually(lambda: part().last_key is not None)
        seen = part()
        found = until(store, run)
    assert seen.last_key is not None
    assert seen.counts == Counts(changed=seen.last_key.value + 1)
    assert (seen.chunks, len(seen.stretches)) == (0, 1)
    assert found.counts == Counts(changed=1000)


def test_a_solo_batch_goes_on_behind_its_last_document(store: MongoStore, database: Data) -> None:
    seed(database, 40)
    calls: Calls = Counter()
    it = calling("marker", calls)
    run, batch = claimed(store, it)
    changed(database, batch, "marker", 20)
    done = Progress((Stretch(1, Counts(19)),), Key.of(18))
    store.ledger.batches.suspect(batch, Key.of(19), done)  # the process died behind its write
    database["whimbrel_batches"].update_one(
        {"_id": batch.token}, {"$set": {"solo": True, "status": "queued"}}
    )
    with system(store, [it], slots=1):
        found = until(store, run)
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=40))
    assert calls == Counter(range(20, 40))
    assert not store.ledger.failures.list(run.id)


def test_what_the_phase_processing_leaves_to_others_is_known_after_a_crash(
    store: MongoStore, database: Data
) -> None:
    """Without an index the phases behind it look only where it has seen something."""
    rows = [{"_id": at, "n": 0, "status": "failed" if at in (5, 1500) else "pending"} for at in range(2000)]
    database["things"].insert_many(rows)
    it = Migration(
        name="m",
        collection="things",
        mark="status",
        filter={"n": 0},
        update={"$inc": {"n": 1}},
        batch_size=2000,
    )
    killed: list[str] = []

    def die(step: str) -> None:
        """In the phase processing, after its first chunk was noted: somebody takes the batch away."""
        if step == "S6b" and not killed:
            for batch in store.ledger.batches.list(run.id, statuses=[BatchStatus.RUNNING]):
                if batch.phase == "processing":
                    killed.append(batch.token)
                    lost = {"$set": {"status": "queued", "owner": None, "leaseUntil": None}}
                    database["whimbrel_batches"].update_one({"_id": batch.token}, lost)

    run = start(store, it)
    with system(store, [it], slots=1, step=die):
        found = until(store, run)
    [batch] = [each for each in store.ledger.batches.list(run.id) if each.token in killed]
    assert (batch.claims, batch.left) == (2, {"failed": 2, "pending": 0})
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=2000))


def test_rows_are_bounded_by_the_chunks_of_their_batches(store: MongoStore, database: Data) -> None:
    seed(database)
    it = calling("marker", Counter())
    run = start(store, it, rate=10_000_000)
    with system(store, [it], slots=2):
        until(store, run)
    for batch in store.ledger.batches.list(run.id):
        ends = [each.end for each in batch.progress.stretches]
        assert len(ends) <= batch.chunks
        assert all(lower < upper for lower, upper in pairwise(ends))
        assert (batch.progress.counts, batch.progress.chunks) == (batch.counts, batch.chunks)


def test_a_batch_that_is_cancelled_counts_what_is_noted_and_what_is_not(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    it = updating("marker")
    run, batch = claimed(store, it)
    changed(database, batch, "marker", 3300)
    noted(store, batch, 3)
    database["things"].delete_many(
        {"_id": {"$lt": 100}}
    )  # by the application: they were changed all the same
    store.ledger.batches.release(batch)
    control.cancel(store.ledger, run.id, who="test")
    with system(store, [it], slots=0):
        found = until(store, run)
    assert found.counts == Counts(changed=3300)


@pytest.mark.parametrize("mark", MARKS)
def test_a_row_of_an_earlier_version_is_finished_rightly(
    store: MongoStore, database: Data, mark: str
) -> None:
    """It knew of the whole batch how many documents were eligible, and in a solo batch the last one that was done."""
    seed(database)
    it = updating(mark)
    run, batch = claimed(store, it)
    changed(database, batch, mark, 3300)
    store.ledger.batches.release(batch)
    began = database.client.admin.command("ping")["operationTime"].__class__(1, 1)
    earlier = {"before": COUNT, "began": began, "at": {"_id": 3299}, "inferred": False}
    database["whimbrel_batches"].update_one(
        {"_id": batch.token}, {"$set": earlier, "$unset": {"progress": ""}}
    )
    with system(store, [it], slots=1):
        found = until(store, run)
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=COUNT))


def test_retries_that_were_made_are_not_made_again(store: MongoStore, database: Data) -> None:
    seed(database, 30)
    calls: Calls = Counter()

    def bad(thing: dict[str, Any]) -> Any:
        raise ValueError("bad")

    it = calling("marker", calls, bad)
    lost: list[str] = []

    def die(step: str) -> None:
        if step == "S7" and not lost:
            for batch in store.ledger.batches.list(run.id, statuses=[BatchStatus.RUNNING]):
                if batch.retry:
                    lost.append(batch.token)
                    queued = {"$set": {"status": "queued", "owner": None, "leaseUntil": None}}
                    database["whimbrel_batches"].update_one({"_id": batch.token}, queued)

    run = start(store, it)
    with system(store, [it], slots=1, step=die):
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert lost
    assert calls == Counter(dict.fromkeys(range(30), 3))  # max_attempts
