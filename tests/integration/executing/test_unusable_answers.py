"""Mistakes that no retry mends: told before a run starts, and else a failure at once."""

# ruff: noqa: F811  fixtures are imported by their names

import re
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS, migrate
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.rehearsing import trial_call
from whimbrel.engine.rehearsing.dry_run import dry_run
from whimbrel.engine.rehearsing.trial_call import try_function
from whimbrel.errors import DefinitionInvalid, WarningsRefused
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.function_caller import callers
from whimbrel.workers.migration_loader import load

Docs = Database[dict[str, Any]]
MISTAKES = """
import asyncio
import signal
from datetime import datetime

from whimbrel import migration

things = {"collection": "things"}


@migration(**things)
def forgetful(thing):
    thing["n"] = 1


@migration(**things)
def generous(thing):
    yield {"$set": {"n": 1}}


@migration(**things)
def truthful(thing):
    return True


@migration(**things)
def listing(thing):
    return ["n", 1]


@migration(**things)
def unawaited(thing):
    async def inner():
        return {"$set": {"n": 1}}

    made = inner()
    made.close()
    return made


@migration(**things)
async def streaming(thing):
    yield {"$set": {"n": 1}}


@migration(**things)
def operators(thing):
    return {"$sett": {"n": 1}}


@migration(**things)
def unstorable(thing):
    return {"$set": {"n": {1, 2}}}


@migration(**things)
def stranger(thing):
    return {"_id": -1, "n": 1}


@migration(**things)
def alarmed(thing):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    return {"$set": {"n": 1}}


@migration(**things)
async def alarmed_loop(thing):
    asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, print)
    return {"$set": {"n": 1}}


@migration(**things)
def misspelt(thing):
    return {"$set": {"n": thng["n"]}}


@migration(**things)
def sometimes(thing):
    return {"$set": {"n": 1}} if thing["_id"] == 7 else None


@migration(**things)
def unlucky(thing):
    raise OSError("elsewhere is down")


@migration(**things)
def naive(thing):
    return {"$set": {"at": datetime(2026, 1, 1), "deep": {"times": [datetime(2026, 1, 1)]}}}


@migration(**things, mark="status", claim=True)
def outside(thing):
    return True
"""
SAID = {
    "forgetful": "returned None.* A document that the function changes itself is returned too",
    "generous": "returned generator.* only makes a generator: write `return`",
    "truthful": r"returned bool \(True\)",
    "listing": r"returned list \(\['n', 1\]\)",
    "unawaited": "returned coroutine.* never awaited: make the function itself an `async def`",
    "streaming": "returned async_generator.*write `return`",
    "operators": r"\$sett",
    "unstorable": "a value that MongoDB cannot store",
    "stranger": "without the _id of the one it was given",
    "alarmed": "only works in main thread.*Functions are called in threads",
    "alarmed-loop": "only works in main thread.*Functions are called in threads",
    "misspelt": "name 'thng' is not defined",
}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial's time counts the start of its process, and one that runs out of time finds nothing."""
    monkeypatch.setattr(trial_call, "SECONDS", 60.0)


@pytest.fixture
def things(database: Docs) -> Docs:
    database["things"].insert_many({"_id": n, "status": "pending"} for n in range(8))
    return database


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("mistakes") / "mistakes.py"
    path.write_text(MISTAKES)
    return str(path)


@pytest.mark.parametrize("name", SAID)
def test_it_is_one_failure_of_each_document_without_a_retry(
    store: MongoStore, things: Docs, source: str, name: str
) -> None:
    ended = migrate(store, load(source)[name])
    assert ended.run.status is RunStatus.COMPLETED_WITH_FAILURES
    rows = store.ledger.failures.list(ended.run.id, limit=10)
    assert [(row.attempt, str(row.state)) for row in rows] == [(1, "dead")] * 8
    (group,) = store.ledger.failures.groups(ended.run.id, limit=10).groups
    assert re.search(SAID[name], group.message), group.message
    assert things["things"].count_documents({"n": {"$exists": True}}) == 0


def test_other_exceptions_are_tried_again(store: MongoStore, things: Docs, source: str) -> None:
    ended = migrate(store, load(source)["unlucky"])
    rows = store.ledger.failures.list(ended.run.id, limit=10)
    assert {row.attempt for row in rows} == {DEFAULTS.max_attempts}


