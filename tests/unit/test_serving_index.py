"""Which index yields eligible documents in `_id` order."""

import re
from typing import Any

import pytest
from bson import Regex

from whimbrel.domain.runs.batches import Range
from whimbrel.mongo.ranges import equalities, serving_index, within

ID: dict[str, Any] = {"_id_": {"key": [("_id", 1)]}}
SERVING: dict[str, Any] = {"key": [("status", 1), ("_id", 1)]}
PENDING = {"$and": [{"status": "pending", "price": {"$gt": 5}}, {"n": {"$exists": False}}]}


def test_an_index_on_equalities_followed_by_the_id_serves() -> None:
    assert serving_index({**ID, "s": SERVING}, PENDING) == ("s", {"status": "pending"})


def test_the_index_that_serves_most_equalities_is_taken() -> None:
    longer = {"key": [("kind", -1), ("status", 1), ("_id", 1)]}
    query = {"status": "pending", "kind": 5}
    assert serving_index({**ID, "s": SERVING, "l": longer}, query) == ("l", {"kind": 5, "status": "pending"})
    assert serving_index({**ID, "s": SERVING, "l": longer}, PENDING) == ("s", {"status": "pending"})


@pytest.mark.parametrize(
    "index",
    [
        {**SERVING, "sparse": True},
        {**SERVING, "hidden": True},
        {**SERVING, "partialFilterExpression": {"a": 1}},
        {**SERVING, "collation": {"locale": "en"}},
        {"key": [("status", 1), ("_id", -1)]},
        {"key": [("status", 1), ("other", 1)]},
        {"key": [("status", 1)]},
        {"key": [("status", 1), ("other", 1), ("_id", 1)]},
        {"key": [("_id", 1), ("status", 1)]},
        {"key": [("status", "hashed"), ("_id", 1)]},
        {"key": [("status", "2dsphere"), ("_id", 1)]},
    ],
    ids=str,
)
def test_an_index_that_leaves_documents_out_or_has_another_order_does_not_serve(
    index: dict[str, Any],
) -> None:
    assert serving_index({**ID, "i": index}, PENDING) == ({"_id": 1}, {})


def test_in_a_collection_with_a_collation_an_index_of_the_same_serves() -> None:
    english, swedish = {"locale": "en", "strength": 2}, {"locale": "sv"}
    indexes = {"_id_": {"key": [("_id", 1)], "collation": english}}
    same, other = {**SERVING, "collation": english}, {**SERVING, "collation": swedish}
    assert serving_index({**indexes, "s": same}, PENDING) == ("s", {"status": "pending"})
    for index in (other, SERVING):
        assert serving_index({**indexes, "s": index}, PENDING) == ({"_id": 1}, {})


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"status": None},
        {"status": {"$in": ["pending"]}},
        {"status": {"x": 1}},
        {"status": ["pending"]},
        {"status": Regex("^p")},
        {"status": re.compile("^p")},
        {"$or": [{"status": "pending"}, {"status": "failed"}]},
        {"$nor": [{"status": "pending"}]},
        {"$and": [{"$or": [{"status": "pending"}]}]},
    ],
    ids=str,
)
def test_only_plain_equality_with_a_scalar_is_served(query: dict[str, Any]) -> None:
    assert equalities(query) == {}
    assert serving_index({**ID, "s": SERVING}, query) == ({"_id": 1}, {})


def test_conditions_are_joined_without_loss() -> None:
    everything = Range(None, None)
    assert within({}, everything) == {}
    assert within({"$expr": 1}, everything) == {"$expr": 1}
    assert within({}, everything, {"a": 1}) == {"$expr": {"a": 1}}
    assert within({"$expr": 1}, everything, {"a": 1}, {"b": 1}) == {
        "$and": [{"$expr": 1}, {"$expr": {"a": 1}}, {"$expr": {"b": 1}}]
    }
