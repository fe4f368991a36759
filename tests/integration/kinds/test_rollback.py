"""Undo: a run and its rollback leave every document that nobody else touched as it was, byte for byte."""

from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.guarded_writes import stored
from tests.integration.in_process_system import DEFAULTS, start, system, until
from whimbrel import SKIP, Migration, migration
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView, run_object
from whimbrel.engine.operating.start import start_run
from whimbrel.engine.operating.start_cleanup import measure_cleanup, start_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.errors import DefinitionInvalid, RunUnknown, StateForbids
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import COLLECTION, SOME_MODEL
from whimbrel.samples.seeder import documents

Data = Database[dict[str, Any]]


@migration(name="by-function", collection="things", undo=True)
def by_function(document: dict[str, Any]) -> Any:
    """Every way to answer."""
    number = document["number"]
    if number % 5 == 0:
        return SKIP
    if number % 5 == 1:
        return {"$set": {"name.first": "x", "total": number * 2}, "$unset": {"n": ""}}
    if number % 5 == 2:
        return {"$inc": {"n": 1}, "$push": {"tags": "t"}}
    if number % 5 == 3:
        return {"_id": document["_id"], "number": number, "only": "this"}
    if number == 4:
        raise ValueError(number)
    return [{"$set": {"pipeline": "$number"}}, {"$unset": "tags"}]


MIGRATIONS = {
    "function": by_function,
    "operators": Migration(
        name="operators", collection="things", undo=True,
        update={"$inc": {"n": 1}, "$unset": {"tags": ""}, "$rename": {"name": "title"}},
    ),
    "pipeline": Migration(
        name="pipeline", collection="things", undo=True, mark="status",
        update=[{"$replaceWith": {"$mergeObjects": [{"first": 1}, "$$ROOT", {"n": "$missing"}]}}],
    ),
    "filter": Migration(
        name="by-filter", collection="things", undo=True, mark="filter", filter={"n": 0}, update={"$set": {"n": 5}}
    ),
    "whole": Migration(name="whole", collection="things", undo="document", update={"$inc": {"n": 1}}),
}  # fmt: skip


def seed(database: Data, count: int = 1200) -> None:
    database["things"].insert_many(
        [
            {"n": 0, "number": i, "name": {"last": "y"}, "status": "pending", "tags": ["a"]}
            for i in range(count)
        ]
    )


def ran(store: MongoStore, it: Migration, **options: Any) -> Run:
    """A run that has ended."""
    with system(store, [it]):
        return until(store, start(store, it, **options)).run


def asked(store: MongoStore) -> Run:
    """A run of the sample, for which somebody asks undo."""
    return start_run(store, with_undo(SOME_MODEL.definition), who="test", defaults=DEFAULTS)


def undone(store: MongoStore, run: Run) -> RunView:
    """The rollback of a run, at its end. No worker knows its migration."""
    with system(store, []):
        return until(store, start_rollback(store, run.id, who="test", defaults=DEFAULTS))


@pytest.mark.parametrize("name", list(MIGRATIONS))
def test_after_run_and_rollback_all_is_as_it_was(store: MongoStore, database: Data, name: str) -> None:
    seed(database)
    before = stored(database["things"])
    run = ran(store, MIGRATIONS[name])
    changed = stored(database["things"])
    assert sum(changed[key] != before[key] for key in before) >= 1199
    back = undone(store, run)
    assert stored(database["things"]) == before
    assert back.run.status is RunStatus.COMPLETED
    assert back.counts.changed == sum(changed[key] != before[key] for key in before)
    assert (
        back.run.message == f"Documents that are as they were before run {run.id}: {back.counts.changed:,}."
    )
    told = run_object(back)
    assert (told["kind"], told["of"]) == ("rollback", run.id)
    undone_by = store.ledger.runs.get(run.id)
    assert undone_by is not None
    assert undone_by.undone_by == back.run.id


def test_documents_that_failed_go_back_too(store: MongoStore, database: Data) -> None:
    database[COLLECTION].insert_many(documents(1000, status="mixed", invalid=0.05, seed=7))
    before = stored(database[COLLECTION])
    with system(store, [SOME_MODEL]):
        run = until(store, asked(store)).run
    assert run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert database[COLLECTION].count_documents({"status": "failed"}) > 0
    assert undone(store, run).run.status is RunStatus.COMPLETED
    assert stored(database[COLLECTION]) == before


