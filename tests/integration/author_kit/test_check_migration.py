"""The author's kit: what holds is proved, and every lie of a migration is found out."""

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from whimbrel import SKIP, Migration, migration
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.testing import Unproved, check_migration
from whimbrel.testing.expected import rehearse_migration
from whimbrel.testing.trial import nothing, open_trial

PEOPLE = [
    {"_id": 1, "name": "Ada Lovelace"},
    {"_id": 2, "name": "Alan Mathison Turing", "age": 41},
    {"_id": 3, "name": "Plato"},
    {"_id": 4, "name": "Grace Hopper", "tags": ["a", {"b": 1}]},
]


@migration(collection="people", filter={"name": {"$exists": True}}, reads=["name"])
def split_name(person: dict[str, Any]) -> Any:
    first, _, last = person["name"].partition(" ")
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}} if last else SKIP


def test_a_migration_that_keeps_its_promises(mongo_uri: str, client: MongoClient[Any]) -> None:
    found = check_migration(split_name, PEOPLE, uri=mongo_uri)
    said = str(found)
    for part in ("3 changed, 0 unchanged, 1 skipped", "deterministic", "killed at every step", "S5, S6, S8", "writer wins", "reads are true", "byte for byte"):  # fmt: skip
        assert part in said
    assert not found.left_out
    assert not [name for name in client.list_database_names() if name.startswith("whimbrel_check_")]


def test_a_declarative_one_that_is_not_idempotent_is_guarded(mongo_uri: str) -> None:
    it = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})
    said = str(check_migration(it, [{"n": 0}, {"n": 5, "x": 1}, {}], uri=mongo_uri, kill=False))
    assert "not idempotent, but guarded by the mark '_whimbrel.inc_v1'" in said
    assert "not looked at: declared reads: it declares none" in said


def test_the_sample_reads_the_clock_and_fails_on_purpose(mongo_uri: str) -> None:
    now = datetime.now(UTC)
    documents = [
        {"_id": 1, "status": "pending", "data": {"score": 1}, "updatedAt": now},
        {"_id": 2, "status": "failed", "data": {"score": 2}, "updatedAt": now},
        {"_id": 3, "status": "pending", "data": "not an object", "updatedAt": now},
        {"_id": 4, "status": "success", "data": {"score": 4}, "updatedAt": now},
    ]
    found = check_migration(
        SOME_MODEL, documents, uri=mongo_uri, deterministic=False, failing=[3], kill=False
    )
    assert "1 fail as they must" in str(found)
    with pytest.raises(Unproved, match=r"uses .*NOW.*say deterministic=False"):
        check_migration(SOME_MODEL, documents[:1], uri=mongo_uri, kill=False)


def test_what_rests_on_the_time_since_the_claim_varies(mongo_uri: str) -> None:
    """Even where two rehearsals are too quick for it to differ."""
    since = {"$subtract": ["$$NOW", "$$claimed_at"]}
    it = Migration(name="late", collection="things", update=[{"$set": {"late": {"$gt": [since, 60_000]}}}])
    with open_trial(it, [{"_id": 1}], mongo_uri, nothing) as trial:
        assert rehearse_migration(trial, deterministic=False, failing=[]).varies == {"late"}


numbers = itertools.count()


@migration(collection="things")
def counting(thing: dict[str, Any]) -> Any:
    return {"$set": {"number": next(numbers)}}


@migration(collection="things", reads=["a"])
def lying(thing: dict[str, Any]) -> Any:
    return {"$set": {"sum": thing["a"] + thing.get("b", 0)}}


@migration(collection="things", reads=["a"])
def lying_more(thing: dict[str, Any]) -> Any:
    return {"$set": {"sum": thing["a"] + thing["b"]}}


@migration(collection="things")
def failing(thing: dict[str, Any]) -> Any:
    if thing["a"] == 2:
        raise ValueError("two")
    return {"$set": {"done": True}}


@migration(collection="things", mark="filter", filter={"a": {"$gt": 0}})
def again(thing: dict[str, Any]) -> Any:
    return {"$set": {"a": thing["a"] + 1}}


@pytest.mark.parametrize(
    ("it", "fault"),
    [
        (counting, "deterministic: .*came out otherwise"),
        (lying, "makes something else of document 1"),
        (lying_more, "With the fields a alone it fails on document 1: KeyError"),
        (failing, "1 documents fail, such as 2: ValueError: two"),
        (again, "still match the filter|After a second run document"),
    ],
    ids=["clock", "lies", "lies and fails", "fails", "twice"],
)
def test_what_is_not_true_is_found_out(mongo_uri: str, it: Migration, fault: str) -> None:
    documents = [{"_id": n, "a": n, "b": 7} for n in (1, 2, 3)]
    with pytest.raises(Unproved, match=fault):
        check_migration(it, documents, uri=mongo_uri, kill=False)


def test_a_document_that_must_fail_and_does_not(mongo_uri: str) -> None:
    with pytest.raises(Unproved, match="must fail do not: 1"):
        check_migration(split_name, PEOPLE, uri=mongo_uri, failing=[1], kill=False)


def test_nothing_that_is_selected_proves_nothing(mongo_uri: str) -> None:
    with pytest.raises(ValueError, match="selects none of these documents"):
        check_migration(split_name, [{"_id": 1}], uri=mongo_uri)


def test_what_undo_cannot_do_is_said(mongo_uri: str) -> None:
    it = Migration(name="bits", collection="things", update={"$bit": {"n": {"or": 8}}})
    found = check_migration(it, [{"n": 1}], uri=mongo_uri, kill=False)
    assert "$bit" in found.left_out["undo"]


def test_indexes_are_there(mongo_uri: str) -> None:
    def prepare(things: Any) -> None:
        things.create_index("n", unique=True)

    it = Migration(name="same", collection="things", update={"$set": {"n": 5}})
    with pytest.raises(Unproved, match=r"11000|E11000|DuplicateKey"):
        check_migration(it, [{"n": 1}, {"n": 2}], uri=mongo_uri, prepare=prepare, kill=False)


def test_the_test_that_new_writes_passes_as_it_is(mongo_uri: str, tmp_path: Path) -> None:
    """By the fixture that pytest finds by itself."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))
    }
    program = [sys.executable, "-m"]
    subprocess.run(
        [*program, "whimbrel.cli.main", "new", "split-name"], cwd=tmp_path, check=True, env=environment
    )
    done = subprocess.run(
        [*program, "pytest", "-q", "-s", "-p", "no:cacheprovider", "test_split_name.py"], cwd=tmp_path, check=False,
        env=environment | {"WHIMBREL_TEST_MONGODB_URI": mongo_uri}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proved: killed at every step" in done.stdout


def test_without_an_address_an_embedded_mongodb_is_started() -> None:
    assert "byte for byte" in str(check_migration(split_name, PEOPLE, kill=False))
