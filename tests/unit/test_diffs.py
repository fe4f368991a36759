"""Differences of documents: complete, exact, and told field by field."""

from typing import Any

import bson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bson_values import (
    BAD_TEXT,
    EACH_TYPE,
    FIELDS,
    VALUES,
    array,
    documents,
    embedded,
    field,
    int32,
    int64,
    string,
)
from whimbrel.domain.bson.diffs import Edit, applied, difference, dotted, readable

THOROUGH = settings(max_examples=100, deadline=None)


@THOROUGH
@given(old=FIELDS, new=FIELDS)
def test_the_edits_make_the_new_document_of_the_old_one(old: list[bytes], new: list[bytes]) -> None:
    before, after = documents(int32(1), old), documents(int32(1), new)
    assert applied(before, difference(before, after)) == after


@st.composite
def relatives(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two documents that have much in common: fields taken away, changed, moved, at two levels."""
    shared = draw(FIELDS)
    inner = draw(FIELDS)
    tail = draw(st.lists(VALUES, max_size=4))

    def one() -> bytes:
        chosen = [each for each in shared if draw(st.booleans())]
        nested = embedded(*draw(st.permutations([each for each in inner if draw(st.booleans())])))
        many = array(*tail[: draw(st.integers(0, 4))], nested)
        return documents(
            int32(1), draw(st.permutations([*chosen, field("nested", nested), field("many", many)]))
        )

    return one(), one()


@THOROUGH
@given(pair=relatives())
def test_documents_that_are_much_alike(pair: tuple[bytes, bytes]) -> None:
    before, after = pair
    edits = difference(before, after)
    assert applied(before, edits) == after
    assert (edits == []) == (before == after)


@THOROUGH
@given(fields=st.lists(FIELDS, min_size=4, max_size=4))
def test_names_that_are_there_twice(fields: list[list[bytes]]) -> None:
    before, after = documents(int32(1), fields[0] + fields[1]), documents(int32(1), fields[2] + fields[3])
    assert applied(before, difference(before, after)) == after


def of(fields: dict[str, Any]) -> bytes:
    return bson.encode({"_id": 1, **fields})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("changed", "a")]),
        ({"a": 1}, {"b": 1}, [("removed", "a"), ("added", "b")]),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}}, [("changed", "a.y")]),
        ({"a": [1, 2, 3]}, {"a": [1, 5]}, [("changed", "a.1"), ("removed", "a.2")]),
        ({"a": [1]}, {"a": [1, {"b": 1}]}, [("added", "a.1")]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [("changed", "a.0.b")]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, [("order", "")]),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, [("order", "a")]),
        ({"a": {"x": 1}}, {"a": [1]}, [("changed", "a")]),
        ({"a.b": 1, "": 2}, {"a.b": 2, "": 3}, [("changed", "'a.b'"), ("changed", "''")]),
    ],
    ids=str,
)
def test_what_is_told(old: dict[str, Any], new: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert [(edit.kind, dotted(edit.path)) for edit in difference(of(old), of(new))] == told


def test_equal_numbers_of_other_types_differ() -> None:
    [edit] = difference(
        documents(int32(1), [field("n", int32(5))]), documents(int32(1), [field("n", int64(5))])
    )
    assert edit == Edit("changed", ("n",), int32(5), int64(5))


@pytest.mark.parametrize("name", EACH_TYPE)
def test_each_type_can_be_read(name: str) -> None:
    readable(EACH_TYPE[name])


def test_text_that_is_none_is_shown_as_bytes() -> None:
    assert readable(BAD_TEXT).endswith("\\xff\\xfe\0")
    assert readable(string("ü")) == "ü"
