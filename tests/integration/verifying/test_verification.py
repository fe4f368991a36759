"""Verification: a clean run is proved, and a planted fault of each kind is found; nothing is written to documents."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bson import MaxKey, MinKey, ObjectId
from pymongo.database import Database

from tests.integration.guarded_writes import stored
from tests.integration.in_process_system import DEFAULTS, start, system, until
from whimbrel import SKIP, Migration, migration
from whimbrel.cli.foreground.foreground import exit_code_of
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.runs.verification import Proof
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start_cleanup import start_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import RunUnknown, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
COUNT = 1300  # three batches of a run, two chunks of a verification


@migration(name="by-function", collection="things")
def by_function(thing: dict[str, Any]) -> Any:
    """Idempotent, with every outcome."""
    number = thing["number"]
    if number % 10 == 0:
        return SKIP
    if number == 7:
        raise ValueError(f"no good: {number}")
    return {"$set": {"double": number * 2}}


@migration(name="by-status", collection="things", mark="status")
def by_status(thing: dict[str, Any]) -> Any:
    """By a status, one document at a time."""
    return {"$max": {"n": 5}}


@migration(name="renaming", collection="things", filter={"name": {"$exists": True}})
def renaming(thing: dict[str, Any]) -> Any:
    """Its filter selects nothing any more when it is done, and it would fail if it were called again."""
    return {"$set": {"title": thing["name"]}, "$unset": {"name": ""}}


OPERATORS = Migration(
    name="operators", collection="things", update={"$set": {"kind": "thing"}, "$max": {"n": 3}}
)
PIPELINE = Migration(
    name="pipeline", collection="things", mark="status", undo=True,
    update=[{"$set": {"double": {"$multiply": ["$number", 2]}, "by": "$$batch", "when": "$$claimed_at"}}],
)  # fmt: skip
BY_FILTER = Migration(
    name="by-filter", collection="things", mark="filter", filter={"n": {"$lt": 1}}, update={"$set": {"n": 1}}
)
ADDING = Migration(name="adding", collection="things", undo=True, update={"$inc": {"n": 1}})
CLEAN = {
    "function": by_function, "status": by_status, "renaming": renaming,
    "operators": OPERATORS, "pipeline": PIPELINE, "filter": BY_FILTER,
}  # fmt: skip


def of_2023(at: int) -> ObjectId:
    """Older than any run, by its own word."""
    return ObjectId((1_700_000_000 + at).to_bytes(4, "big") + bytes(8))


def seed(database: Data, count: int = COUNT, made: Callable[[int], Any] = lambda _at: ObjectId()) -> None:
    database["things"].insert_many(
        [
            {"_id": made(i), "n": 0, "number": i, "name": f"thing {i}", "status": "pending"}
            for i in range(count)
        ]
    )


def ran(store: MongoStore, it: Migration, **options: Any) -> Run:
    """A run that has ended."""
    with system(store, [it]):
        return until(store, start(store, it, **options)).run


def ask(store: MongoStore, run: Run, it: Migration | None, **options: Any) -> Run:
    loaded = it.definition if it else None
    return start_verification(store, run.id, loaded, who="test", defaults=DEFAULTS, **options)


def verified(store: MongoStore, run: Run, it: Migration | None, **options: Any) -> RunView:
    """A verification at its end."""
    with system(store, [it] if it else []):
        return until(store, ask(store, run, it, **options))


def proofs(run_view: RunView) -> dict[str, Proof]:
    return {each.check: each for each in run_view.run.report}


def said(run_view: RunView) -> dict[str, bool | None]:
    return {each.check: each.proved for each in run_view.run.report}


def types(store: MongoStore, run_view: RunView) -> dict[str, int]:
    """Findings about single documents by their type."""
    return {each.type: each.dead for each in store.ledger.failures.groups(run_view.run.id).groups}


@pytest.mark.parametrize("name", list(CLEAN))
def test_a_clean_run_is_proved_and_nothing_is_written(store: MongoStore, database: Data, name: str) -> None:
    seed(database)
    run = ran(store, CLEAN[name])
    before = stored(database["things"])
    found = verified(store, run, CLEAN[name])
    assert stored(database["things"]) == before
    assert found.run.status is RunStatus.COMPLETED, found.run.report
    assert found.counts.unchanged == COUNT
    known = said(found)
    unprovable = {"marks", "transform again"} if name == "filter" else set()
    assert known == {each: None if each in unprovable else True for each in known}, found.run.report
    assert {"ranges tile", "batches settled", "outcomes add up", "nothing left", "marks", "failures"} < set(
        known
    )
    assert ("before-images" in known) == (name == "pipeline")
    assert proofs(found)["nothing left"].numbers["looked"] == COUNT
    assert store.ledger.failures.counts(found.run.id)["dead"] == 0


def test_a_transform_that_would_change_all_again_is_said_to_be_so(store: MongoStore, database: Data) -> None:
    seed(database)
    found = verified(store, ran(store, ADDING), ADDING)
    assert found.run.status is RunStatus.COMPLETED
    again = proofs(found)["transform again"]
    assert again.proved is None
    assert "not idempotent" in again.sentence
    assert "marks" in again.sentence
    assert again.numbers["differing"] == again.numbers["tried"] > 700
    assert said(found)["marks"]
    assert "Nothing was proved by: transform again" in found.run.message
    assert store.ledger.failures.counts(found.run.id)["dead"] == 0
    assert found.counts.unchanged == COUNT


Plant = Callable[[Data, Run], Any]
MARK = "_whimbrel.by-function_v1"


def _things(plant: Callable[[Any, Run], Any]) -> Plant:
    return lambda database, run: plant(database["things"], run)


def _batch(change: Callable[[Any, str], Any], seq: int = 2) -> Plant:
    return lambda database, run: change(database["whimbrel_batches"], f"{run.id}.{seq}")


def _cut(by: int) -> Plant:
    """The end of the second batch moved by some documents."""

    def plant(database: Data, run: Run) -> None:
        batches = database["whimbrel_batches"]
        row = batches.find_one({"_id": f"{run.id}.2"})
        assert row is not None
        there = database["things"].distinct("_id")
        end = there[there.index(row["cuts"][-1]["_id"]) + by]
        batches.update_one({"_id": row["_id"]}, {"$set": {"cuts": [*row["cuts"][:-1], {"_id": end}]}})

    return plant


def _reversed(database: Data, run: Run) -> None:
    """The first batch's bounds turned round, and the next one's to fit."""
    batches, ids = database["whimbrel_batches"], database["things"].distinct("_id")
    first = batches.find_one({"_id": f"{run.id}.2"}) or {}
    batches.update_one({"_id": f"{run.id}.2"}, {"$set": {"cuts": [{"_id": ids[3]}], "lo": first["lo"]}})
    batches.update_one({"_id": f"{run.id}.3"}, {"$set": {"lo": {"_id": ids[3]}}})


def _marked_as_first(things: Any, run: Run) -> None:
    """A document at the end bears the mark of the first batch."""
    last = things.find_one({MARK: f"{run.id}.3"}, sort=[("_id", -1)])
    things.update_one({"_id": last["_id"]}, {"$set": {MARK: f"{run.id}.1"}})


FAULTS: dict[str, tuple[Plant, dict[str, int], str]] = {
    "an unmarked document": (
        _things(lambda things, _: things.insert_one({"_id": ObjectId(bytes(12)), "number": 1})),
        {"Left": 1}, "nothing left",
    ),
    "a stripped mark": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$unset": {MARK: ""}})),
        {"Left": 1}, "nothing left",
    ),
    "a mark of nobody": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$set": {MARK: "20200101-aaaaaa.1"}})),
        {"UnknownMark": 1}, "marks",
    ),
    "a mark of no batch": (
        _things(lambda things, run: things.update_one({"number": 1001}, {"$set": {MARK: f"{run.id}.99"}})),
        {"UnknownMark": 1}, "marks",
    ),
    "a mark of no outcome": (
        _things(lambda things, run: things.update_one({"number": 1001}, {"$set": {MARK: f"{run.id}.3/x"}})),
        {"UnknownMark": 1}, "marks",
    ),
    "a mark that is no text": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$set": {MARK: 5}})),
        {"UnknownMark": 1}, "marks",
    ),
    "a mark that is null": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$set": {MARK: None}})), {}, "marks",
    ),
    "a mark of another outcome": (
        _things(lambda things, run: things.update_one({"number": 1001}, {"$set": {MARK: f"{run.id}.3/s"}})),
        {}, "marks",
    ),
    "a mark of another batch": (_things(_marked_as_first), {"MarkOutside": 1}, "marks"),
    "a document in hand": (
        _things(lambda things, run: things.update_one({"number": 1001}, {"$set": {MARK: f"{run.id}.3/c"}})),
        {"MarkUnfinished": 1}, "marks",
    ),
    "a deleted batch": (_batch(lambda batches, token: batches.delete_one({"_id": token})), {"UnknownMark": 150}, "ranges tile"),
    "a gap": (_cut(-5), {"MarkOutside": 5}, "ranges tile"),
    "an overlap": (_cut(5), {}, "ranges tile"),
    "bounds that do not ascend": (_reversed, {"MarkOutside": 150}, "ranges tile"),
    "a lost end": (
        lambda database, run: database["whimbrel_batches"].update_many({"run": run.id}, {"$set": {"last": False}}),
        {}, "ranges tile",
    ),
    "a first batch that is not open": (
        _batch(lambda batches, token: batches.update_one({"_id": token}, {"$set": {"lo": {"_id": ObjectId(bytes(12))}}}), 1),
        {}, "ranges tile",
    ),
    "an unsettled batch": (
        _batch(lambda batches, token: batches.update_one({"_id": token}, {"$set": {"status": "running"}})),
        {}, "batches settled",
    ),
    "a batch that counted too much": (
        _batch(lambda batches, token: batches.update_one({"_id": token}, {"$inc": {"counts.changed": 1}})),
        {}, "outcomes add up",
    ),
    "two batches that counted wrongly": (
        lambda database, run: [
            database["whimbrel_batches"].update_one({"_id": f"{run.id}.{seq}"}, {"$inc": {"counts.changed": by}})
            for seq, by in ((1, 1), (2, -1))
        ],
        {}, "marks",
    ),
    "a run that counted too much": (
        lambda database, run: database["whimbrel_runs"].update_one({"_id": run.id}, {"$inc": {"counts.skipped": 1}}),
        {}, "outcomes add up",
    ),
    "a failure of a document that is gone": (
        _things(lambda things, _: things.delete_one({"number": 7})), {"FailureGone": 1}, "failures",
    ),
    "a failure of a document that is migrated": (
        _things(lambda things, run: things.update_one({"number": 7}, {"$set": {MARK: f"{run.id}.1"}})),
        {"FailureOver": 1}, "failures",
    ),
    "a failure that is resolved without a mark": (
        lambda database, run: database["whimbrel_failures"].update_one(
            {"run": run.id}, {"$set": {"state": "resolved", "resolution": "changed"}}
        ),
        {"ResolvedUnmarked": 1}, "failures",
    ),
    "a document changed back": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$set": {"double": 0}})),
        {"ChangesAgain": 1}, "transform again",
    ),
    "a document by which the function fails": (
        _things(lambda things, _: things.update_one({"number": 1001}, {"$set": {"number": 7}})),
        {"ChangesAgain": 1}, "transform again",
    ),
}  # fmt: skip


# By what a majority had acknowledged when batches settled these came later: no faults of the run.
SINCE = {
    "an unmarked document", "a stripped mark", "a mark of nobody", "a mark of no batch", "a mark of no outcome", "a mark that is no text", "a mark that is null",
    "a mark of another batch", "a failure of a document that is gone", "a failure of a document that is migrated",
    "a failure that is resolved without a mark", "a document in hand",
}  # fmt: skip
OLD = {
    "two batches that counted wrongly",
    "a mark of another outcome",
}  # else one may be a copy of another document
UNKNOWN = {"a document changed back", "a document by which the function fails"}  # nothing tells


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_found(store: MongoStore, database: Data, name: str) -> None:
    plant, listed, check = FAULTS[name]
    seed(database, made=of_2023 if name in OLD else lambda _at: ObjectId())
    run = ran(store, by_function)
    plant(database, run)
    before = stored(database["things"])
    found = verified(store, run, by_function, sample=None)
    assert stored(database["things"]) == before
    fault = name not in SINCE | UNKNOWN
    assert types(store, found) == listed, found.run.report
    assert proofs(found)[check].verdict == (
        "fault" if fault else "not proved" if name in UNKNOWN else "changed since"
    ), found.run.report
    assert check in found.run.message
    if name != "a failure of a document that is migrated":  # by a mark that nobody has counted
        assert found.run.status is (RunStatus.COMPLETED_WITH_FAILURES if fault else RunStatus.COMPLETED)


@pytest.mark.parametrize("name", ["operators", "pipeline"])
def test_an_update_that_would_change_a_document_again_is_found(
    store: MongoStore, database: Data, name: str
) -> None:
    seed(database)
    run = ran(store, CLEAN[name])
    things = database["things"]
    things.update_many({"number": {"$in": [3, 1200]}}, {"$set": {"n": 1, "double": 1.0}})
    things.update_one({"number": 5}, {"$set": {"double": 10.0, "kind": "thing"}})  # equal, of another type
    found = verified(store, run, CLEAN[name], sample=None)
    expected = [3, 5, 1200] if name == "pipeline" else [3, 1200]
    keys = [each.key.value for each in store.ledger.failures.list(found.run.id)]
    assert [each["number"] for each in things.find({"_id": {"$in": keys}}).sort("_id", 1)] == expected
    again = proofs(found)["transform again"]
    assert (again.proved, again.numbers["differing"], again.numbers["tried"]) == (None, len(expected), COUNT)
    if name == "pipeline":
        images = proofs(found)["before-images"]
        assert (images.proved, images.numbers["changed since"]) == (True, 3)


def test_an_update_that_fails_now_is_found(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    it = Migration(name="strict", collection="things", update=[{"$set": {"whole": {"$toInt": "$number"}}}])
    run = ran(store, it)
    database["things"].update_one({"number": 150}, {"$set": {"number": "many"}})
    assert types(store, verified(store, run, it)) == {"ChangesAgain": 1}


def test_what_came_after_the_last_look_is_told_apart(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    run = ran(store, OPERATORS)
    later = ObjectId(b"\x7f" + bytes(11))
    database["things"].insert_many([{"_id": later, "number": 1}, {"_id": "a text", "number": 2}])
    found = verified(store, run, OPERATORS)
    assert found.run.status is RunStatus.COMPLETED
    assert types(store, found) == {}
    left = proofs(found)["nothing left"]
    assert (left.proved, left.numbers["left"], left.numbers["newer"], left.numbers["untold"]) == (
        None,
        0,
        1,
        1,
    )
    database["things"].delete_one({"_id": "a text"})
    found = verified(store, run, OPERATORS)
    assert found.run.status is RunStatus.COMPLETED
    assert "1 came after the run's last look" in proofs(found)["nothing left"].sentence


@pytest.mark.parametrize("name", ["operators", "pipeline"])
@pytest.mark.parametrize("how", ["imported", "restored", "imported, and as many deleted"])
def test_documents_put_in_after_the_run_under_older_ids_are_no_fault(
    store: MongoStore, database: Data, name: str, how: str
) -> None:
    seed(database, 300, made=lambda at: of_2023(at + 1000))
    things = database["things"]
    put_in = list(things.find({"number": {"$lt": 40}}))
    run = ran(store, CLEAN[name])
    if how == "restored":
        things.delete_many({"number": {"$lt": 40}})
    else:
        put_in = [{**each, "_id": of_2023(each["number"])} for each in put_in]
    things.insert_many(put_in)
    if "deleted" in how:
        things.delete_many({"number": {"$gte": 260}})
    found = verified(store, run, CLEAN[name])
    left = proofs(found)["nothing left"]
    assert left.verdict == "changed since", left.sentence
    assert found.run.status is RunStatus.COMPLETED
    listed = [each.key.value for each in store.ledger.failures.list(found.run.id)]
    assert listed == [each["_id"] for each in put_in]


IDS: dict[str, tuple[Callable[[int], Any], bool]] = {  # ids in the order of their making; whether they ascend
    "ObjectId": (of_2023, True),
    "int": (lambda at: at, True),
    "string": (lambda at: f"{(at * 7919) % 100_003:06}", False),
}
MARKS = {
    "marker": Migration(name="op", collection="things", update={"$set": {"done": True}}),
    "status": Migration(name="op", collection="things", update={"$set": {"done": True}}, mark="status"),
    "filter": Migration(
        name="op", collection="things", update={"$set": {"done": True}}, mark="filter", filter={"done": False}
    ),
}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("ids", IDS)
def test_inserts_beside_a_run_are_no_fault_and_a_planted_one_is_found(
    store: MongoStore, database: Data, ids: str, mark: str
) -> None:
    key, ascending = IDS[ids]
    things = database["things"]

    def made(at: int) -> dict[str, Any]:
        return {"_id": key(at), "done": False, "status": "pending", "number": at}

    things.insert_many([made(at) for at in range(500)])
    it, inserted = MARKS[mark], iter(range(500, 10_000))

    def step(name: str) -> None:
        if name in ("S1", "S6", "S8", "S11", "S12"):
            things.insert_one(made(next(inserted)))

    with system(store, [it], step=step):
        run = until(store, start(store, it, batch_size=50)).run
    things.insert_many([made(next(inserted)) for _ in range(20)])
    found = verified(store, run, it)
    left = proofs(found)["nothing left"]
    assert (found.run.status, left.numbers["left"]) == (RunStatus.COMPLETED, 0), left.sentence
    assert things.count_documents({"done": False}) == left.numbers["newer"] + left.numbers["untold"]
    if ascending:
        assert (left.proved, left.numbers["untold"]) == (True, 0)
    if mark != "filter":  # it leaves nothing that could tell
        path = it.definition.marking.path or ""
        things.update_one(
            {"_id": key(250)}, {"$set": {"done": False, "status": "pending"}, "$unset": {path: ""}}
        )
        found = verified(store, run, it)
        assert found.run.status is RunStatus.COMPLETED
        assert proofs(found)["nothing left"].verdict == "changed since"
        assert key(250) in [each.key.value for each in store.ledger.failures.list(found.run.id)]
        # As if the run had never had it: nobody has counted it.
        batches, runs = database["whimbrel_batches"], database["whimbrel_runs"]
        batches.update_one({"run": run.id, "counts.changed": {"$gt": 0}}, {"$inc": {"counts.changed": -1}})
        runs.update_one({"_id": run.id}, {"$inc": {"counts.changed": -1}})
        verdict = proofs(verified(store, run, it))["marks"].verdict
        assert verdict == ("fault" if ids == "ObjectId" else "changed since")  # else it may be a copy


def test_many_faults_are_counted_and_some_of_them_listed(store: MongoStore, database: Data) -> None:
    seed(database)
    run = ran(store, OPERATORS)
    database["things"].update_many({"number": {"$lt": 900}}, {"$unset": {"_whimbrel": ""}})
    found = verified(store, run, OPERATORS)
    assert proofs(found)["nothing left"].numbers["replaced"] == 900
    assert proofs(found)["marks"].numbers["missing"] == 900
    assert types(store, found) == {"Left": 100}


def test_runs_over_a_part_claim_no_more_than_that(store: MongoStore, database: Data) -> None:
    seed(database)
    some = verified(store, ran(store, OPERATORS, limit=600), OPERATORS)
    assert some.run.status is RunStatus.COMPLETED
    assert said(some) | {"nothing left": None} == said(some)
    assert proofs(some)["nothing left"].numbers["left"] == COUNT - 600
    with system(store, [OPERATORS]):
        run = start(store, OPERATORS, batch_size=50, rate=400)
        while not database["things"].count_documents({"_whimbrel.operators_v1": {"$regex": run.id}}):
            assert store.ledger.runs.get(run.id)
        control.cancel(store.ledger, run.id, who="test")
        assert until(store, run).run.status is RunStatus.CANCELLED
    part = verified(store, run, OPERATORS)
    assert part.run.status is RunStatus.COMPLETED, part.run.report
    assert (said(part)["nothing left"], said(part)["ranges tile"], said(part)["marks"]) == (None, None, True)


def test_a_run_that_was_rolled_back_has_left_nothing(store: MongoStore, database: Data) -> None:
    seed(database)
    run = ran(store, ADDING)
    things = database["things"]
    things.update_one({"number": 800}, {"$set": {"n": 77}})
    with system(store, []):
        back = until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))
    assert back.failures["conflict"] == 1
    found = verified(store, run, None)
    assert found.run.status is RunStatus.COMPLETED, found.run.report
    assert (said(found)["taken back"], said(found)["transform again"]) == (True, None)
    assert "but for those that are listed as conflicts (1)" in proofs(found)["taken back"].sentence
    things.update_one({"number": 5}, {"$set": {"_whimbrel.adding_v1": f"{run.id}.1"}})
    found = verified(store, run, None)
    assert types(store, found) == {"NotTakenBack": 1}
    assert said(found)["taken back"] is False


def test_what_cannot_be_verified_is_refused(store: MongoStore, database: Data) -> None:
    seed(database, 20)

    def refused(run_id: str) -> str:
        with pytest.raises(StateForbids) as error:
            start_verification(store, run_id, None, who="test", defaults=DEFAULTS)
        return str(error.value)

    with pytest.raises(RunUnknown):
        start_verification(store, "nothing", None, who="test", defaults=DEFAULTS)
    waiting = start(store, OPERATORS)
    assert "before it has ended" in refused(waiting.id)
    control.cancel(store.ledger, waiting.id, who="test")
    run = ran(store, ADDING)
    verification = ask(store, run, ADDING)
    assert "is a verification of run" in refused(verification.id)
    with system(store, [ADDING]):
        until(store, verification)
        until(store, start_cleanup(store, run.id, who="test", defaults=DEFAULTS))
    assert "has removed its marks" in refused(run.id)


def test_a_verification_is_not_retried_and_keeps_its_code(store: MongoStore, database: Data) -> None:
    seed(database, 20)
    run = ran(store, OPERATORS)
    database["whimbrel_runs"].update_one({"_id": run.id}, {"$inc": {"counts.skipped": 1}})
    found = verified(store, run, OPERATORS)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    with pytest.raises(StateForbids, match="no work to be tried again"):
        control.retry(store.ledger, found.run.id, who="test")
    database["things"].delete_many({})
    seed(database, 20)
    run = ran(store, by_function)
    paused = ask(store, run, by_function)
    control.pause(store.ledger, paused.id, who="test")
    with pytest.raises(StateForbids, match="has changed since"):
        control.resume(
            store.ledger, paused.id, who="test", code=replace(by_function.definition, code_hash="another")
        )
    resumed = control.resume(store.ledger, paused.id, who="test", code=by_function.definition)
    assert resumed.status == "queued"


def test_without_the_runs_own_code_the_transform_is_not_run_again(store: MongoStore, database: Data) -> None:
    seed(database, 20)
    run = ran(store, by_function)
    other = Migration(name="by-function", collection="things", transform=lambda thing: thing)
    for loaded, why in ((None, "is not loaded here"), (other, "the run used")):
        found = verified(store, run, loaded)
        assert found.run.status is RunStatus.COMPLETED
        again = proofs(found)["transform again"]
        assert again.proved is None
        assert why in again.sentence
        assert said(found)["marks"]


def test_a_verification_keeps_its_rate_and_goes_on_where_it_was_paused(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    run = ran(store, OPERATORS)
    before = stored(database["things"])
    with system(store, [OPERATORS]):
        began = time.monotonic()
        verification = ask(store, run, OPERATORS, rate=400, batch_size=100)
        while store.ledger.batches.count(verification.id, [BatchStatus.DONE]) < 2:
            assert time.monotonic() < began + 60
        control.pause(store.ledger, verification.id, who="test")
        paused = until(store, verification, RunStatus.PAUSED)
        assert 2 <= paused.completed_batches < 13
        assert paused.run.report == ()
        control.resume(store.ledger, verification.id, who="test")
        found = until(store, verification)
    assert time.monotonic() - began > (COUNT - 400) / 400
    assert found.run.status is RunStatus.COMPLETED
    assert proofs(found)["nothing left"].numbers["looked"] == COUNT
    assert stored(database["things"]) == before


def test_ids_of_all_types_are_looked_at(store: MongoStore, database: Data) -> None:
    ids: list[Any] = [
        None,
        1,
        2.5,
        float("nan"),
        "a",
        "b",
        {"x": 1},
        b"xy",
        True,
        ObjectId(bytes(12)),
        MinKey(),
        MaxKey(),
    ]
    ids += [*range(10, 20), *(f"text {i}" for i in range(10)), *(ObjectId() for _ in range(10))]
    database["things"].insert_many([{"_id": each, "number": i} for i, each in enumerate(ids)])
    run = ran(store, OPERATORS, batch_size=5)
    for size in (3, 1000):
        found = verified(store, run, OPERATORS, batch_size=size)
        assert found.run.status is RunStatus.COMPLETED, found.run.report
        assert proofs(found)["nothing left"].numbers["looked"] == len(ids)
    database["things"].update_one({"_id": "b"}, {"$set": {"_whimbrel.operators_v1": f"{run.id}.1"}})
    database["things"].update_one({"_id": 12}, {"$unset": {"_whimbrel": ""}})
    assert types(store, verified(store, run, OPERATORS, batch_size=3)) == {"MarkOutside": 1, "Left": 1}


def test_what_the_application_does_after_a_run_is_no_fault_of_it(store: MongoStore, database: Data) -> None:
    """3,000 documents; then 10 each deleted, replaced, put in again, and their new field or mark taken away."""
    things = database["things"]
    things.insert_many({"_id": at, "n": 0} for at in range(3000))
    it = Migration(name="m", collection="things", update={"$set": {"done": True}})
    run = ran(store, it)
    things.delete_many({"_id": {"$lt": 10}})
    for at in range(10, 20):
        things.replace_one({"_id": at}, {"n": 1})
    things.delete_many({"_id": {"$gte": 20, "$lt": 30}})
    things.insert_many({"_id": at, "n": 0} for at in range(20, 30))
    things.update_many({"_id": {"$gte": 30, "$lt": 40}}, {"$unset": {"done": 1}})
    things.update_many({"_id": {"$gte": 40, "$lt": 50}}, {"$unset": {"_whimbrel": 1}})
    found = verified(store, run, it, sample=None)
    assert found.run.status is RunStatus.COMPLETED
    verdicts = {each.check: each.verdict for each in found.run.report}
    assert (verdicts["nothing left"], verdicts["marks"], verdicts["transform again"]) == (
        "changed since", "changed since", "not proved",
    )  # fmt: skip
    assert proofs(found)["marks"].numbers["missing"] == 40
    assert proofs(found)["nothing left"].numbers["replaced"] == 30
    assert exit_code_of(found.run) == 5
    assert "Faults" not in found.run.message


def moved(things: Any, ids: list[Any], *, copied: bool, made: Callable[[], Any] = ObjectId) -> None:
    """As an application changes the _id of documents, or copies them: with all that stands in them, marks too."""
    for each in list(things.find({"_id": {"$in": ids}})):
        if not copied:
            things.delete_one({"_id": each["_id"]})
        things.insert_one({**each, "_id": made()})


@pytest.mark.parametrize("mark", ["marker", "status"])
def test_documents_that_were_moved_or_copied_since_are_no_fault(
    store: MongoStore, database: Data, mark: str
) -> None:
    things, it = database["things"], MARKS[mark]
    seed(database, 300, made=of_2023)
    run = ran(store, it, batch_size=100)
    moved(things, [of_2023(at) for at in range(3)], copied=False)
    with system(store, [it]):
        only_moved = until(store, ask(store, run, it))
        moved(things, [of_2023(at) for at in range(200, 205)], copied=True)
        path = it.definition.marking.path or ""
        things.insert_one({"done": True, "status": "success", **nested(path, "20200101-aaaaaa.1")})
        all_of_it = until(store, ask(store, run, it))
    for found in (only_moved, all_of_it):
        assert proofs(found)["marks"].verdict == "changed since", found.run.report
        assert exit_code_of(found.run) == 5
    numbers = proofs(all_of_it)["marks"].numbers
    assert {name: numbers[name] for name in ("unknown", "surplus", "missing")} == {
        "unknown": 1, "surplus": 5, "missing": 0,
    }  # fmt: skip


def nested(path: str, value: Any) -> dict[str, Any]:
    top, _, rest = path.partition(".")
    return {top: nested(rest, value) if rest else value}


def test_copies_whose_ids_do_not_tell_are_called_so(store: MongoStore, database: Data) -> None:
    things, it = database["things"], MARKS["marker"]
    things.insert_many({"_id": 2 * at} for at in range(300))
    run = ran(store, it)
    odd = iter(range(1, 99, 2))
    moved(things, [2, 4, 6], copied=True, made=lambda: next(odd))
    found = verified(store, run, it)
    assert (proofs(found)["marks"].verdict, exit_code_of(found.run)) == ("not proved", 0)


def test_old_documents_that_were_set_back_under_mark_filter_are_not_told_from_such_that_were_left(
    store: MongoStore, database: Data
) -> None:
    things, it = database["things"], MARKS["filter"]
    things.insert_many({"_id": of_2023(at), "done": False} for at in range(300))
    run = ran(store, it)
    things.update_many({"_id": {"$lt": of_2023(4)}}, {"$set": {"done": False}})
    found = verified(store, run, it)
    left = proofs(found)["nothing left"]
    assert (left.verdict, left.numbers["untold"], exit_code_of(found.run)) == ("not proved", 4, 0)
