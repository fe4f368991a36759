"""Wrong definitions fail where they are made, in a sentence that names the migration and the fix."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument

from tests.names import named
from whimbrel import DefinitionInvalid, Migration, migration


def same(document: dict[str, Any]) -> dict[str, Any]:
    """The first line says what it does.

    The second does not.
    """
    return document


GOOD: dict[str, Any] = {"name": "m", "collection": "c", "transform": same}


def wrong(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DefinitionInvalid, match=re.escape(sentence)) as found:
        Migration(**{**GOOD, **changed})
    if "name" not in changed:
        assert "Migration 'm'" in str(found.value)


# options


@pytest.mark.parametrize("name", ["", "A", "a_b", "a--b", "-a", "a-", "a.b", "a b", "é", None, 5])
def test_a_name_is_letters_digits_and_hyphens(name: Any) -> None:
    wrong({"name": name}, "lower-case letters, digits and single hyphens")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"batchsize": 5}, "unknown option 'batchsize'. Did you mean 'batch_size'?"),
        ({"zzz": 5}, "unknown option 'zzz'. The options are adopt, batch_size,"),
        ({"collection": ""}, "names no collection"),
        ({"collection": None}, "names no collection"),
        ({"collection": "a$b"}, "cannot be the name of a collection"),
        ({"collection": ".a"}, "cannot be the name of a collection"),
        ({"collection": "a..b"}, "cannot be the name of a collection"),
        ({"collection": "system.users"}, "MongoDB's or Whimbrel's own"),
        ({"collection": "whimbrel_batches"}, "MongoDB's or Whimbrel's own"),
        ({"database": "a.b"}, "cannot be the name of a database"),
        ({"database": ""}, "cannot be the name of a database"),
        ({"database": 5}, "cannot be the name of a database"),
        ({"transform": None}, "needs either an update or a function"),
        ({"update": {"$set": {"a": 1}}}, "needs either an update or a function"),
        ({"transform": 5}, "needs a function made with def, not 5"),
        ({"transform": dict}, "needs a function made with def, not <class 'dict'>"),
        ({"transform": lambda: 1}, "must take the document, and a context if it wants one, not 0 arguments"),
        ({"transform": lambda a, b, c: (a, b, c)}, "not 3 arguments (a, b, c)"),
        ({"transform": lambda *a: a}, "not 0 arguments"),
        ({"transform": lambda a, *, b: (a, b)}, "not 2 arguments (a, b)"),
        ({"batch_size": True}, "batch_size must be a whole number from 1 to 100,000, not True"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 100,000, not 0"),
        ({"batch_size": 100_001}, "batch_size must be a whole number from 1 to 100,000, not 100001"),
        ({"batch_size": 5.0}, "batch_size must be a whole number"),
        ({"batch_size": "5"}, "batch_size must be a whole number"),
        ({"version": None}, "version must be a whole number from 1"),
        ({"version": 0}, "version must be a whole number from 1"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 100"),
        ({"concurrency": 1001}, "concurrency must be a whole number from 1 to 1,000"),
        ({"timeout": 0}, "timeout must be seconds from above 0 to 3600"),
        ({"timeout": True}, "timeout must be seconds"),
        ({"timeout": float("nan")}, "timeout must be seconds"),
        ({"timeout": "5"}, "timeout must be seconds"),
        ({"mark": "field"}, "mark must be 'marker' or 'status' or 'filter', not 'field'"),
        ({"mark": ["marker"]}, "mark must be"),
        ({"adopt": "none"}, "adopt must be 'ours' or 'all', not 'none'"),
        ({"claim": "yes"}, "claim must be True or False, not 'yes'"),
        ({"claim": True}, "claim=True needs mark='status' and a function"),
        ({"claim": True, "mark": "status", "transform": None, "update": {"$set": {"a": 1}}}, "claim=True needs"),
        ({"mark": "filter"}, "needs a filter that the change makes false"),
        ({"reads": ["a.b"]}, "reads must be a list of names of top-level fields, such as ['price'], not ('a.b',)"),
        ({"reads": "price"}, "reads must be a list of names of top-level fields, such as ['price'], not 'price'"),
        ({"reads": ["$a"]}, "reads must be"),
        ({"reads": [5]}, "reads must be"),
        ({"status_field": "meta.status"}, "status_field must be the name of a top-level field of yours"),
        ({"status_field": "_id"}, "status_field must be"),
        ({"status_field": "processedBy"}, "status_field must be"),
        ({"status_field": 5}, "status_field must be"),
        ({"filter": "status"}, "filter must be a query document, not 'status'"),
        ({"filter": {"$where": "1"}}, "has a filter that is refused. The filter uses $where"),
        ({"filter": {"a": 2**64}}, "has a filter that is refused. The filter holds a value that MongoDB cannot store"),
        ({"filter": {"a": {1, 2}}}, "has a filter that is refused. The filter holds a value that MongoDB cannot store"),
    ],
    ids=named,
)  # fmt: skip
def test_a_wrong_option_is_told(changed: dict[str, Any], sentence: str) -> None:
    wrong(changed, sentence)


# updates


@pytest.mark.parametrize(
    ("update", "sentence"),
    [
        ({"a": 1}, "update must consist of operators such as {'$set': ...}; a whole document would replace every document"),
        ({"$set": {"a": 1}, "b": 1}, "update must consist of operators"),
        ({}, "update must consist of operators"),
        ([], "update must be an update document or a pipeline, not []"),
        (5, "update must be an update document or a pipeline, not 5"),
        ("$set", "update must be an update document or a pipeline, not '$set'"),
        ([5], "update must consist of operators"),
        ([{"$match": {"a": 1}}], "$match is not a stage of an update pipeline ($addFields, "),
        ([{"$set": {"a": 1}, "$unset": "b"}], "$set/$unset is not a stage"),
        ({"$set": 5}, "$set takes a document such as {'$set': {'field': ...}}, not 5"),
        ({"$set": {"_id": 1}}, "changes '_id': the _id of a document cannot be changed. Leave it out"),
        ({"$unset": {"_id.x": 1}}, "changes '_id.x'"),
        ([{"$project": {"_id": 0}}], "changes '_id'"),
        ({"$rename": {"a": "_whimbrel"}}, "changes '_whimbrel', which Whimbrel writes itself"),
        ({"$rename": {"_whimbrel": "a"}}, "changes '_whimbrel'"),
        ({"$set": {"_whimbrel.other_v1": 1}}, "changes '_whimbrel.other_v1'"),
        ([{"$unset": "_whimbrel"}], "changes '_whimbrel'"),
        ([{"$unset": ["a", "_whimbrel.m_v1"]}], "changes '_whimbrel.m_v1'"),
        ([{"$addFields": {"_whimbrel": 1}}], "changes '_whimbrel'"),
        ([{"$project": {"_whimbrel": 0}}], "changes '_whimbrel'"),
        ({"$set": {"a": {1, 2}}}, "holds a value that MongoDB cannot store"),
        ({"$set": {"a": 2**64}}, "holds a value that MongoDB cannot store"),
    ],
    ids=named,
)  # fmt: skip
def test_a_wrong_update_is_told(update: Any, sentence: str) -> None:
    wrong({"transform": None, "update": update}, sentence)


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"status": "done"}},
        {"$set": {"status.x": 1}},
        {"$unset": {"processedBy": ""}},
        {"$rename": {"a": "status"}},
        {"$currentDate": {"status": True}},
        [{"$unset": ["status"]}],
        [{"$set": {"status": "$a"}}],
    ],
    ids=named,
)
def test_an_update_leaves_the_status_to_whimbrel_where_it_is_the_mark(update: Any) -> None:
    wrong({"transform": None, "update": update, "mark": "status"}, "which Whimbrel writes itself")
    Migration(name="m", collection="c", update=update)  # elsewhere it is a field like others


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"a": 1, "_ids": 2, "whimbrel": 3}},
        [
            {"$set": {"a": "$$run"}},
            {"$unset": ["b", "c"]},
            {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"d": 1}]}},
        ],
        [{"$project": {"_id": 1, "_whimbrel": True, "a": 1}}],
        ({"$set": {"a": 1}},),
    ],
    ids=named,
)
def test_a_good_update_is_taken(update: Any) -> None:
    assert Migration(name="m", collection="c", update=update).definition.declarative


# functions


def test_a_function_may_ask_for_a_context() -> None:
    assert not Migration(**GOOD).wants_context
    assert Migration(**{**GOOD, "transform": lambda document, context: (document, context)}).wants_context
    assert not Migration(**{**GOOD, "transform": lambda document, factor=2: (document, factor)}).wants_context


def test_a_migration_is_called_as_its_function() -> None:
    @migration(collection="people")
    def split_name(person: dict[str, Any]) -> dict[str, Any]:
        return {"$set": {"first": person["name"]}}

    assert split_name.name == "split-name"
    assert split_name({"name": "Ada"}) == {"$set": {"first": "Ada"}}
    with pytest.raises(DefinitionInvalid, match="'m' is declarative"):
        Migration(name="m", collection="c", update={"$set": {"a": 1}})({})


def test_the_summary_is_the_first_line_of_the_docstring() -> None:
    assert Migration(**GOOD).definition.summary == "The first line says what it does."


def test_a_function_of_a_wrong_name_is_told_its_name() -> None:
    def Split(person: Any) -> Any:  # noqa: N802
        return person

    with pytest.raises(DefinitionInvalid, match="'Split' cannot be used"):
        migration(collection="c")(Split)


# the hash of the code


def hash_of(**changed: Any) -> str:
    return Migration(**{**GOOD, **changed}).definition.code_hash


def test_the_hash_changes_with_every_option_and_with_the_source() -> None:
    update: dict[str, Any] = {"transform": None, "update": {"$set": {"a": {"x": 1, "y": 2}}}}
    other_order: dict[str, Any] = {"transform": None, "update": {"$set": {"a": {"y": 2, "x": 1}}}}
    hashes = [
        hash_of(), hash_of(version=2), hash_of(filter={"a": 1}), hash_of(filter={"a": 1.0}), hash_of(reads=["a"]), hash_of(reads=[]),
        hash_of(mark="status"), hash_of(collection="d"), hash_of(transform=lambda document: document), hash_of(**update), hash_of(**other_order),
    ]  # fmt: skip
    assert len(set(hashes)) == len(hashes)
    assert hash_of() == hash_of()
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in hashes)


def made(text: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(text, names)  # noqa: S102
    found: Callable[..., Any] = names["f"]
    return found


def test_functions_made_at_run_time_are_told_apart_by_their_code() -> None:
    texts = [
        "def f(d): return d.a",
        "def f(d): return d.b",
        "def f(d): return (lambda: d.a)()",
        "def f(d): return (lambda: d.b)()",
        "def f(d): return 1",
        "def f(d): return 2",
    ]
    assert len({hash_of(transform=made(text)) for text in texts}) == len(texts)
    assert hash_of(transform=made(texts[2])) == hash_of(transform=made(texts[2]))


ELSEWHERE = """
from whimbrel import Migration, migration

