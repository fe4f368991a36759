"""What the pages of decisions show and send: values as texts, small pictures, and the request that a form stands for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import Int64, ObjectId

from whimbrel import Migration
from whimbrel.api.routes.starting import Start
from whimbrel.dashboard.pages.start import body_of
from whimbrel.dashboard.recently import Recently
from whimbrel.dashboard.shown_values import one_line, shown
from whimbrel.dashboard.small_multiples import picture
from whimbrel.domain.bson.document_ids import canonical

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
STATUS = Migration(name="by-status", collection="a", mark="status", update=[{"$set": {"x": 1}}]).definition
MARKER = Migration(name="by-marker", collection="a", update=[{"$set": {"x": 1}}]).definition
EMPTY = dict.fromkeys(
    (
        "migration", "filters", "windows", "stages", "undo", "follow", "approve", "exclusive", "strict", "force", "maxDocsPerSecond", "batchSize",
        "priority", "nice", "holdSeconds", "maxFailures", "maxFailureRate", "maxNewCause",
    ), "",
) | {"phase": "pending"}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"), (5.0, "5.0"), (Int64(5), "NumberLong(5)"), (None, "null"), (True, "true"), ("<b>", '"<b>"'), ("\x1b[31m", '"\\u001b[31m"'),
        (ObjectId("665f1f77bcf86cd799439011"), 'ObjectId("665f1f77bcf86cd799439011")'), (datetime(2026, 1, 2, tzinfo=UTC), 'ISODate("2026-01-02T00:00:00.000Z")'),
        (bson.Decimal128("1.10"), 'NumberDecimal("1.10")'), ({}, "{}"), ([], "[]"),
        ({"a b": [1, {"c": "d"}]}, '{\n  "a b": [\n    1,\n    {\n      c: "d"\n    }\n  ]\n}'), ({"$numberInt": 5}, '{\n  "$numberInt": 5\n}'),
    ],
)  # fmt: skip
def test_values_look_as_in_the_shell(value: Any, text: str) -> None:
    assert shown(canonical(value)).text == text


def test_a_value_in_a_line_is_the_same_without_its_lines() -> None:
    value = {"a  b": [1, {"c": "d  e\nf"}], "id": ObjectId("665f1f77bcf86cd799439011"), "none": [], "é": "<"}
    assert one_line(canonical(value)) == (
        '{"a  b": [1, {c: "d  e\\nf"}], id: ObjectId("665f1f77bcf86cd799439011"), none: [], é: "<"}'
    )
    assert one_line("x" * 1000).endswith("x… (402 more characters)")
    assert len(one_line("x" * 1000)) == 600 + len("… (402 more characters)")


def test_long_values_are_cut_and_say_so() -> None:
    found = shown("x" * 5000)
    assert (len(found.text), found.more) == (2000, 3002)


def test_a_picture_breaks_where_nothing_was_measured() -> None:
    second = timedelta(seconds=1)
    values = [(NOW - number * second, float(number)) for number in (59, 58, 20, 19, 18)]
    found = picture(values, until=NOW, span=60 * second, step=second, slow=40.0, stop=10_000.0)
    assert [len(line.split()) for line in found.lines] == [2, 3]
    assert found.lines[0].split()[0].startswith("1.7,")
    assert (found.smallest, found.largest, found.stop) == (18.0, 59.0, None), (
        "a threshold far above is left out"
    )
    assert found.slow is not None
    heights = [float(point.split(",")[1]) for line in found.lines for point in line.split()]
    assert heights[0] < found.slow < heights[-1], "above the threshold is higher in the picture"
    assert picture([], until=NOW, span=second, step=second).empty


def test_the_form_is_the_body_of_a_request() -> None:
    asked = EMPTY | {"filters": '{"z": 1, "a": {"y": 1, "x": 2}}', "maxFailures": "off", "maxFailureRate": "0.05", "batchSize": "50"}  # fmt: skip
    asked |= {"windows": "22:00-06:00 UTC\n\n", "stages": "100, 100%", "undo": "1"}
    body = body_of(asked, MARKER)
    assert body == {
        "migration": "by-marker", "filters": {"z": 1, "a": {"y": 1, "x": 2}}, "batchSize": 50, "maxFailures": "off", "maxFailureRate": 0.05,
        "windows": ["22:00-06:00 UTC"], "stages": ["100", "100%"], "undo": True,
    }  # fmt: skip
    assert list(body["filters"]["a"]) == ["y", "x"], "the order of a filter matters to MongoDB"
    Start.model_validate(body)


@pytest.mark.parametrize(
    ("phase", "filters", "expected"),
    [
        ("pending", "", {"status": "pending"}), ("all", "", {}), ("failed", '{"n": 1}', {"status": "failed", "n": 1}), ("failed", '{"status": "processing"}', {"status": "processing"}),
    ],
)  # fmt: skip
def test_which_documents_of_a_migration_with_statuses(phase: str, filters: str, expected: Any) -> None:
    assert body_of(EMPTY | {"phase": phase, "filters": filters}, STATUS)["filters"] == expected


def test_without_statuses_there_are_no_phases() -> None:
    assert body_of(EMPTY, MARKER) == {"migration": "by-marker"}


@pytest.mark.parametrize("filters", ["{", "[]", "5"])
def test_what_is_no_filter_is_said(filters: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        body_of(EMPTY | {"filters": filters}, MARKER)


def test_tabs_share_what_is_worked_out() -> None:
    class Deployment:
        pass

    one, other, made = Deployment(), Deployment(), iter(range(10))
    recent: Recently[int] = Recently(60.0)
    assert [recent.of(each, lambda: next(made)) for each in (one, one, other, one)] == [0, 0, 1, 0]
    never: Recently[int] = Recently(0.0)
    assert [never.of(one, lambda: next(made)) for _ in range(2)] == [2, 3]
