"""Verification: a clean run is proved, and a planted fault of each kind is found; nothing is written to documents."""

from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.integration.hand import RAW
from tests.integration.inline import DEFAULTS, start, system, until
from whimbrel import SKIP, Migration, migration
from whimbrel.domain.runs import Run
from whimbrel.domain.states import RunStatus
from whimbrel.domain.verification import Proof
from whimbrel.engine import control
from whimbrel.engine.cleanup import start_cleanup
from whimbrel.engine.rollback import start_rollback
from whimbrel.engine.verification import start_verification
from whimbrel.engine.view import RunView
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


def seed(database: Data, count: int = COUNT) -> None:
    database["things"].insert_many(
        [{"n": 0, "number": i, "name": f"thing {i}", "status": "pending"} for i in range(count)]
    )


def stored(database: Data) -> dict[Any, bytes]:
    found: Any = database.get_collection("things", codec_options=RAW).find()
    return {each["_id"]: bytes(each.raw) for each in found}


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


def proofs(found: RunView) -> dict[str, Proof]:
    return {each.check: each for each in found.run.report}


def said(found: RunView) -> dict[str, bool | None]:
    return {each.check: each.proved for each in found.run.report}


def types(store: MongoStore, found: RunView) -> dict[str, int]:
    """Findings about single documents by their type."""
    return {each.type: each.dead for each in store.ledger.failures.groups(found.run.id)}


@pytest.mark.parametrize("name", list(CLEAN))
def test_a_clean_run_is_proved_and_nothing_is_written(store: MongoStore, database: Data, name: str) -> None:
    seed(database)
    run = ran(store, CLEAN[name])
    before = stored(database)
    found = verified(store, run, CLEAN[name])
    assert stored(database) == before
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
