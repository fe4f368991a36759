"""What follows from a failure, and what failures of one cause have in common."""

import pytest

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.causes import VARIANTS, WITHOUT_PLACE, cause
from whimbrel.domain.failures.failure import (
    FailedDocument,
    FailureKind,
    FailurePlace,
    FailureState,
    backoff,
    is_dead,
)
from whimbrel.domain.text.safe_text import place_of_exception
from whimbrel.errors import CursorInvalid


def trouble(
    message: str, kind: FailureKind = FailureKind.CODE, type_: str = "KeyError", place: str = ""
) -> FailedDocument:
    return FailedDocument(key=Key.of(1), kind=kind, type=type_, message=message, place=place)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no price 5", "no price -17.25"),
        ("took 1e-05 s", "took 3 s"),
        ("no ObjectId('650000000000000000000001')", "no ObjectId('650000000000000000000abc')"),
        ("no 650000000000000000000001", "no 65000000000000000000aaaa"),
        ("no 3b241101-e2bb-4255-8caf-4136c566a962", "no 3b241101-e2bb-4255-8caf-4136c566a963"),
        ("at 0x7f1a2b <object at 0x7f>", "at 0x11 <object at 0x1>"),
        ("checksum d41d8cd98f00b204", "checksum 00b204e9800998ec"),
        ("'a' is no number", "'something else' is no number"),
        ("'O'Brien' can't be split", "'Smith' can't be split"),
        ('key "a"', 'key "b c"'),
        ('dup key: { email: "a@b.c" }', "dup key: { email: null }"),
        ("not in [1, 2, [3]]", "not in []"),
        ("{'a': {'b': 1}} is none", "{} is none"),
        ("broken\nline 1", "broken\nline 2"),
    ],
)
def test_failures_of_one_cause_have_one_signature(one: str, other: str) -> None:
    assert cause(trouble(one)) == cause(trouble(other))


def test_failures_of_other_causes_have_other_signatures() -> None:
    found = {
        cause(trouble("no price")).id,
        cause(trouble("no name")).id,
        cause(trouble("can't split it's name")).id,
        cause(trouble("can't split that's name")).id,
        cause(trouble("no price", type_="ValueError")).id,
        cause(trouble("no price", kind=FailureKind.DATA)).id,
        cause(trouble("no price", place="a.py:1 in f")).id,
        cause(trouble("no price", place="a.py:2 in f")).id,
    }
    assert len(found) == 8


def test_a_signature_is_short() -> None:
    assert len(cause(trouble("word " * 10_000)).signature) < 600
    assert VARIANTS < WITHOUT_PLACE


def raises_deep(levels: int) -> None:
    if levels:
        raises_deep(levels - 1)
    int("no number")


def test_the_place_is_the_authors_innermost_frame_however_deep_libraries_go_below_it() -> None:
    def decode() -> None:
        import json  # noqa: PLC0415  only its frames are wanted

        json.loads("{")

    for act, named in ((decode, "decode"), (lambda: raises_deep(300), "raises_deep")):
        with pytest.raises(ValueError, match=r"Expecting|invalid literal") as caught:
            act()
        file, _, function = place_of_exception(caught.value).partition(" in ")
        assert (file.partition(":")[0], function) == ("test_failures.py", named)
    assert place_of_exception(ValueError()) == ""


@pytest.mark.parametrize("key", [1, "a", {"b": 2}, None])
def test_a_place_in_a_list_comes_back_from_its_cursor(key: object) -> None:
    there = FailurePlace(FailureState.OPEN, "0a1b2c3d", Key.of(key))
    assert FailurePlace.of(there.cursor) == there


@pytest.mark.parametrize("cursor", ["", "x", "é", "AAAA", "BQAAAAA=", "0-0-0-0a1b2c3d", "/" * 3000])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        FailurePlace.of(cursor)
    with pytest.raises(CursorInvalid):
        FailurePlace.of(FailurePlace(FailureState.PASSED, "0a1b2c3d", Key.of(1)).cursor)


def test_the_pause_doubles_up_to_an_hour() -> None:
    assert [backoff(attempt, 5.0, 0) for attempt in (1, 2, 3, 4)] == [5.0, 10.0, 20.0, 40.0]
    assert backoff(50, 5.0, 0) == 3600.0
    assert backoff(1, 4.0, 1) == 5.0
    assert backoff(100, 5.0, 1) == 4500.0


def test_what_mongodb_refuses_is_dead_at_once_and_all_else_when_its_tries_are_spent() -> None:
    assert is_dead(trouble("", FailureKind.DATA), 1, 4)
    for kind in set(FailureKind) - {FailureKind.DATA}:
        assert not is_dead(trouble("", kind), 3, 4)
        assert is_dead(trouble("", kind), 4, 4)