@pytest.mark.parametrize("name", ["generous", "alarmed", "streaming"])
def test_a_trial_before_the_start_finds_it(store: MongoStore, things: Docs, source: str, name: str) -> None:
    it = load(source)[name].definition
    with pytest.raises(DefinitionInvalid, match=SAID[name]) as refused:
        try_function(store, it, draft_run(store, it, defaults=DEFAULTS), callers(source))
    assert "--force" in str(refused.value)


@pytest.mark.parametrize("name", ["sometimes", "unlucky", "outside"])
def test_a_trial_lets_pass_what_may_be_right_and_calls_nothing_with_effects(
    store: MongoStore, things: Docs, source: str, name: str
) -> None:
    it = load(source)[name].definition
    try_function(store, it, draft_run(store, it, defaults=DEFAULTS), callers(source))


def test_a_run_is_refused_unless_it_is_forced(commands: Commands, things: Docs, source: str) -> None:
    commands.set(MONGODB_DB_NAME=things.name, WHIMBREL_MIGRATIONS=source)
    refused = commands("run", "forgetful", "--workers", "1", "-y", code=65).err
    assert "fails for every document that it was tried on" in refused
    assert "whimbrel_runs" not in things.list_collection_names()
    commands("run", "forgetful", "--workers", "1", "-y", "--force", code=2)
    assert things["whimbrel_failures"].count_documents({"state": "dead", "attempt": 1}) == 8


def plan(store: MongoStore, source: str, name: str) -> dict[str, Any]:
    it = load(source)[name].definition
    found = dry_run(store, it, draft_run(store, it, defaults=DEFAULTS), callers(source), workers=1)
    return {each.check: each for each in found.warnings}


def test_a_plan_names_fields_that_get_times_without_a_zone(
    store: MongoStore, things: Docs, source: str
) -> None:
    found = plan(store, source, "naive")["times"]
    assert found.level == "warning"
    assert (found.detail or {})["fields"] == ["at", "deep.times"]
    assert "'at', 'deep.times'" in found.reason


def test_a_plan_names_times_without_a_zone_that_the_definition_holds(
    store: MongoStore, things: Docs, tmp_path: Path
) -> None:
    """Told by the process that evaluates them: in all others they are in UTC already."""
    (tmp_path / "declared.py").write_text(NAIVE)
    it = describe(str(tmp_path / "declared.py"))["declared"]
    found = dry_run(store, it, draft_run(store, it, defaults=DEFAULTS), callers(None), workers=1)
    (times,) = (each for each in found.warnings if each.check == "times")
    assert (times.level, (times.detail or {})["fields"]) == (
        "warning",
        ["filter: at", "filter: any.at", "update: when"],
    )


NAIVE = """
from datetime import UTC, datetime
from whimbrel import Migration

declared = Migration(
    name="declared", collection="things",
    filter={"at": {"$gte": datetime(2026, 1, 1)}, "$or": [{"any.at": {"$in": [datetime(2026, 1, 1)]}}, {"zoned": datetime.now(UTC)}]},
    update=[{"$set": {"when": datetime(2026, 1, 1)}}],
)
"""


ANEW = """
import time
import uuid
from whimbrel import migration

TAG, UNUSED, SAME = str(uuid.uuid4()), uuid.uuid4(), "the same"

@migration(collection="things")
def anew(thing, at=time.time()):
    return {"$set": {"n": [TAG, SAME, at]}}
"""


def test_values_that_each_process_makes_anew_are_told_before_each_writes_its_own(
    store: MongoStore, things: Docs, tmp_path: Path
) -> None:
    source = str(tmp_path / "anew.py")
    Path(source).write_text(ANEW)
    it = describe(source)["anew"]
    draft = draft_run(store, it, defaults=DEFAULTS)
    planned = dry_run(store, it, draft, callers(source), workers=1).warnings
    before_a_run = try_function(store, it, draft, callers(source)).warnings
    for warnings in (planned, before_a_run):
        (found,) = (each for each in warnings if each.check == "values")
        assert (found.level, (found.detail or {})["values"]) == ("warning", ["TAG", "argument at"])
    with pytest.raises(WarningsRefused, match="TAG, argument at"):
        try_function(store, it, draft, callers(source), strict=True)


def test_a_plan_says_that_a_run_would_be_refused(store: MongoStore, things: Docs, source: str) -> None:
    found = plan(store, source, "alarmed")["answer"]
    assert (found.level, "--force" in found.remedy) == ("error", True)
    assert "answer" not in plan(store, source, "sometimes")
