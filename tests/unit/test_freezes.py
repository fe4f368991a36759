"""Freezes: what is in force, until when, what is refused, and what is forgotten."""

from datetime import UTC, datetime, timedelta

import pytest

from whimbrel.domain.runs.freezes import (
    MOST,
    Freeze,
    FreezeRefused,
    FreezeUnknown,
    in_force,
    thaws_at,
    with_added,
    with_lifted,
)

NOW = datetime(2026, 12, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def freeze(name: str, begins: float, ends: float | None, **options: str) -> Freeze:
    """A freeze by hours from now."""
    return Freeze(
        id=name, begins=NOW + begins * HOUR, ends=None if ends is None else NOW + ends * HOUR, **options
    )


def test_what_is_in_force_and_until_when() -> None:
    assert in_force([], NOW) is None
    past, now, next_, later = freeze("a", -9, -8), freeze("b", -1, 2), freeze("c", 2, 5), freeze("d", 9, None)
    every = [past, now, next_, later]
    assert in_force(every, NOW) == now
    assert thaws_at(every, NOW) == NOW + 5 * HOUR, "one follows another"
    assert in_force(every, NOW + 5 * HOUR) is None
    assert in_force(every, NOW + 9 * HOUR) == later
    assert thaws_at(every, NOW + 9 * HOUR) is None, "until somebody lifts it"
    assert in_force([now, freeze("e", 0, None)], NOW) == freeze("e", 0, None)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (freeze("x", -3, -1), "is over already"),
        (freeze("x", -3, 0), "is over already"),
        (freeze("x", 3, 2), "would end before it begins"),
        (freeze("x", 3, 3), "would end before it begins"),
        (Freeze(id="x", begins=NOW, ends=datetime(9999, 1, 1, tzinfo=UTC)), "leave `until` out"),
        (Freeze(id="x", begins=datetime(9999, 1, 1, tzinfo=UTC)), "would never begin"),
    ],
)
def test_a_freeze_that_cannot_be_is_refused_and_nothing_is_half_done(bad: Freeze, why: str) -> None:
    with pytest.raises(FreezeRefused, match=why):
        with_added([], [freeze("good", 1, 2), bad], NOW)


def test_freezes_are_kept_once_and_not_for_ever() -> None:
    kept = with_added(
        [freeze("old", -24 * 9, -24 * 8), freeze("ended", -9, -8)], [freeze("a", 1, 2, note="n")], NOW
    )
    assert [each.id for each in kept] == ["ended", "a"]
    assert with_added(kept, [freeze("b", 1, 2, note="n")], NOW) == kept, "the same again"
    full = with_added(kept, [freeze(f"f{number}", 1, 3 + number) for number in range(MOST - 1)], NOW)
    assert len(full) == MOST
    assert "ended" not in [each.id for each in full], "ended ones make room first"
    with pytest.raises(FreezeRefused, match="200 are kept at most"):
        with_added(full, [freeze("more", 5, 6)], NOW)


def test_lifting_ends_what_is_in_force_or_what_is_named() -> None:
    now, later = freeze("now", -1, None), freeze("later", 5, 6)
    after, lifted = with_lifted([now, later], None, NOW, "me")
    assert [each.id for each in lifted] == ["now"]
    assert in_force(after, NOW) is None
    assert in_force(after, NOW + 5.5 * HOUR) == later
    after, lifted = with_lifted(after, ["later"], NOW, "me")
    assert [each.lifted_by for each in after] == ["me", "me"]
    assert in_force(after, NOW + 5.5 * HOUR) is None
    with pytest.raises(FreezeUnknown, match="There is no freeze 'later'"):
        with_lifted(after, ["later"], NOW, "me")
    assert with_lifted(after, None, NOW, "me")[1] == ()