def test_what_the_application_changed_since_is_listed_and_stays(store: MongoStore, database: Data) -> None:
    seed(database)
    before = stored(database["things"])
    run = ran(store, MIGRATIONS["operators"])
    things = database["things"]
    theirs = {"number": {"$in": [3, 700, 1199]}}
    things.update_many(theirs, {"$set": {"n": 99}})
    now = stored(database["things"])
    back = undone(store, run)
    assert back.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert back.failures["conflict"] == 3
    assert "Changed since by the application, and left as they are: 3." in back.run.message
    keys = [each["_id"] for each in things.find(theirs)]
    assert {each.key.value for each in store.ledger.failures.list(back.run.id)} == set(keys)
    found = stored(database["things"])
    assert {key: found[key] for key in keys} == {key: now[key] for key in keys}
    assert [key for key in before if found[key] != before[key]] == keys
    # A person has looked, and makes one as the migration left it: retry puts it back.
    things.update_one({"number": 3}, {"$set": {"n": 1}})
    control.retry(store.ledger, back.run.id, who="test")
    with system(store, []):
        again = until(store, back.run)
    assert again.failures["conflict"] == 2
    assert stored(database["things"])[keys[0]] == before[keys[0]]


def test_a_part_of_a_run_is_taken_back(store: MongoStore, database: Data) -> None:
    seed(database)
    before = stored(database["things"])
    slow = Migration(name="part", collection="things", undo=True, update={"$inc": {"n": 1}})
    with system(store, [slow]):
        run = start(store, slow, batch_size=50, rate=500)
        while not database["things"].count_documents({"n": 1}):
            assert store.ledger.runs.get(run.id)
        control.cancel(store.ledger, run.id, who="test")
        part = until(store, run)
    assert part.run.status is RunStatus.CANCELLED
    assert 0 < database["things"].count_documents({"n": 1}) < 1200
    assert undone(store, run).counts.changed == part.counts.changed
    assert stored(database["things"]) == before


def test_of_two_runs_the_later_one_is_taken_back_first(store: MongoStore, database: Data) -> None:
    seed(database, 300)
    before = stored(database["things"])
    first = ran(store, MIGRATIONS["operators"])
    between = {key: raw for key, raw in stored(database["things"]).items() if raw}
    second = ran(store, Migration(name="second", collection="things", undo=True, update={"$inc": {"n": 10}}))
    assert undone(store, first).failures["conflict"] == 300
    assert undone(store, second).counts.changed == 300
    assert stored(database["things"]) == between
    assert undone(store, first).counts.changed == 300
    assert stored(database["things"]) == before


def test_what_cannot_be_taken_back_is_refused(store: MongoStore, database: Data) -> None:
    seed(database, 10)

    def refused(run_id: str) -> str:
        with pytest.raises(StateForbids) as error:
            start_rollback(store, run_id, who="test", defaults=DEFAULTS)
        return str(error.value)

    with pytest.raises(RunUnknown):
        start_rollback(store, "nothing", who="test", defaults=DEFAULTS)
    without = ran(store, Migration(name="without", collection="things", update={"$inc": {"n": 1}}))
    assert "kept no before-images" in refused(without.id)
    waiting = start(store, MIGRATIONS["operators"])
    assert "before it has ended" in refused(waiting.id)
    control.cancel(store.ledger, waiting.id, who="test")
    run = ran(store, MIGRATIONS["operators"])
    queued = start_rollback(store, run.id, who="test", defaults=DEFAULTS)
    assert "is a rollback of run" in refused(run.id)
    assert "cannot be rolled back itself" in refused(queued.id)


def test_a_run_that_is_undone_does_not_go_on(store: MongoStore, database: Data) -> None:
    database[COLLECTION].insert_many(documents(50, status="pending", invalid=0.2, seed=1))
    with system(store, [SOME_MODEL]):
        run = until(store, asked(store)).run
    start_rollback(store, run.id, who="test", defaults=DEFAULTS)
    with pytest.raises(StateForbids, match="rolled back by run"):
        control.retry(store.ledger, run.id, who="test")
    assert not store.ledger.runs.move(run.id, RunStatus.QUEUED, who="test")


