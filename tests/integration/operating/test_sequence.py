"""A run whose migration depends on others is refused until these are complete; and what completes a migration."""

from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import Dependency
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import Standing
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.housekeeping.prune import PrunedThrough, prune
from whimbrel.engine.operating.control import cancel, pause, retry
from whimbrel.engine.operating.ensure import next_step, refuse_cleaned, to_start_once, verify_once
from whimbrel.engine.operating.sequence import (
    dependency_findings,
    standing_of_definition,
    standing_of_dependency,
)
from whimbrel.engine.operating.start import add_run, draft_run
from whimbrel.engine.operating.start_cleanup import start_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import AlreadyStarted, DependencyIncomplete, StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]


def fussy(document: dict[str, Any]) -> dict[str, Any]:
    if document.get("bad"):
        raise ValueError("bad")
    return {"$set": {"a": 1}}


A = Migration(name="a", collection="things", transform=fussy, undo=True)
B = Migration(name="b", collection="things", update={"$inc": {"b": 1}}, depends_on=["a"])


def seed(database: Data, count: int = 30) -> None:
    database["things"].insert_many([{"_id": key} for key in range(count)])


def state(store: MongoStore, it: Migration = A) -> Standing:
    return standing_of_definition(store, it.definition)


def ended(store: MongoStore, make: Callable[[], Run]) -> Run:
    with system(store, [A, B]):
        return until(store, make()).run


def verified(store: MongoStore, run: Run) -> Run:
    return ended(
        store, lambda: start_verification(store, run.id, A.definition, who="test", defaults=DEFAULTS)
    )


def refusal(store: MongoStore) -> str:
    with pytest.raises(DependencyIncomplete) as found:
        start(store, B)
    assert (found.value.code, found.value.exit_code) == ("dependency_incomplete", 68)
    return str(found.value)


def test_a_run_waits_for_what_it_depends_on_and_says_what_to_do(store: MongoStore, database: Data) -> None:
    seed(database)
    database["things"].update_one({"_id": 3}, {"$set": {"bad": True}})
    assert "Run it first: whimbrel run a" in refusal(store)
    assert not store.ledger.runs.list(migration="b")
    part = migrate(store, A, filter_={"_id": {"$lt": 3}}).run
    assert part.status is RunStatus.COMPLETED
    assert "was over a part" in refusal(store)
    waits = start(store, A)
    assert f"whimbrel status {waits.id} --watch" in refusal(store)
    pause(store.ledger, waits.id, who="test")
    assert f"whimbrel resume {waits.id}" in refusal(store)
    cancel(store.ledger, waits.id, who="test")
    failing = migrate(store, A).run
    assert failing.status is RunStatus.COMPLETED_WITH_FAILURES
    assert f"whimbrel retry {failing.id}" in refusal(store)
    database["things"].update_one({"_id": 3}, {"$unset": {"bad": ""}})
    with system(store, [A, B]):
        until(store, retry(store.ledger, failing.id, who="test")[0], RunStatus.COMPLETED)
        assert until(store, start(store, B)).run.counts.changed == 30
    start_rollback(store, failing.id, who="test", defaults=DEFAULTS)
    assert "rolled back" in refusal(store)
    assert [each.check for each in dependency_findings(store, B.definition)] == ["dependencies"]


def test_a_later_version_will_do_and_an_earlier_one_will_not(store: MongoStore, database: Data) -> None:
    seed(database)
    second = Migration(name="a", version=2, collection="things", update={"$set": {"a": 2}})
    migrate(store, second)
    for needed, done in ((1, True), (2, True), (3, False)):
        version, found = standing_of_dependency(store, Dependency("a", needed, None, "things"))
        assert (version, found.done) == (2 if done else 3, done)
    _, elsewhere = standing_of_dependency(store, Dependency("a", 2, None, "others"))
    assert not elsewhere.done


