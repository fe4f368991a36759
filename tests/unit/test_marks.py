"""How a document shows that it is done."""

import pytest

from whimbrel.domain.migrations.marks import (
    CHANGED,
    CLAIMED,
    FAILED,
    SKIPPED,
    UNCHANGED,
    Filter,
    Marker,
    Status,
    mark_of,
    stamp,
)


def test_a_stamp_names_the_batch_and_the_outcome() -> None:
    outcomes = (CHANGED, UNCHANGED, SKIPPED, FAILED, CLAIMED)
    assert [stamp("r.7", each) for each in outcomes] == ["r.7", "r.7/u", "r.7/s", "r.7/f", "r.7/c"]


def test_each_strategy_has_its_mark() -> None:
    assert mark_of("marker", "price_v2", "status") == Marker("price_v2")
    assert mark_of("status", "price_v2", "state") == Status("state")
    assert mark_of("filter", "price_v2", "status") == Filter()


def test_h20_versions_of_a_migration_have_marks_of_their_own() -> None:
    assert Marker("a_v1").path == "_whimbrel.a_v1"
    assert Marker("a_v1").unmarked("pending") == {"_whimbrel.a_v1": {"$exists": False}}
    assert Marker("a_v2").fields("r.1") == {"_whimbrel.a_v2": "r.1"}


@pytest.mark.parametrize(
    ("phase", "status"),
    [("pending", "pending"), ("processing", "processing"), ("failed", "failed"), ("sweep", "pending")],
)
def test_h22_the_status_clause_belongs_to_the_phase(phase: str, status: str) -> None:
    assert Status("state").unmarked(phase) == {"state": status}


def test_h21_a_document_with_a_failure_row_may_still_have_any_status_but_success() -> None:
    assert Status("state").unmarked("failed", retry=True) == {
        "state": {"$in": ["failed", "pending", "processing"]}
    }


def test_a_failure_shows_in_the_status_alone() -> None:
    assert Status("state").failed("r.1/f") == {"state": "failed", "processedBy": "r.1/f"}
    assert Marker("a_v1").failed("r.1/f") == Filter().failed("r.1/f") == {}


def test_the_mark_filter_writes_nothing() -> None:
    mark = Filter()
    assert (mark.path, mark.fields("r.1"), mark.expression("r.1"), mark.reserved) == (
        None,
        {},
        {},
        frozenset(),
    )