def test_what_cannot_be_undone_is_refused_when_it_is_defined() -> None:
    with pytest.raises(DefinitionInvalid, match=r"\$bit"):
        Migration(name="bits", collection="things", undo=True, update={"$bit": {"n": {"and": 1}}})
    with pytest.raises(DefinitionInvalid, match="exclude each other"):
        migration(name="claims", collection="things", undo=True, mark="status", claim=True)(
            lambda document: document
        )
    with pytest.raises(DefinitionInvalid, match="undo must be True or False or 'document'"):
        Migration(name="odd", collection="things", undo="yes", update={"$inc": {"n": 1}})
    plain = Migration(name="bits", collection="things", update={"$bit": {"n": {"and": 1}}})
    with pytest.raises(DefinitionInvalid, match="cannot be undone"):
        with_undo(plain.definition)


@pytest.mark.parametrize("name", ["operators", "pipeline", "filter"])
def test_a_cleanup_removes_images_and_marks_and_nothing_else(
    store: MongoStore, database: Data, name: str
) -> None:
    seed(database)
    run = ran(store, MIGRATIONS[name])
    changed = list(database["things"].find({}, {"_whimbrel": 0}))
    weight = measure_cleanup(store, run.id)
    assert weight.documents == 1200
    assert weight.exact
    assert 1200 * 100 < weight.size < 1200 * 1000
    with system(store, []):
        done = until(store, start_cleanup(store, run.id, who="test", defaults=DEFAULTS))
    assert done.counts.changed == 1200
    assert list(database["things"].find()) == changed
    assert measure_cleanup(store, run.id).documents == 0
    with pytest.raises(StateForbids, match="has removed its before-images"):
        start_rollback(store, run.id, who="test", defaults=DEFAULTS)


@pytest.mark.parametrize("mark", ["marker", "status"])
def test_after_a_cleanup_failures_are_tried_again_and_can_be_taken_back(
    store: MongoStore, database: Data, mark: Any
) -> None:
    seed(database, 100)
    things = database["things"]
    things.update_one({"number": 7}, {"$set": {"n": "text"}})
    it = Migration(name="bad", collection="things", undo=True, mark=mark, update={"$inc": {"n": 1}})
    run = ran(store, it)
    assert run.status is RunStatus.COMPLETED_WITH_FAILURES
    with system(store, []):
        until(store, start_cleanup(store, run.id, who="test", defaults=DEFAULTS))
    things.update_one({"number": 7}, {"$set": {"n": 0}})
    control.retry(store.ledger, run.id, who="test")
    with system(store, [it]):
        assert until(store, run).run.status is RunStatus.COMPLETED
    assert things.count_documents({"n": 1}) == 100
    assert undone(store, run).counts.changed == 1
    assert things.find_one({"n": 0}, {"number": 1, "_id": 0}) == {"number": 7}


def test_a_run_that_was_not_through_does_not_go_on_without_its_marks(
    store: MongoStore, database: Data
) -> None:
    """It would take the documents that it has changed for new ones."""
    seed(database)
    slow = Migration(name="part", collection="things", undo=True, update={"$inc": {"n": 1}})
    with system(store, [slow]):
        run = start(store, slow, batch_size=50, rate=500)
        while not database["things"].count_documents({"n": 1}):
            assert store.ledger.runs.get(run.id)
        assert store.ledger.runs.move(run.id, RunStatus.FAILED, who="test", why="the disk is full")
        until(store, run)
    with system(store, []):
        until(store, start_cleanup(store, run.id, who="test", defaults=DEFAULTS))
    with pytest.raises(StateForbids, match="has removed its marks"):
        control.resume(store.ledger, run.id, who="test")


def test_a_cleanup_leaves_what_is_of_others(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    first = ran(store, MIGRATIONS["operators"])
    second = ran(store, Migration(name="second", collection="things", undo=True, update={"$set": {"x": 1}}))
    with system(store, []):
        until(store, start_cleanup(store, first.id, who="test", defaults=DEFAULTS))
    left = database["things"].find_one()
    assert left is not None
    assert set(left["_whimbrel"]) == {"second_v1", "second_v1_undo"}
    assert undone(store, second).counts.changed == 100
    assert "_whimbrel" not in (database["things"].find_one() or {})
