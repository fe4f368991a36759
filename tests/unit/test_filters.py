"""Filters that are refused, and what a filter on the status field means."""

import re
from typing import Any

import pytest

from tests.names import named
from whimbrel.domain.migrations.filters import check_filter, parse_filter, split_status
from whimbrel.errors import FilterRefused


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"a": 1}
    for _ in range(levels - 1):
        found = {"$and": found}
    return found


@pytest.mark.parametrize(
    ("filter_", "place"),
    [
        ({"$where": "1"}, "uses $where at '$where', which is refused: it runs JavaScript"),
        ({"$or": [{"a": 1}, {"$and": [{"$where": "1"}]}]}, "at '$or[1].$and[0].$where'"),
        ({"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}}, "at '$expr.$function'"),
        ({"$expr": {"$gt": ["$a", {"$accumulator": {}}]}}, "at '$expr.$gt[1].$accumulator'"),
        ({"$text": {"$search": "x"}}, "a text search cannot be combined with"),
        ({"a": {"$not": {"$near": [1, 2]}}}, "at 'a.$not.$near'"),
        ({"a": {"$nearSphere": [1, 2]}}, "it sorts by distance"),
        ({"$expr": {"$lt": [{"$rand": {}}, 0.5]}}, "selects other documents each time"),
        ({"$sampleRate": 0.5}, "selects other documents each time"),
        (
            {"$expr": {"$lt": ["$at", "$$NOW"]}},
            "uses $$NOW at '$expr.$lt[1]', which is refused: it is the time",
        ),
        (
            {"$or": [{"$expr": {"$gt": [{"$year": "$$NOW"}, 2020]}}]},
            "uses $$NOW at '$or[0].$expr.$gt[0].$year'",
        ),
        ({"$expr": {"$let": {"vars": {"t": "$$NOW.x"}, "in": True}}}, "at '$expr.$let.vars.t'"),
        ({"$and": [{"$nor": [{"$expr": "$$NOW"}]}]}, "at '$and[0].$nor[0].$expr'"),
        ({"$expr": {"$lt": ["$at", "$$CLUSTER_TIME"]}}, "uses $$CLUSTER_TIME"),
        ({"$expr": {"$in": ["a", "$$USER_ROLES.role"]}}, "it depends on who asks"),
        ({"$expr": {"$eq": ["$a", "$$SOMETHING_NEW"]}}, "not known to be the same"),
        ({"$expr": {"$gt": [{"$meta": "randVal"}, 0.5]}}, "uses $meta at '$expr.$gt[0].$meta'"),
        (deep(30), "nested more than 20 levels deep"),
        ({"a": {"b": [[[{"c": {5: 1}}]]]}}, "field name that is no text at 'a.b[0][0][0].c': 5"),
        ({"a\0b": 1}, "NUL character in a field name"),
        ({"a": object()}, "a value that MongoDB cannot store, at 'a'"),
        ({"a": {"$in": [1, 2**63]}}, "a value that MongoDB cannot store, at 'a.$in[1]'"),
        ({"x": 1, "$or": [{"a": {"b": "\ud800"}}]}, "a value that MongoDB cannot store, at '$or[0].a.b'"),
        ({"x": {"\ud800": 1}}, "a value that MongoDB cannot store, at 'x'"),
        ({"a" * 5000: [1] * 20 + [{"$where": 1}]}, "refused: it runs JavaScript"),
    ],
    ids=lambda value: named(value)[:40],
)
def test_a_refused_filter_is_told_its_place_and_reason(filter_: dict[Any, Any], place: str) -> None:
    with pytest.raises(FilterRefused, match=re.escape(place)):
        check_filter(filter_)


@pytest.mark.parametrize(
    "filter_",
    [
        {},
        {
            "a": None,
            "b": {"$in": [1, re.compile("^x")]},
            "$or": [{"c": {"$exists": True}}, {"$expr": {"$gt": ["$a", "$b"]}}],
        },
        {"$jsonSchema": {"required": ["a"]}},
        {"a": "$$NOW", "b": {"$in": ["$$NOW", "$$CLUSTER_TIME"]}},  # texts
        {"$expr": {"$eq": ["$a", {"$literal": "$$NOW"}]}},
        {"$expr": {"$eq": ["$$ROOT.a", {"$ifNull": ["$$CURRENT.b", "$$REMOVE"]}]}},
        {"$expr": {"$let": {"vars": {"now": "$a"}, "in": {"$gt": ["$$now", 1]}}}},
        {"where": "text", "a.$id": 1},
        deep(20),
    ],
    ids=lambda value: named(value)[:40],
)
def test_other_filters_are_taken(filter_: dict[str, Any]) -> None:
    check_filter(filter_)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not Extended JSON at line 1, column 1"),
        ('{"a": 1,\n  b: 2}', "not Extended JSON at line 2, column 3"),
        ("{'a': 1}", "not Extended JSON at line 1, column 2"),
        ('{"a": 1} x', "line 1, column 10"),
        ("[]", "The filter must be a document such as"),
        ("5", "The filter must be a document such as"),
        ("null", "The filter must be a document such as"),
        ('{"_id": {"$oid": "xyz"}}', "not Extended JSON"),
        ('{"at": {"$date": "yesterday"}}', "not Extended JSON"),
        ('{"n": {"$numberLong": [5]}}', "not Extended JSON"),
        ('{"n": {"$numberDecimal": "x"}}', "not Extended JSON"),
        ('{"n": 9223372036854775808}', "a value that MongoDB cannot store"),
        (
            '{"$or": [{"a": 1}], "$or": [{"b": 1}]}',
            "the field '$or' twice in one document. Join the two with $and",
        ),
        ('{"a": {"$gt": 1, "$gt": 2}}', "the field '$gt' twice"),
        ('{"$where": "1"}', "uses $where"),
        ("[" * 100_000, "nested more than 20 levels deep"),
        ('{"a": ' * 1000 + "1" + "}" * 1000, "nested more than 20 levels deep"),
    ],
    ids=lambda value: named(value)[:40],
)
def test_a_filter_that_cannot_be_read_is_told_where(text: str, sentence: str) -> None:
    with pytest.raises(FilterRefused, match=re.escape(sentence)):
        parse_filter(text)


