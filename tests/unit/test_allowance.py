"""What a run may have of its speed, and why: each reason, and several at once."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.allowance import (
    FULL,
    Allowance,
    Circumstances,
    allowance,
    lane_share,
    with_lanes,
)
from whimbrel.domain.runs.freezes import Freeze
from whimbrel.engine.executing.gate import Gate
from whimbrel.errors import Transient
from whimbrel.ports import FreezeLook

NOW = datetime(2026, 11, 30, 14, 2, 30, tzinfo=UTC)
LAG = Reason("member-lag", Level.SLOW, 1796047320.0, "replication lag 2.4 s > 2 s on host2")
SLOW = Verdict(
    share=0.25, level=Level.SLOW, since=1796047320.0, reasons=(LAG,), age=0.5,
    signals={"member-lag": SignalState(level=Level.SLOW, value=2.4, threshold=2.0, host="host2")},
)  # fmt: skip


@dataclass(frozen=True)
class It:
    """A run as far as it matters."""

    id: str = "one"
    windows: tuple[str, ...] = ()
    nice: int = 0
    urgent: bool = False


def found(run: It = It(), **around: object) -> Allowance:
    return allowance(run, Circumstances(**({"now": NOW} | around)))  # type: ignore[arg-type]


def freeze(hours: float | None, note: str = "") -> list[Freeze]:
    ends = None if hours is None else NOW + timedelta(hours=hours)
    return [Freeze(id="f", begins=NOW - timedelta(hours=1), ends=ends, note=note)]


def test_nothing_holds_a_run() -> None:
    assert found() == FULL
    assert found(It(windows=("14:00-15:00 UTC",)), verdict=Verdict(age=1.0)) == FULL
    assert (FULL.state, FULL.explain()) == ("working", "")


def test_the_databases_health() -> None:
    slowed = found(verdict=SLOW)
    assert (slowed.state, slowed.share) == ("slowed", 0.25)
    assert (
        slowed.explain() == "Goes at 25% of its speed since 14:02 UTC: replication lag 2.4 s > 2 s on host2."
    )
    (hold,) = slowed.holds
    assert (hold.signal, hold.level, hold.value, hold.threshold, hold.host, hold.since) == (
        "member-lag", Level.SLOW, 2.4, 2.0, "host2", 1796047320.0
    )  # fmt: skip
    stopped = found(verdict=replace(SLOW, share=0.0))
    assert (stopped.state, stopped.gives_back) == ("waiting", False), (
        "it may be over at once: batches stay in hand"
    )
    assert stopped.explain().startswith("Waits since 14:02 UTC: replication lag")
    since = NOW.timestamp()
    given_back = {
        seconds: found(verdict=replace(SLOW, share=0.0, waits_since=since - seconds)).gives_back
        for seconds in (0, 30, 31)
    }
    assert given_back == {0: False, 30: False, 31: True}, "it has lasted for half a minute"
    assert not found(verdict=replace(SLOW, waits_since=since - 99)).gives_back, "it goes on, slower"
    nobody = {age: found(verdict=replace(SLOW, age=age)).gives_back for age in (20.0, 44.0, 45.0)}
    assert nobody == {20.0: False, 44.0: False, 45.0: True}, (
        "nobody has sampled for half a minute more than stops it"
    )
    assert found(verdict=replace(SLOW, age=20.0)).explain().startswith("Waits: nobody has sampled")
    again = found(verdict=replace(SLOW, reasons=()))
    assert (
        again.explain()
        == "Goes at 25% of its speed since 14:02 UTC: the database is well, and it gets faster."
    )


def test_windows_with_and_without_a_share_outside() -> None:
    waits = found(It(windows=("22:00-06:00 Europe/Berlin",)))
    assert (waits.state, waits.gives_back) == ("waiting", True)
    assert waits.explain() == "Waits until 22:00 Europe/Berlin: outside its windows."
    assert waits.holds[0].until == datetime(2026, 11, 30, 21, tzinfo=UTC).timestamp()
    assert found(It(windows=("Fri 22:00-06:00 UTC",))).explain() == (
        "Waits until Fri 2026-12-04 22:00 UTC: outside its windows."
    )
    slower = found(It(windows=("22:00-06:00 Europe/Berlin share=0.2",)))
    assert (slower.state, slower.share, slower.gives_back) == ("slowed", 0.2, False)
    assert slower.explain() == "Goes at 20% of its speed until 22:00 Europe/Berlin: outside its windows."


def test_batches_stay_in_hand_only_for_a_short_wait() -> None:
    soon = found(It(windows=("14:03-15:00 UTC",)))
    assert (soon.state, soon.gives_back) == ("waiting", False)
    assert found(It(windows=("14:04-15:00 UTC",))).gives_back
    assert not found(freezes=freeze(0.005)).gives_back
    assert found(freezes=freeze(1)).gives_back
    assert found(freezes=freeze(None)).gives_back


def test_freezes() -> None:
    assert found(freezes=freeze(16, "the primary is being moved.")).explain() == (
        "Waits: frozen until 2026-12-01 06:02 UTC: the primary is being moved."
    )
    lifted_by_hand = found(freezes=freeze(None))
    assert lifted_by_hand.explain() == "Waits: frozen until somebody lifts it with `whimbrel unfreeze`."
    assert lifted_by_hand.holds[0].until is None
    unknown = found(freezes=None)
    assert (unknown.share, unknown.gives_back) == (0.0, False), "it fails closed"


@pytest.mark.parametrize(("nice", "share"), [(0, 1.0), (1, 0.5), (3, 0.25), (9, 0.1), (100, 1 / 101)])
def test_nice_is_an_upper_bound(nice: int, share: float) -> None:
    assert found(It(nice=nice)).share == pytest.approx(share)
    assert found(It(nice=nice), verdict=SLOW).share == pytest.approx(min(share, 0.25))


def test_a_nice_run_says_so() -> None:
    assert found(It(nice=1)).explain() == "Goes at 50% of its speed: nice 1."
    assert found(It(nice=100)).explain() == "Goes at 1.0% of its speed: nice 100."


def test_all_reasons_are_kept_and_the_strictest_is_said() -> None:
    held = found(It(windows=("22:00-06:00 UTC share=0.2",), nice=1), verdict=SLOW, freezes=freeze(1, "moved"))
    assert (held.share, [hold.signal for hold in held.holds]) == (
        0.0,
        ["freeze", "window", "member-lag", "nice"],
    )
    assert held.explain() == "Waits: frozen until 2026-11-30 15:02 UTC: moved."


def test_since_when_is_kept_while_the_same_holds_it() -> None:
    run = It(windows=("22:00-06:00 UTC",), nice=1)
    first = found(run)
    later = found(run, now=NOW + timedelta(hours=1)).continued(first)
    assert [hold.since for hold in later.holds] == [NOW.timestamp()] * 2
    assert later.news == first.news
    assert found(It(nice=1)).news != first.news
    numbers = replace(
        SLOW, share=0.5, reasons=(replace(LAG, sentence="replication lag 2.6 s > 2 s on host2"),)
    )
    assert found(verdict=numbers).news == found(verdict=SLOW).news, "numbers alone are no news"
    assert found(verdict=replace(SLOW, share=0.0)).news != found(verdict=SLOW).news


# Urgent runs


@pytest.mark.parametrize(
    ("whole", "urgent", "others"),
    [
        (1.0, 1.0, 1.0),
        (0.75, 1.0, 0.5),
        (0.5, 0.95, 0.05),
        (0.25, 0.475, 0.025),
        (0.05, 0.095, 0.005),
        (0.0, 0.0, 0.0),
    ],
)
def test_urgent_runs_have_their_share_first_and_others_the_rest(
    whole: float, urgent: float, others: float
) -> None:
    assert lane_share(whole, urgent=True) == pytest.approx(urgent)
    assert lane_share(whole, urgent=False) == pytest.approx(others)
    assert urgent + others <= 2 * whole + 1e-9, "together no more than before"


def test_only_beside_one_another() -> None:
    urgent, other = It("urgent", urgent=True), It("other")
    around = Circumstances(now=NOW, verdict=SLOW)
    both = with_lanes(around, [other, urgent])
    assert (both.urgent, both.others) == ("urgent", True)
    assert allowance(urgent, both).share == pytest.approx(0.475)
    held = allowance(other, both)
    assert held.share == pytest.approx(0.025)
    assert "the urgent run urgent goes first" in held.explain()
    assert [hold.signal for hold in held.holds] == ["urgent-run", "member-lag"]
    for alone in ([urgent], [other]):
        assert allowance(alone[0], with_lanes(around, alone)).share == 0.25
    asleep = replace(urgent, windows=("22:00-06:00 UTC",))
    assert allowance(other, with_lanes(around, [other, asleep])).share == 0.25, "it needs no share now"
    well = with_lanes(Circumstances(now=NOW, verdict=Verdict(age=0.1)), [other, urgent])
    assert allowance(other, well) == FULL


# The gate of a process


def test_the_ledger_servers_clock_decides_and_not_this_hosts() -> None:
    run = It(windows=("22:00-06:00 Europe/Berlin",))
    for moment, share in (("2026-10-25T02:30", 1.0), ("2026-10-25T05:30", 0.0), ("2026-10-24T20:00", 1.0)):
        server = FreezeLook(datetime.fromisoformat(moment).replace(tzinfo=UTC))
        assert Gate(None, lambda look=server: look).share_of(run) == share  # type: ignore[misc]


def test_a_gate_that_has_never_read_the_freezes_is_closed() -> None:
    def unreadable() -> FreezeLook:
        raise Transient("no answer")

    held = Gate(None, unreadable).allowance_of(It())
    assert (held.share, held.gives_back, held.holds[0].signal) == (0.0, False, "ledger")


def test_a_gate_knows_what_is_at_work_by_its_newest_terms() -> None:
    urgent, other = It("urgent", urgent=True), It("other")
    gate = Gate(lambda: Verdict(share=0.25, age=0.0))
    gate.admit([other])
    assert gate.share_of(other) == 0.25
    gate.admit([urgent, other])
    assert gate.share_of(urgent) == pytest.approx(0.475)
    assert gate.share_of(other) == pytest.approx(0.025)
    gate.admit([It("other", nice=99)])
    assert gate.share_of(other) == pytest.approx(0.01), "not by those with which its batch was claimed"