@migration(collection="c", filter={"a": {"$in": ["x", "y"]}}, reads=["a"])
def one(d):
    return {"$set": {"b": d["a"] in {"x", "y", "z"}}}

names = {}
exec("def f(d): return d['a'] in {'x', 'y', 'z'} and [i for i in (lambda: d)()]", names)
print(one.definition.code_hash, Migration(name="two", collection="c", transform=names["f"]).definition.code_hash)
"""


def test_the_hash_is_the_same_in_every_process(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.py"
    file.write_text(ELSEWHERE)
    hashes = [
        subprocess.run(
            [sys.executable, str(file)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].split())) == 2


def test_what_is_done_to_a_filter_later_changes_no_migration() -> None:
    inner = {"$gt": 1}
    filter_ = {"n": inner, "$or": [{"a": 1}]}
    it = Migration(name="m", collection="c", filter=filter_, update={"$set": {"b": 1}})
    inner["$gt"] = 5
    filter_["$or"].append({"c": 1})  # type: ignore[attr-defined]
    assert it.definition.filter == {"n": {"$gt": 1}, "$or": [{"a": 1}]}


def test_a_filter_that_bson_does_not_keep_is_refused() -> None:
    twice = RawBSONDocument(bson.encode({"a": 1})[:-1].replace(b"\x0c", b"\x13") + b"\x10a\0\2\0\0\0\0")
    for filter_ in (twice, {"$or": [twice]}):
        with pytest.raises(DefinitionInvalid, match="holds a field twice"):
            Migration(name="m", collection="c", filter=filter_, update={"$set": {"b": 1}})


OPTIONS = (
    "adopt", "batch_size", "claim", "collection", "concurrency", "database", "filter", "mark", "max_attempts", "name", "reads",
    "status_field", "timeout", "undo", "update", "version",
)  # fmt: skip


def unknown(option: str) -> dict[str, Any]:
    return {option: 1}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_near_miss_of_any_option_hints_at_it(option: str) -> None:
    head, *tail = option.split("_")
    slips = {
        f"{option}s", option.replace("_", "") + "_", option[:-2] + option[-1] + option[-2], option[0] + option[2:],
        option.title(), head + "".join(each.title() for each in tail) + ("x" if not tail else ""),
    } - {option}  # fmt: skip
    for slip in slips:
        with pytest.raises(DefinitionInvalid, match=f"unknown option '{slip}'.* Did you mean '{option}'"):
            Migration(**unknown(slip))
        with pytest.raises(DefinitionInvalid, match=f"Did you mean '{option}'"):
            migration(collection="c", **unknown(slip))(lambda it: it)


@pytest.mark.parametrize(
    ("option", "meant"),
    [("updates", "update"), ("query", "filter"), ("db", "database"), ("table", "collection"), ("retries", "max_attempts"),
     ("pipeline", "update"), ("function", "transform")],
)  # fmt: skip
def test_what_an_option_is_called_elsewhere_hints_at_it(option: str, meant: str) -> None:
    with pytest.raises(DefinitionInvalid, match=f"Did you mean '{meant}'"):
        Migration(name="m", collection="c", **unknown(option))


def test_what_is_like_no_option_is_told_them_all() -> None:
    with pytest.raises(DefinitionInvalid, match=r"The options are adopt, .*filter, .*update, version\."):
        Migration(name="m", collection="c", zzzzzz=1)
