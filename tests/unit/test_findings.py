"""Findings, their forms, and which exceptions they become."""

import pytest
from bson import Int64, ObjectId

from whimbrel.domain.migrations.updates import changed_paths, overlaps, parents, touched
from whimbrel.domain.runs.preflight_findings import (
    CheckName,
    Finding,
    error,
    finding_object,
    finding_of,
    refuse,
    refuse_all,
    unknown,
    warning,
)
from whimbrel.errors import (
    CollectionUnsuitable,
    DefinitionInvalid,
    FilterRefused,
    WarningsRefused,
    WhimbrelError,
)


def test_a_finding_goes_to_json_and_back() -> None:
    found = warning(
        CheckName.INDEX, "Slow.", "Build it.", at=ObjectId("65a1b2c3d4e5f60718293a4b"), n=Int64(5)
    )
    assert finding_object(found) == {
        "check": "index", "level": "warning", "reason": "Slow.", "remedy": "Build it.",
        "detail": {"at": {"$oid": "65a1b2c3d4e5f60718293a4b"}, "n": 5},
    }  # fmt: skip
    assert finding_of(finding_object(found)) == found
    assert finding_of(finding_object(unknown(CheckName.DISK, "a", "b"))) == Finding(
        "disk", "unknown", "a", "b", None
    )


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (CheckName.FILTER, FilterRefused),
        (CheckName.UPDATE, DefinitionInvalid),
        (CheckName.ID, DefinitionInvalid),
        (CheckName.COLLECTION, CollectionUnsuitable),
        (CheckName.SHARD, CollectionUnsuitable),
    ],
)
def test_the_first_error_becomes_an_exception(check: CheckName, kind: type[WhimbrelError]) -> None:
    found = [warning(CheckName.DISK, "Little.", "Make room."), error(check, "It is so.", "Do that.")]
    with pytest.raises(kind, match=r"^It is so\. Do that\.$"):
        refuse(found)
    with pytest.raises(kind):
        refuse_all(found)


def test_strict_takes_warnings_and_what_is_unknown_for_errors() -> None:
    refuse([warning(CheckName.DISK, "Little.", "Make room.")])
    refuse_all([])
    for found in (
        warning(CheckName.DISK, "Little.", "Make room."),
        unknown(CheckName.DISK, "Little.", "Ask."),
    ):
        with pytest.raises(WarningsRefused, match=r"\[disk\] Little\."):
            refuse_all([found])


@pytest.mark.parametrize(
    ("update", "paths"),
    [
        ({"$set": {"a.b": 1, "c": 2}, "$inc": {"d": 1}, "$unset": {"e": ""}}, ["a.b", "c", "d", "e"]),
        ({"$rename": {"a": "b"}}, ["a", "b"]),
        ([{"$set": {"a": 1}}, {"$unset": ["b", "c.d"]}, {"$unset": "e"}], ["a", "b", "c.d", "e"]),
        ([{"$addFields": {"a.b": "$c"}}, {"$project": {"d": 0}}], ["a.b", "d"]),
        ([{"$project": {"d": 1}}], None),
        ([{"$project": {"d": "$e"}}], None),
        ([{"$set": {"a": 1}}, {"$replaceWith": "$b"}], None),
        ([{"$replaceRoot": {"newRoot": "$b"}}], None),
    ],
    ids=str,
)
def test_what_an_update_touches(update: object, paths: list[str] | None) -> None:
    found = changed_paths(update)  # type: ignore[arg-type]
    assert (None if found is None else list(found)) == paths
    tops = touched(update)  # type: ignore[arg-type]
    assert (None if tops is None else list(tops)) == (paths and [path[0] for path in paths])


def test_what_stands_above_the_paths_that_a_pipeline_sets() -> None:
    assert parents({"$set": {"a.b": 1}}) == frozenset()  # an operator refuses what is no document itself
    pipeline: list[dict[str, object]] = [
        {"$set": {"a.b.c": 1, "d": 2}},
        {"$unset": "e.f"},
        {"$addFields": {"g.h": 1}},
    ]
    assert parents(pipeline) == {"a", "a.b", "g"}


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("a", "a", True),
        ("a", "a.b", True),
        ("a.b", "a", True),
        ("a.b", "a.c", False),
        ("a", "ab", False),
        ("items.$[].price", "items.price", True),
        ("items.0", "items.price", True),
    ],
)
def test_paths_that_overlap(one: str, other: str, do: bool) -> None:
    assert overlaps(one, other) is do