def test_a_filter_keeps_the_types_of_extended_json() -> None:
    found = parse_filter(
        '{"n": {"$numberLong": "5"}, "at": {"$date": "2020-01-01T00:00:00Z"}, "x": {"$in": [1, 1.5]}}'
    )
    assert type(found["n"]).__name__ == "Int64"
    assert found["at"].year == 2020
    assert found["x"] == {"$in": [1, 1.5]}


@pytest.mark.parametrize(
    ("filter_", "rest", "phase"),
    [
        ({}, {}, None),
        ({"a": 1}, {"a": 1}, None),
        ({"status": "pending"}, {}, "pending"),
        ({"status": "processing", "a": 1}, {"a": 1}, "processing"),
        ({"status": {"$eq": "failed"}}, {}, "failed"),
    ],
)
def test_h22_a_clause_on_the_status_is_a_phase(
    filter_: dict[str, Any], rest: dict[str, Any], phase: str | None
) -> None:
    assert split_status(filter_, "status") == (rest, phase)


@pytest.mark.parametrize(
    ("filter_", "sentence"),
    [
        ({"status": "success"}, "'status' = 'success'"),
        ({"status": None}, "'status' = None"),
        ({"status": ["pending"]}, "'status' = ['pending']"),
        ({"status": {"$in": ["pending"]}}, "it can be 'pending', 'processing' or 'failed'"),
        ({"status": {"$ne": "success"}}, "it can be 'pending', 'processing' or 'failed'"),
        (
            {"$or": [{"status": "pending"}, {"a": 1}]},
            "names the status field 'status' inside another condition",
        ),
        ({"$and": [{"$nor": [{"status": {"$exists": True}}]}]}, "inside another condition"),
        ({"$expr": {"$eq": ["$status", "pending"]}}, "inside another condition"),
    ],
)
def test_h22_what_no_phase_means_is_refused(filter_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FilterRefused, match=re.escape(sentence)):
        split_status(filter_, "status")
