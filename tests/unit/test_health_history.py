"""The history of the health in few points: what was bad stays visible; and the members that readings tell of."""

from datetime import UTC, datetime, timedelta

from whimbrel.domain.health.members import Member, members_of
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import SIGNALS
from whimbrel.engine.operating.health_history import MINUTES_15, thinned
from whimbrel.ports.health import HealthSample

END = datetime(2026, 11, 30, 12, tzinfo=UTC)


def sample(seconds: float, **values: float) -> HealthSample:
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return HealthSample(END - timedelta(seconds=seconds), 0.5 if seconds == 12 else 1.0, "slow" if seconds == 12 else "ok", named)  # fmt: skip


def test_each_point_is_the_worst_of_its_part() -> None:
    rows = [sample(25, member_lag=1.0), sample(12, member_lag=9.0, oplog_window=5.0), sample(11, member_lag=2.0, oplog_window=8.0), sample(0, member_lag=0.1)]  # fmt: skip
    found = thinned(rows, SIGNALS, span=MINUTES_15, points=90)
    assert [(row.values.get("member-lag"), row.share, row.level) for row in found] == [(1.0, 1.0, "ok"), (9.0, 0.5, "slow"), (0.1, 1.0, "ok")]  # fmt: skip
    assert found[1].values["oplog-window"] == 5.0, "of a signal whose small values are the bad ones"
    assert found[1].at == END - timedelta(seconds=11)


def test_there_are_never_more_points_than_were_asked_for() -> None:
    rows = [sample(seconds, member_lag=1.0) for seconds in range(2000, -1, -1)]
    assert len(thinned(rows, SIGNALS, span=MINUTES_15, points=90)) == 90
    assert thinned([], SIGNALS, span=MINUTES_15, points=90) == []


def test_members_by_what_was_read_of_them() -> None:
    readings = [
        Reading("new-primary", 0.0, "a:1"), Reading("member-lag", 0.4, "b:1"), Reading("member-silence", 1.5, "b:1"),
        Reading("member-lag", None, "c:1", absent="it lags 3,600 s on purpose"), Reading("member-silence", 99.0, "d:1"),
        Reading("members-down", 1.0, "d:1"), Reading("cache-used", 5.0, "a:1"),
    ]  # fmt: skip
    assert members_of(reversed(readings)) == members_of(readings) == (
        Member("a:1", "primary"), Member("b:1", "secondary", 0.4, 1.5), Member("c:1", "left out", why="it lags 3,600 s on purpose"),
        Member("d:1", "does not answer", None, 99.0),
    )  # fmt: skip
    assert members_of([Reading("new-primary", None, absent="this server is stand-alone")]) == ()
