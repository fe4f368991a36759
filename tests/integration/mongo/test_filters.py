"""A filter selects what MongoDB's own `find` selects by it: given in Python, as a text, as JSON, in a schedule, and in rows of earlier versions."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import (
    Binary,
    DatetimeMS,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
    json_util,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from tests.bson_values import relaxed
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.migrations.filters import parse_filter, read_filter
from whimbrel.engine.operating.run_view import run_object
from whimbrel.engine.operating.start import compose_run
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.definition_catalog import describe

Docs = Database[dict[str, Any]]
Things = Collection[dict[str, Any]]
CORP = {"email": {"$regex": r"@corp\.com$", "$nin": ["admin@corp.com", "root@corp.com"]}}
MAILS = ["admin@corp.com", "root@corp.com", "ann@corp.com", "bob@home.org", "ANN@CORP.COM"]
LATE = DatetimeMS(400_000_000_000_000)  # the year 14645
REFERENCE = {"$ref": "c", "$id": 1}
TURNED = {"$id": 1, "$ref": "c"}
OPEN = {"$ref": "c"}

# Values that documents hold and filters ask for: pairs that are easily taken for one another beside one another.
POOL: list[Any] = [
    None, True, 1, Int64(1), 1.0, 1.5, -0.0, Int64(2**53 + 1), float(2**53), float("nan"), float("inf"), Decimal128("1.50"), Decimal128("NaN"),
    "a", "A", "ab", "1", "$a", "", ObjectId(bytes(12)), str(ObjectId(bytes(12))), datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    datetime(1960, 1, 1, tzinfo=UTC), LATE, Binary(bytes(16), 4), Binary(bytes(16), 3), Binary(bytes(16), 0), Binary(b"\1", 128), Timestamp(3, 4),
    Regex("^a", "i"), Regex("^a", ""), MinKey(), MaxKey(), REFERENCE, TURNED, OPEN, {**REFERENCE, "$db": "d"}, {"b": 1}, {"b": 1.5, "c": "a"}, {},
    [], [1, "a"], [{"b": 1}, {"b": 2}], [[1]],
]  # fmt: skip
VALUES = st.sampled_from(POOL)
NAMES = st.sampled_from(["a", "b", "a.b", "a.$id", "a.$ref", "a.0", "c"])
PATTERNS = st.sampled_from(["^a", "b", "^A$", "", "1"])
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "$regex": st.one_of(PATTERNS, PATTERNS.map(Regex)),
        "$eq": VALUES, "$ne": VALUES, "$gt": VALUES, "$gte": VALUES, "$lt": VALUES, "$lte": VALUES,
        "$in": st.lists(VALUES, max_size=3), "$nin": st.lists(VALUES, max_size=3), "$all": st.lists(VALUES, max_size=2),
        "$exists": st.booleans(), "$type": st.sampled_from(["string", "object", "number", 3, 16, ["date", "bool"]]), "$size": st.integers(0, 2),
        "$mod": st.sampled_from([[2, 1], [2.0, Int64(1)]]), "$not": st.fixed_dictionaries({"$regex": PATTERNS}),
        "$elemMatch": st.fixed_dictionaries({"$gte": VALUES}),
    },
).filter(bool)  # fmt: skip
OPTIONS = st.sampled_from(["i", "im", "s"])


@st.composite
def clauses(draw: Callable[[st.SearchStrategy[Any]], Any]) -> dict[str, Any]:
    condition = dict(draw(CONDITIONS))
    names = draw(st.permutations(sorted(condition)))
    asked = {name: condition[name] for name in names}
    if isinstance(asked.get("$regex"), str) and draw(st.booleans()):
        asked = {**asked, "$options": draw(OPTIONS)} if draw(st.booleans()) else {"$options": "i", **asked}
    return {draw(NAMES): asked if draw(st.integers(0, 3)) else draw(VALUES)}


FILTERS = st.recursive(
    st.lists(clauses(), min_size=1, max_size=2).map(lambda each: {name: value for part in each for name, value in part.items()}),
    lambda inner: st.fixed_dictionaries(
        {}, optional={name: st.lists(inner, min_size=1, max_size=2) for name in ("$and", "$or", "$nor")}
    ).filter(bool),
    max_leaves=3,
)  # fmt: skip


@pytest.fixture
def things(database: Docs) -> Things:
    """A document for each value under `a`, and some of others."""
    found = database["things"]
    found.insert_many({"_id": at, "a": each, "b": POOL[-at]} for at, each in enumerate(POOL))
    return found


def selected(things: Things, query: Mapping[str, Any]) -> set[Any]:
    """What `find` selects. A filter that MongoDB refuses is none for these tests."""
    try:
        return {each["_id"] for each in things.find(query, {"_id": 1})}
    except OperationFailure:
        assume(condition=False)
        raise


def by_hand(name: str = "m", filter_: Mapping[str, Any] | None = None, **options: Any) -> Migration:
    return Migration(name=name, collection="things", filter=filter_, update={"$set": {"done": 1}}, **options)


def query(
    store: MongoStore, filter_: Mapping[str, Any] | None, narrower: dict[str, Any] | None = None
) -> Any:
    """The filter of a run that is not in the ledger."""
    return compose_run(store, by_hand(filter_=filter_).definition, defaults=DEFAULTS, filter_=narrower).query


@relaxed(70)
@given(filter_=FILTERS)
def test_a_filter_selects_what_find_selects(
    store: MongoStore, things: Things, filter_: dict[str, Any]
) -> None:
    expected = selected(things, filter_)
    run = compose_run(store, by_hand(filter_=filter_).definition, defaults=DEFAULTS)
    store.ledger.runs.add(run, "test")
    found = store.ledger.runs.get(run.id)
    assert found is not None
    assert selected(things, found.query) == expected
    for options in (json_util.CANONICAL_JSON_OPTIONS, json_util.RELAXED_JSON_OPTIONS):
        text = json_util.dumps(filter_, json_options=options)
        assert selected(things, query(store, None, parse_filter(text))) == expected
        assert selected(things, query(store, filter_, read_filter(json.loads(text)))) == expected


# What the reader of Extended JSON in the driver takes for values, or turns into something else.
TWISTED: dict[str, tuple[dict[str, Any], set[Any]]] = {
    "a regex beside other operators": (CORP, {"ann@corp.com"}),
    "the same by options": (
        {"email": {"$options": "i", "$regex": r"@CORP\.com$", "$not": {"$regex": "^(admin|root)"}}},
        {"ann@corp.com", "ANN@CORP.COM"},
    ),
    "within $or and $nor": (
        {"$or": [{"$nor": [{"email": {"$regex": "corp", "$options": "i"}}]}, CORP]}, {"ann@corp.com", "bob@home.org"},
    ),
    "within $elemMatch": ({"tags": {"$elemMatch": {"$regex": "^a", "$nin": ["admin", "adm"]}}}, {"ann@corp.com"}),
    "a reference without an id": ({"owner": {"$eq": {"$ref": "people"}}}, {"bob@home.org"}),
    "a reference with its fields turned": ({"owner": {"$id": 1, "$ref": "people"}}, {"ann@corp.com"}),
    "a reference with more fields between": ({"owner": {"$ref": "people", "x": 1, "$id": 1}}, {"ANN@CORP.COM"}),
    "a reference in $in": ({"owner": {"$in": [{"$id": 1, "$ref": "people"}]}}, {"ann@corp.com"}),
}  # fmt: skip


@pytest.fixture
def mails(database: Docs) -> Things:
    owners: list[dict[str, Any]] = [
        {"$ref": "people", "$id": 1}, {"$ref": "people", "$id": None}, {"$id": 1, "$ref": "people"}, {"$ref": "people"},
        {"$ref": "people", "x": 1, "$id": 1},
    ]  # fmt: skip
    found = database["things"]
    found.insert_many(
        {"_id": at, "email": each, "owner": owners[at], "tags": [each[:5], each[:3]], "status": "pending"}
        for at, each in enumerate(MAILS)
    )
    return found


def changed(things: Things) -> set[Any]:
    return {each["email"] for each in things.find({"done": 1})}


@pytest.mark.parametrize("name", TWISTED)
def test_a_run_changes_what_its_filter_selects(store: MongoStore, mails: Things, name: str) -> None:
    filter_, expected = TWISTED[name]
    assert {each["email"] for each in mails.find(filter_)} == expected
    text = json.dumps(filter_)
    for narrower in (parse_filter(text), read_filter(json.loads(text))):
        assert {each["email"] for each in mails.find(query(store, None, narrower))} == expected
    ended = migrate(store, by_hand(filter_=filter_))
    assert changed(mails) == expected
    assert (ended.counts.changed, ended.run.estimated) == (len(expected), len(expected))
    assert json.dumps(run_object(ended)["filters"]) == text  # as it can be pasted


def test_a_definition_of_a_file_keeps_its_filter(store: MongoStore, mails: Things, tmp_path: Path) -> None:
    """It is loaded by another process, and comes from there."""
    file = tmp_path / "twisted.py"
    rows = [
        f"m{at} = Migration(name='m-{at}', collection='things', filter={filter_!r}, update={{'$set': {{'of': {TURNED!r}}}}})"
        for at, (filter_, _) in enumerate(TWISTED.values())
    ]
    file.write_text("\n".join(["from whimbrel import Migration", *rows]))
    found = describe(str(file))
    for at, (filter_, expected) in enumerate(TWISTED.values()):
        it = found[f"m-{at}"]
        assert {each["email"] for each in mails.find(it.filter)} == expected, filter_
        assert {each["email"] for each in mails.find(query(store, it.filter))} == expected, filter_
        assert str(it.update) == str({"$set": {"of": TURNED}})


@pytest.mark.parametrize("mark", ["marker", "status", "filter"])
def test_a_function_gets_what_its_filter_selects(store: MongoStore, mails: Things, mark: Any) -> None:
    seen: list[str] = []

    def function(document: dict[str, Any]) -> dict[str, Any]:
        seen.append(document["email"])
        return {"$set": {"done": 1, "email": document["email"].upper()}}

    filter_ = {**CORP, "owner": {"$id": 1, "$ref": "people"}}
    migrate(store, Migration(name="f", collection="things", mark=mark, filter=filter_, transform=function))
    assert (seen, changed(mails)) == (["ann@corp.com"], {"ANN@CORP.COM"})


# rows of earlier versions


def test_a_run_that_an_earlier_version_stored_goes_on(store: MongoStore, mails: Things) -> None:
    run = start(store, by_hand(filter_=CORP))
    rows = store.client[store.database]["whimbrel_runs"]
    old = {
        **CORP,
        "owner": {"$in": [{"$id": {"$numberInt": "1"}, "$ref": "people"}]},
        "at": {"$not": {"$type": "date"}},
    }
    rows.update_one({"_id": run.id}, {"$set": {"filter": json.dumps(old)}})
    with system(store, [by_hand(filter_=CORP)]):
        ended = until(store, run)
    assert (changed(mails), ended.counts.changed) == ({"ann@corp.com"}, 1)


@relaxed(40)
@given(filter_=FILTERS)
def test_a_filter_that_an_earlier_version_stored_selects_the_same(
    store: MongoStore, things: Things, filter_: dict[str, Any]
) -> None:
    expected = selected(things, filter_)
    run = compose_run(store, by_hand().definition, defaults=DEFAULTS)
    store.ledger.runs.add(run, "test")
    text = json_util.dumps(filter_, json_options=json_util.CANONICAL_JSON_OPTIONS)
    store.client[store.database]["whimbrel_runs"].update_one({"_id": run.id}, {"$set": {"filter": text}})
    found = store.ledger.runs.get(run.id)
    assert found is not None
    assert selected(things, found.query) == expected
