"""What migrations may depend on, in which order that can be run, and when a version is complete and verified."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from whimbrel import DefinitionInvalid, Migration
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import (
    in_sequence,
    read_reference,
    resolved,
    sequence_faults,
)
from whimbrel.domain.runs.requests import Request, requested
from whimbrel.domain.runs.run import Run, Scope
from whimbrel.domain.runs.standing import PrunedRun, RunHistory, State, standing_of
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.verification import Proof

S = RunStatus
START = datetime(2026, 11, 30, tzinfo=UTC)


def definition(name: str, *depends_on: str, **options: Any) -> Definition:
    it = Migration(
        name=name, collection="things", update={"$set": {"a": 1}}, depends_on=list(depends_on), **options
    )
    return it.definition


def catalog(*definitions: Definition) -> dict[str, Definition]:
    return {each.name: each for each in definitions}


WRONG: dict[str, tuple[Any, str]] = {
    "text": ("split-name", "must be a list of names"),
    "a number": ([5], "holds 5: write the name of a migration"),
    "no name": (["Split Name"], "holds 'Split Name'"),
    "no version": (["a@"], "holds 'a@'"),
    "version 0": (["a@0"], "holds 'a@0'"),
    "a version in words": (["a@two"], "holds 'a@two'"),
    "a version too high": (["a@1000001"], "holds 'a@1000001'"),
    "itself": (["m"], "names the migration itself"),
    "itself by version": (["m@1"], "names the migration itself"),
    "twice": (["a", "a@2"], "names 'a' twice"),
    "too many": ([f"a{number}" for number in range(101)], "names 101 migrations, and 100 are possible"),
}  # fmt: skip


@pytest.mark.parametrize(("depends_on", "sentence"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_depended_on_is_refused(depends_on: Any, sentence: str) -> None:
    with pytest.raises(DefinitionInvalid, match="Migration 'm': depends_on") as found:
        Migration(name="m", collection="c", update={"$set": {"a": 1}}, depends_on=depends_on)
    assert sentence in str(found.value)


def test_an_option_that_means_it_is_recognised() -> None:
    with pytest.raises(DefinitionInvalid, match="Did you mean 'depends_on'"):
        Migration(name="m", collection="c", update={"$set": {"a": 1}}, requires=["a"])


def test_a_reference_has_a_name_and_perhaps_a_version() -> None:
    assert [read_reference(text) for text in ("a-b", "a@12", "a@012", "a@-1", "@1", "a@1@2", "", None)] == [
        ("a-b", None), ("a", 12), None, None, None, None, None, None,
    ]  # fmt: skip


def test_what_it_depends_on_is_no_part_of_the_codes_hash() -> None:
    assert definition("m", "a").code_hash == definition("m").code_hash


def test_dependencies_say_which_version_is_loaded_and_where() -> None:
    loaded = catalog(
        definition("a", version=3, database="shop"), definition("b", "a"), definition("c", "a@2")
    )
    by_name = {name: resolved(each, loaded).dependencies for name, each in loaded.items()}
    assert by_name["a"] == ()
    assert [(each.name, each.version, each.database, each.collection) for each in by_name["b"]] == [
        ("a", 3, "shop", "things")
    ]
    assert by_name["c"][0].version == 2


def test_each_comes_behind_all_that_it_depends_on() -> None:
    loaded = catalog(
        definition("d", "b", "c"),
        definition("c", "a"),
        definition("b", "a"),
        definition("a"),
        definition("e"),
    )
    order = in_sequence("d", {name: resolved(each, loaded) for name, each in loaded.items()})
    assert (order[0], sorted(order[1:3]), order[3]) == ("a", ["b", "c"], "d")


def faults(*definitions: Definition, unusable: dict[str, str] | None = None) -> dict[str, str]:
    loaded = catalog(*definitions)
    return sequence_faults(loaded, {name: f"{name}.py" for name in loaded}, unusable or {})


def test_a_sequence_without_faults_has_none() -> None:
    assert faults(definition("a"), definition("b", "a@1"), definition("c", "a", "b")) == {}


def test_unknown_names_are_refused_with_a_hint() -> None:
    assert "Did you mean 'split-name'?" in faults(definition("split-name"), definition("b", "split-nam"))["b"]
    assert "load its file too" in faults(definition("b", "zzz"))["b"]


def test_a_version_that_is_not_loaded_is_refused() -> None:
    found = faults(definition("a", version=2), definition("b", "a@3"), definition("c", "a@2"))
    assert list(found) == ["b"]
    assert "version 2 of 'a' is loaded" in found["b"]


def test_circles_are_refused_with_the_files_and_so_is_what_depends_on_them() -> None:
    found = faults(
        definition("a", "c"),
        definition("b", "a"),
        definition("c", "b"),
        definition("d", "c"),
        definition("e"),
    )
    assert set(found) == {"a", "b", "c", "d"}
    for name in "abc":
        assert all(f"{each} ({each}.py)" in found[name] for each in "abc")
        assert "in a circle" in found[name]
    assert "depends on 'c', which cannot be used" in found["d"]
    circles = faults(definition("a", "b"), definition("b", "a"), definition("x", "y"), definition("y", "x"))
    assert set(circles) == {"a", "b", "x", "y"}


def test_what_depends_on_something_broken_is_refused() -> None:
    found = faults(definition("b", "a"), unusable={"a": "old.py"})
    assert "mend it first, in old.py" in found["b"]


# complete and verified


def run(name: str, at: int, status: RunStatus = S.COMPLETED, **fields: Any) -> Run:
    """A run that was added at a minute, and ended half a minute later."""
    begun = status is not S.QUEUED
    ended = status in (S.COMPLETED, S.COMPLETED_WITH_FAILURES, S.CANCELLED, S.FAILED)
    values: dict[str, Any] = {
        "id": name, "migration": "m", "version": 1, "database": "d", "collection": "c", "filter": encoded({}), "mark": "marker",
        "status_field": "status", "declarative": True, "claim": False, "adopt": "ours", "scope": Scope(), "request": Request(),
        "legs": ("pending", "failed", "sweep", "failed"), "status": status, "batch_size": 10, "max_attempts": 1, "retry_delay": 1.0, "timeout": 1.0,
        "code_hash": "", "created_at": minute(at), "updated_at": minute(at), "started_at": minute(at) if begun else None,
        "ended_at": minute(at + 0.5) if ended else None, "collection_uuid": b"here",
    }  # fmt: skip
    return Run(**{**values, **fields})


def minute(at: float) -> datetime:
    return START + timedelta(minutes=at)


def check(name: str, at: int, status: RunStatus = S.COMPLETED, **fields: Any) -> Run:
    return run(name, at, status, kind="verification", of="W", **fields)


def back(at: int, status: RunStatus = S.COMPLETED, **fields: Any) -> Run:
    return run("R", at, status, kind="rollback", of="W", **fields)


W = run("W", 1)
GOOD = check("V", 2)
PRUNED = PrunedRun(id="W", created_at=minute(1), ended_at=minute(1.5), verified=True, collection_uuid=b"here")
NARROWED = requested({"n": 1})

HISTORIES: dict[str, tuple[State, str, RunHistory]] = {
    "nothing": (State.NOT_STARTED, "No run of it was started", RunHistory()),
    "a part only": (State.NOT_STARTED, "was over a part", RunHistory(runs=[run("P", 1, request=NARROWED)])),
    "the first only": (State.NOT_STARTED, "over a part", RunHistory(runs=[run("P", 1, scope=Scope("first", 5))])),
    "some ids only": (State.NOT_STARTED, "over a part", RunHistory(runs=[run("P", 1, scope=Scope("ids", 5))])),
    "nobody knows what was asked for": (State.NOT_STARTED, "over a part", RunHistory(runs=[run("P", 1, request=None)])),
    "at work": (State.RUNNING, "Run W is running", RunHistory(runs=[run("W", 1, S.RUNNING)])),
    "waits": (State.RUNNING, "Run W is queued", RunHistory(runs=[run("W", 1, S.QUEUED)])),
    "waits behind a paused one": (
        State.PAUSED, "Run P is paused: the disk is full", RunHistory(runs=[run("W", 2, S.QUEUED), run("P", 1, S.PAUSED, error="the disk is full")])
    ),
    "failed": (State.FAILED, "Run W has failed: no tiles", RunHistory(runs=[run("W", 1, S.FAILED, error="no tiles")])),
    "failures": (State.FAILED, "whimbrel failures W", RunHistory(runs=[run("W", 1, S.COMPLETED_WITH_FAILURES)], failing=["W"], uuid=b"here")),
    "failures that were resolved": (State.COMPLETE, "no verification", RunHistory(runs=[run("W", 1, S.COMPLETED_WITH_FAILURES)], uuid=b"here")),
    "cancelled": (State.NOT_STARTED, "Run W was cancelled", RunHistory(runs=[run("W", 1, S.CANCELLED)])),
    "a later one cancelled": (State.NOT_STARTED, "Run L was cancelled", RunHistory(runs=[run("L", 3, S.CANCELLED), W], verifications=[GOOD], uuid=b"here")),
    "a later one that never began": (
        State.VERIFIED, "run V verified", RunHistory(runs=[run("L", 3, S.CANCELLED, started_at=None), W], verifications=[GOOD], uuid=b"here")
    ),
    "complete": (State.COMPLETE, "no verification of it has ended", RunHistory(runs=[W], uuid=b"here")),
    "verified": (State.VERIFIED, "run V verified that", RunHistory(runs=[W], verifications=[GOOD], uuid=b"here")),
    "verified, and others have changed documents": (
        State.VERIFIED, "Others have changed documents since",
        RunHistory(runs=[W], verifications=[check("V", 2, report=(Proof("marks", None, "", since=True),))], uuid=b"here"),
    ),
    "being verified": (State.COMPLETE, "is running", RunHistory(runs=[W], verifications=[check("V", 2, S.RUNNING)], uuid=b"here")),
    "faults": (State.COMPLETE, "has found faults", RunHistory(runs=[W], verifications=[check("V", 2, S.COMPLETED_WITH_FAILURES)], uuid=b"here")),
    "faults later": (
        State.COMPLETE, "has found faults", RunHistory(runs=[W], verifications=[check("F", 3, S.COMPLETED_WITH_FAILURES), GOOD], uuid=b"here")
    ),
    "a verification cancelled": (State.VERIFIED, "run V", RunHistory(runs=[W], verifications=[check("C", 3, S.CANCELLED), GOOD], uuid=b"here")),
    "retried since": (State.COMPLETE, "has ended since", RunHistory(runs=[replace(W, ended_at=minute(3))], verifications=[GOOD], uuid=b"here")),
    "some documents again since": (
        State.COMPLETE, "has ended since", RunHistory(runs=[run("P", 3, request=NARROWED), W], verifications=[GOOD], uuid=b"here")
    ),
    "some documents again before": (
        State.VERIFIED, "run V", RunHistory(runs=[run("P", 2, request=NARROWED), W], verifications=[check("V", 3)], uuid=b"here")
    ),
    "some documents fail since": (
        State.FAILED, "Run P has left failures",
        RunHistory(runs=[run("P", 3, S.COMPLETED_WITH_FAILURES, request=NARROWED), W], verifications=[GOOD], failing=["P"], uuid=b"here"),
    ),
    "all again since": (State.COMPLETE, "Run L completed it", RunHistory(runs=[run("L", 3), W], uuid=b"here")),
    "rolled back": (State.NOT_STARTED, "Run W was rolled back by run R", RunHistory(runs=[W], rollbacks=[back(3)], verifications=[GOOD], uuid=b"here")),
    "being rolled back": (State.NOT_STARTED, "rolled back", RunHistory(runs=[W], rollbacks=[back(3, S.RUNNING)], uuid=b"here")),
    "a rollback that never began": (
        State.VERIFIED, "run V", RunHistory(runs=[W], rollbacks=[back(3, S.CANCELLED, started_at=None)], verifications=[GOOD], uuid=b"here")
    ),
    "another collection": (State.NOT_STARTED, "another one than it was", RunHistory(runs=[W], verifications=[GOOD], uuid=b"there")),
    "no collection": (State.NOT_STARTED, "another one than it was", RunHistory(runs=[W], verifications=[GOOD])),
    "pruned": (State.VERIFIED, "its record was pruned", RunHistory(pruned=PRUNED, uuid=b"here")),
    "pruned, not verified": (State.COMPLETE, "its record was pruned", RunHistory(pruned=replace(PRUNED, verified=False), uuid=b"here")),
    "pruned, and some again since": (State.COMPLETE, "Run W completed it;", RunHistory(runs=[run("P", 3, request=NARROWED)], pruned=PRUNED, uuid=b"here")),
    "pruned, and rolled back in part since": (State.NOT_STARTED, "rolled back", RunHistory(rollbacks=[back(3)], pruned=PRUNED, uuid=b"here")),
    "pruned, and another collection": (State.NOT_STARTED, "another one", RunHistory(pruned=PRUNED, uuid=b"there")),
}  # fmt: skip


@pytest.mark.parametrize(("state", "why", "history"), HISTORIES.values(), ids=HISTORIES)
def test_a_version_is_as_far_as_its_runs_tell(state: State, why: str, history: RunHistory) -> None:
    found = standing_of(history)
    assert (found.state, found.done) == (state, state in ("complete", "verified"))
    assert why in found.why
