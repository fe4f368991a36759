"""Runs in stages: each is spread over the key space, ends at a gate, and never touches a document twice."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, system, until
from tests.waiting import until as wait_until
from whimbrel import SKIP, Migration
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.failure_budget import FailureBudget
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.stages import Stage, StageState, read_stages
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.control import find_run, pause, resume, retry
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.engine.operating.stages import approve
from whimbrel.engine.operating.start import start_run
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import StagesRefused, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
S = StageState
COUNT = 2000
BUDGETED = replace(DEFAULTS, budget=FailureBudget(rate=0.05))


def start(store: MongoStore, it: Migration, **options: Any) -> Run:
    """Starts a run of which one document in twenty may fail."""
    return start_run(store, it.definition, who="test", defaults=BUDGETED, **options)


def seed(database: Data, count: int = COUNT) -> None:
    database["things"].insert_many(
        [{"_id": key, "n": 0, "status": "pending", "todo": True} for key in range(count)]
    )


def step(document: dict[str, Any]) -> Any:
    if document.get("bad"):
        raise ValueError("bad")
    if document["_id"] % 10 == 3:
        return SKIP
    return {"$inc": {"n": 1}, "$unset": {"todo": ""}}


DECLARED = Migration(name="declared", collection="things", update={"$inc": {"n": 1}})
STATUS = Migration(name="by-status", collection="things", mark="status", update={"$inc": {"n": 1}})
FUNCTION = Migration(name="function", collection="things", transform=step)
FILTER = Migration(
    name="by-filter", collection="things", mark="filter", filter={"todo": True}, transform=step
)
EVERY = [DECLARED, STATUS, FUNCTION, FILTER]


def stage(store: MongoStore, run: Run) -> Stage:
    now = find_run(store.ledger, run.id)
    assert now.stages is not None
    assert now.stage is not None
    return now.stages.stages[now.stage]


def until_stage(store: MongoStore, run: Run, position: int, state: StageState) -> Run:
    def there() -> bool:
        now = find_run(store.ledger, run.id)
        return (
            now.stages is not None
            and now.stages.stages[position].state is state
            and now.status is not RunStatus.PAUSING
        )

    wait_until(there)
    return find_run(store.ledger, run.id)


def touched(database: Data, run: Run) -> list[int]:
    """The ids of the documents that a run has evaluated, as the documents and the failures tell."""
    marked = {"$or": [{"n": 1}, {"_whimbrel": {"$exists": True}}, {"processedBy": {"$exists": True}}]}
    rows = database["whimbrel_failures"].find({"run": run.id})
    return sorted(
        {each["_id"] for each in database["things"].find(marked)} | {row["key"]["_id"] for row in rows}
    )


@pytest.mark.parametrize("it", EVERY, ids=[it.name for it in EVERY])
def test_stages_are_spread_and_nothing_is_done_twice(
    store: MongoStore, database: Data, it: Migration
) -> None:
    seed(database)
    with system(store, EVERY):
        run = start(store, it, stages=read_stages("100,0.1%,200,100%", approve=True))
        for position, documents in (
            (0, 100),
            (2, 200),
        ):  # the second stage is less than the first: there is nothing to approve
            until_stage(store, run, position, S.APPROVAL)
            ids = touched(database, run)
            assert len(ids) == documents
            # Of each tenth of the keys; but a stretch whose documents do not come in time is made up for elsewhere.
            assert len({key * 10 // COUNT for key in ids}) >= 8
            assert "a person must approve it" in wait_until(lambda: find_run(store.ledger, run.id).message)
            assert approve(store.ledger, run.id, who="ada").status is RunStatus.RUNNING
        found = until(store, run)
        checking = until(
            store, start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS)
        ).run
    assert found.run.status is RunStatus.COMPLETED
    assert checking.status is RunStatus.COMPLETED
    skipped = COUNT // 10 if it.transform else 0
    assert (found.counts.changed, found.counts.skipped, found.processed) == (COUNT - skipped, skipped, COUNT)
    assert (
        Counter(each["n"] for each in database["things"].find())
        == Counter({1: COUNT - skipped, 0: skipped}) - Counter()
    )
    shown = run_object(found)["stages"]
    assert [(each["asked"], each["state"], each["evaluated"], each["approvedBy"]) for each in shown["stages"]] == [
        ("100", "passed", 100, "ada"), ("0.1%", "passed", 0, None), ("200", "passed", 200, "ada"), ("100%", "passed", 0, None),
    ]  # fmt: skip
    assert [each["check"] for each in shown["stages"][0]["gate"]] == [
        "failures",
        "conflicts",
        "canary",
        "sample",
    ]


def test_without_a_person_or_a_hold_it_goes_on_by_itself(store: MongoStore, database: Data) -> None:
    seed(database, 300)
    with system(store, EVERY):
        found = until(store, start(store, FUNCTION, stages=read_stages("5,20%,100%")))
    assert found.run.status is RunStatus.COMPLETED
    assert [batch.phase for batch in store.ledger.batches.list(found.run.id, limit=1)] == ["pending"]
    assert found.run.stages is not None
    assert [each.evaluated for each in found.run.stages.stages] == [5, 60, 0]


def test_few_documents_in_one_corner_of_the_keys_are_found(store: MongoStore, database: Data) -> None:
    seed(database)
    corner = Migration(
        name="corner", collection="things", filter={"_id": {"$gte": COUNT - 50}}, update={"$inc": {"n": 1}}
    )
    with system(store, [corner]):
        run = start(store, corner, stages=read_stages("20,100%", approve=True))
        until_stage(store, run, 0, S.APPROVAL)
        assert len(touched(database, run)) == 20
        approve(store.ledger, run.id, who="ada")
        assert until(store, run).counts.changed == 50


def test_a_stage_larger_than_the_collection_is_everything(store: MongoStore, database: Data) -> None:
    seed(database, 7)
    with system(store, EVERY):
        found = until(store, start(store, DECLARED, stages=read_stages("1000,100%")))
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 7)


def spoil(database: Data, **fields: Any) -> None:
    database["things"].update_many({}, {"$set": fields})


def test_a_gate_refuses_failures_and_a_person_may_mend_or_approve(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    spoil(database, bad=True)
    with system(store, EVERY):
        run = start(store, FUNCTION, stages=read_stages("20,50%,100%", approve=False))
        refused = until_stage(store, run, 0, S.REFUSED)
        assert refused.status is RunStatus.PAUSED
        assert "Stage 1 of 3 (20) did not pass its gate: 20 of 20 documents failed, more than 5%." in (
            refused.error or ""
        )
        assert f"whimbrel approve {run.id}" in (refused.error or "")
        row = database["whimbrel_runs"].find_one({"_id": run.id}) or {}
        assert [event["to"] for event in row["unsent"]] == ["queued", "running", "pausing", "paused"]
        assert len(touched(database, run)) == 20
        database["things"].update_many({}, {"$unset": {"bad": ""}})
        retry(store.ledger, run.id, who="test")  # mended: the failures are tried again, and it goes on
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED
    assert found.failures["failed"] == 0
    assert found.processed == 200


def test_what_was_refused_goes_on_as_a_person_says(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    spoil(database, bad=True)
    with system(store, EVERY):
        run = start(store, FUNCTION, stages=read_stages("20,50%,100%"))
        until_stage(store, run, 0, S.REFUSED)
        assert approve(store.ledger, run.id, who="ada").status in (RunStatus.QUEUED, RunStatus.RUNNING)
        (cause,) = store.ledger.failures.causes(run.id)
        assert store.ledger.known_causes.of(run.id)[cause].note == "seen in a stage that was approved"
        until_stage(store, run, 1, S.REFUSED)
        first = find_run(store.ledger, run.id).stages
        assert first is not None
        assert (
            first.stages[0].state,
            first.stages[0].approved_by,
            first.stages[0].passed_at is not None,
        ) == (S.PASSED, "ada", True)
        resume(store.ledger, run.id, who="bob")
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert found.failures["failed"] == 200
    attempts = Counter(row["attempt"] for row in database["whimbrel_failures"].find({"run": run.id}))
    assert attempts == {DEFAULTS.max_attempts: 200}  # later stages leave alone what failed in an earlier one
    about = [
        row["what"]
        for row in database["whimbrel_audit"].find({"run": run.id}, sort=[("at", 1)])
        if "stage" in row["what"]
    ]
    assert about == ["stage 1 refused", "stage 1 passed", "stage 2 refused", "stage 2 passed"]


def set_back(database: Data, _: MongoStore) -> None:
    """The application saves documents whole, and drops what it does not know."""
    database["things"].update_many({"n": 1}, {"$unset": {"_whimbrel": ""}})


def slow_reads(_: Data, store: MongoStore) -> None:
    slow_canary(store, "read-canary", "a read takes 80 ms")


def slow_writes(_: Data, store: MongoStore) -> None:
    slow_canary(store, "write-canary", "a write takes 300 ms")


def slow_canary(store: MongoStore, name: str, said: str) -> None:
    reasons = (Reason(name, Level.STOP, 0.0, said),)
    store.ledger.health.keep(Verdict(signals={name: SignalState(level=Level.STOP)}, reasons=reasons), None)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (set_back, "not migrated any more"),
        (slow_reads, "a read takes 80 ms"),
        (slow_writes, "a write takes 300 ms"),
    ],
    ids=["sample", "canary", "write"],
)
def test_after_a_hold_the_gate_is_looked_at_again(
    store: MongoStore, database: Data, harm: Callable[[Data, MongoStore], None], why: str
) -> None:
    seed(database, 200)
    with system(store, EVERY):
        run = start(store, DECLARED, stages=read_stages("20,100%", hold=3600))
        held = until_stage(store, run, 0, S.HOLDING)
        assert "is held until" in wait_until(lambda: find_run(store.ledger, run.id).message)
        assert (stage(store, run).evaluated, len(touched(database, held))) == (20, 20)
        with pytest.raises(StateForbids, match=r"Nothing of run .* waits for an approval"):
            approve(store.ledger, run.id, who="ada")
        harm(database, store)
        database["whimbrel_runs"].update_one({"_id": run.id}, [{"$set": {"stages.at.0.heldUntil": "$$NOW"}}])
        refused = until_stage(store, run, 0, S.REFUSED)
        assert why in (refused.error or "")
        assert view(store.ledger, refused).processed == 20


def test_an_approval_survives_a_pause_and_comes_once(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    with system(store, EVERY):
        run = start(store, DECLARED, stages=read_stages("20,100%", approve=True))
        until_stage(store, run, 0, S.APPROVAL)
        wait_until(lambda: find_run(store.ledger, run.id).message)
        waiting = find_run(store.ledger, run.id)
        # Nobody works on it, so its working time does not go on, which would make its mean speed less every second.
        assert waiting.working_since is None
        assert view(store.ledger, waiting).eta is None
        pause(store.ledger, run.id, who="test")
        assert (
            until(store, run, RunStatus.PAUSED).run.message == ""
        )  # it waits for nobody now but who resumes it
        resume(store.ledger, run.id, who="test")
        until(store, run, RunStatus.RUNNING)
        assert stage(store, run).state is S.APPROVAL  # a resumed run waits still
        approve(store.ledger, run.id, who="ada")
        with pytest.raises(StateForbids):
            approve(store.ledger, run.id, who="bob")
        assert until(store, run).counts.changed == 200
        with pytest.raises(StateForbids, match="it is completed"):
            approve(store.ledger, run.id, who="bob")
    database["things"].insert_one({"n": 0})
    plain = start(store, DECLARED)
    with pytest.raises(StateForbids, match="and has no stages"):
        approve(store.ledger, plain.id, who="bob")


def test_stages_are_for_a_run_over_everything_pending(store: MongoStore, database: Data) -> None:
    seed(database, 5)
    stages = read_stages("1,100%")
    for options in ({"limit": 3}, {"filter_": {"status": "failed"}}):
        with pytest.raises(StagesRefused, match="Stages are for a run over all pending documents"):
            start(store, STATUS, stages=stages, **options)