def test_verified_ends_with_what_comes_later(store: MongoStore, database: Data) -> None:
    seed(database)
    whole = migrate(store, A).run
    assert (state(store).state, state(store).run_id) == ("complete", whole.id)
    assert verified(store, whole).status is RunStatus.COMPLETED
    assert state(store).state == "verified"
    database["things"].insert_one({"_id": 100})  # the application goes on
    assert state(store).state == "verified"
    later = migrate(store, A, filter_={"_id": 100}).run
    assert later.counts.changed == 1
    assert "has ended since" in state(store).why
    checking = verified(store, whole)
    assert (state(store).state, state(store).verification) == ("verified", checking)
    refuse_cleaned(store, A.definition)
    ended(store, lambda: start_cleanup(store, later.id, who="test", defaults=DEFAULTS))
    assert state(store).state == "verified"
    with pytest.raises(StateForbids, match=f"has removed the marks of run {later.id}"):
        refuse_cleaned(store, A.definition)
    database["things"].drop()
    seed(database)
    assert "another one than it was" in state(store).why


def test_a_version_stays_complete_when_its_run_is_pruned(store: MongoStore, database: Data) -> None:
    seed(database)
    whole = migrate(store, B_ALONE).run
    checking = ended(
        store, lambda: start_verification(store, whole.id, None, who="test", defaults=DEFAULTS, sample=0)
    )
    assert state(store, B_ALONE).state == "verified"
    _age(database)
    kept = PrunedThrough(run=store.ledger.runs.get(whole.id))  # when the verification was not yet old
    assert (
        prune(store.ledger, 90, seconds=60, who="test", after=kept).runs == []
    )  # it alone tells that all is verified
    assert set(prune(store.ledger, 90, seconds=60, who="test").runs) == {whole.id, checking.id}
    assert store.ledger.runs.list() == []
    found = state(store, B_ALONE)
    assert (found.state, found.run, found.run_id, next_step(found)) == ("verified", None, whole.id, None)
    late = migrate(store, B_ALONE).run
    assert (state(store, B_ALONE).state, state(store, B_ALONE).run_id) == ("complete", late.id)
    _age(database)
    prune(store.ledger, 90, seconds=60, who="test")
    found = state(store, B_ALONE)
    assert (found.state, found.run_id, next_step(found)) == ("complete", late.id, None)
    assert database["whimbrel_pruned"].count_documents({"whole": True}) == 1


B_ALONE = Migration(name="alone", collection="things", update={"$inc": {"b": 1}})


def _age(database: Data) -> None:
    for name in ("endedAt", "createdAt"):
        shift = [{"$set": {name: {"$subtract": [f"${name}", 100 * 86_400_000]}}}]
        database["whimbrel_runs"].update_many({name: {"$type": "date"}}, shift)


def once(store: MongoStore, definition: Definition, seen: Standing) -> Run:
    run = to_start_once(draft_run(store, definition, defaults=DEFAULTS), seen)
    return add_run(store, definition, run, "test")


def test_of_several_that_saw_the_same_one_begins(store: MongoStore, database: Data) -> None:
    seed(database)
    seen = state(store)
    first = once(store, A.definition, seen)
    with pytest.raises(AlreadyStarted):
        once(store, A.definition, seen)
    assert next_step(state(store)) == ("wait", first)
    cancel(store.ledger, first.id, who="test")  # it never began: the next one may
    second = once(store, A.definition, state(store))
    with system(store, [A]):
        until(store, second, RunStatus.COMPLETED)
    complete = state(store)
    checking = verify_once(store, complete, A.definition, who="test", defaults=DEFAULTS)
    with pytest.raises(AlreadyStarted):
        verify_once(store, complete, A.definition, who="test", defaults=DEFAULTS)
    assert next_step(state(store)) == ("wait", checking)
    cancel(store.ledger, checking.id, who="test")
    again = verify_once(store, state(store), A.definition, who="test", defaults=DEFAULTS)
    assert again.id != checking.id
    assert {run.id for run in store.ledger.runs.list()} == {first.id, second.id, checking.id, again.id}


def test_what_is_left_to_do_is_told_step_by_step(store: MongoStore, database: Data) -> None:
    seed(database)
    database["things"].update_one({"_id": 3}, {"$set": {"bad": True}})
    assert next_step(state(store)) == ("start", None)
    waits = start(store, A)
    pause(store.ledger, waits.id, who="test")
    step = next_step(state(store))
    assert step is not None
    assert (step[0], step[1] and step[1].id) == ("resume", waits.id)
    cancel(store.ledger, waits.id, who="test")
    failing = migrate(store, A).run
    step = next_step(state(store))
    assert step is not None
    assert (step[0], step[1] and step[1].id) == ("retry", failing.id)
