"""What follows from a failure."""

import pytest

from whimbrel.domain.failures import Kind, Trouble, backoff, is_dead, signature
from whimbrel.domain.raw import Key


def trouble(message: str, kind: Kind = Kind.CODE, type_: str = "KeyError") -> Trouble:
    return Trouble(key=Key.of(1), kind=kind, type=type_, message=message)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no price 5", "no price -17.25"),
        ("no ObjectId('650000000000000000000001')", "no ObjectId('650000000000000000000abc')"),
        ("no 650000000000000000000001", "no 65000000000000000000aaaa"),
        ("no 3b241101-e2bb-4255-8caf-4136c566a962", "no 3b241101-e2bb-4255-8caf-4136c566a963"),
        ("'a' is no number", "'something else' is no number"),
        ('key "a"', 'key "b c"'),
        ("broken\nline 1", "broken\nline 2"),
    ],
)
def test_failures_of_one_cause_have_one_signature(one: str, other: str) -> None:
    assert signature(trouble(one)) == signature(trouble(other))


def test_failures_of_other_causes_have_other_signatures() -> None:
    found = {
        signature(trouble("no price")),
        signature(trouble("no name")),
        signature(trouble("no price", type_="ValueError")),
        signature(trouble("no price", kind=Kind.DATA)),
    }
    assert len(found) == 4


def test_a_signature_is_short() -> None:
    assert len(signature(trouble("word " * 10_000))) < 400


def test_the_pause_doubles_up_to_an_hour() -> None:
    assert [backoff(attempt, 5.0, 0) for attempt in (1, 2, 3, 4)] == [5.0, 10.0, 20.0, 40.0]
    assert backoff(50, 5.0, 0) == 3600.0
    assert backoff(1, 4.0, 1) == 5.0
    assert backoff(100, 5.0, 1) == 4500.0


def test_what_mongodb_refuses_is_dead_at_once_and_all_else_when_its_tries_are_spent() -> None:
    assert is_dead(trouble("", Kind.DATA), 1, 4)
    for kind in set(Kind) - {Kind.DATA}:
        assert not is_dead(trouble("", kind), 3, 4)
        assert is_dead(trouble("", kind), 4, 4)
