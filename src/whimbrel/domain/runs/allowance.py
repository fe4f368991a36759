"""The share of its speed that a run may have now, and why: by the database's health, its windows, freezes, `nice`, and urgent runs. Pure.

What holds for all runs at a moment are `Circumstances`; the time in them is the ledger server's, as clocks of hosts differ.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import NAMED, SLOWER, STALE_SLOW, STALE_STOP, Verdict, stale_reason
from whimbrel.domain.runs.freezes import Freeze, in_force, shown, thaws_at
from whimbrel.domain.runs.time_zones import time_zone
from whimbrel.domain.runs.windows import Window, opens_at, share_at, windows_of

IN_HAND = 30.0  # seconds for which a batch is kept while its run waits; it is given back at once where that takes longer
LEAST_REST = 0.1  # of the cluster's share that runs keep beside urgent ones: an urgent run may have nothing to do for long
RunState = Literal["working", "slowed", "waiting"]
WINDOW, FREEZE, NICE, URGENT, RECOVERY, SAMPLER, LEDGER = (
    "window",
    "freeze",
    "nice",
    "urgent-run",
    "recovery",
    "sampler",
    "ledger",
)
FIRST_SEEN = (WINDOW, NICE, URGENT)  # since when these hold a run is when that was seen first
SMALL = 0.01
UNREAD = SignalState()


class Paced(Protocol):
    """What of a run decides its allowance."""

    @property
    def id(self) -> str: ...
    @property
    def windows(self) -> tuple[str, ...]: ...
    @property
    def nice(self) -> int: ...
    @property
    def urgent(self) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What holds for all runs. `verdict` None: nobody watches the database's health. `freezes` None: not known yet.

    `urgent`: a run of high priority that is at work, if there is one; `others`: whether runs of lower priority are.
    """

    now: datetime
    verdict: Verdict | None = None
    freezes: Sequence[Freeze] | None = ()
    urgent: str = ""
    others: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """One reason why a run has no more than a share of its speed. Times are seconds since the epoch.

    `until`: when it will be over, where that is known; `when`: the same for people, where the sentence does not say it.
    """

    signal: str
    level: Level
    share: float
    sentence: str
    since: float | None = None
    until: float | None = None
    when: str = ""
    value: float | None = None
    threshold: float | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Allowance:
    """`gives_back`: the run waits for so long, or nobody knows how long, that batches are not kept in hand."""

    share: float = 1.0
    holds: tuple[Hold, ...] = ()
    gives_back: bool = False

    @property
    def state(self) -> RunState:
        return "waiting" if self.share == 0.0 else "slowed" if self.share < 1.0 else "working"

    @property
    def news(self) -> tuple[object, ...]:
        """What must change to be worth a line of the log: not a number alone."""
        return (self.state, *sorted(f"{hold.signal} {hold.level} {hold.until}" for hold in self.holds))

    def continued(self, before: "Allowance") -> "Allowance":
        """Returns the allowance with the times since when the same reasons have held the run, as they were known before."""
        known = {(hold.signal, hold.level): hold.since for hold in before.holds if hold.signal in FIRST_SEEN}
        holds = [replace(hold, since=known.get((hold.signal, hold.level), hold.since)) for hold in self.holds]
        return replace(self, holds=tuple(holds))

    def explain(self) -> str:
        """Returns why the run goes slower or waits, in one sentence; empty where it does not."""
        if self.share >= 1.0:
            return ""
        deciding = [hold for hold in self.holds if hold.share <= self.share] or list(self.holds)
        first = deciding[0]
        part = f"{self.share:.0%}" if self.share >= SMALL else f"{self.share:.1%}"
        what = "Waits" if self.share == 0.0 else f"{SLOWER}{part} of its speed"
        if first.when:
            what += f" until {first.when}"
        elif first.signal not in (WINDOW, FREEZE, NICE) and first.since is not None:
            what += f" since {datetime.fromtimestamp(first.since, UTC):%H:%M} UTC"
        why = "; ".join(hold.sentence for hold in deciding[:NAMED]).rstrip(".")
        return f"{what}: {why}{'' if why.endswith('?') else '.'}"


FULL = Allowance()


def allowance(run: Paced, around: Circumstances) -> Allowance:
    """Returns what a run may have now: the least of what each reason leaves it."""
    holds = sorted(_holds(run, around), key=lambda hold: hold.share)
    share = min((hold.share for hold in holds), default=1.0)
    now = around.now.timestamp()
    return Allowance(
        share, tuple(holds), share == 0.0 and (_is_long(holds, now) or _has_been_long(around, now))
    )


def with_lanes(around: Circumstances, at_work: Iterable[Paced]) -> Circumstances:
    """Returns the circumstances with what is at work: only runs that are inside their windows need a share."""
    urgent, others = "", False
    for run in at_work:
        if share_at(windows_of(run.windows), around.now) > 0.0:
            urgent = urgent or (run.id if run.urgent else "")
            others = others or not run.urgent
    return replace(around, urgent=urgent, others=others)


def nicest_share(nice: int) -> float:
    """Returns the share of its speed that a run with this `nice` has at most."""
    return 1 / (1 + nice)


def _holds(run: Paced, around: Circumstances) -> Iterator[Hold]:
    yield from _frozen(around)
    yield from _outside(windows_of(run.windows), around.now)
    yield from _by_health(run, around)
    if run.nice:
        yield Hold(
            signal=NICE, level=Level.SLOW, share=nicest_share(run.nice), sentence=f"nice {run.nice}", since=around.now.timestamp()
        )  # fmt: skip


def _frozen(around: Circumstances) -> Iterator[Hold]:
    if around.freezes is None:
        sentence = "the ledger has not said yet whether anything is frozen"
        yield Hold(signal=LEDGER, level=Level.STOP, share=0.0, sentence=sentence)
        return
    freeze = in_force(around.freezes, around.now)
    if freeze is None:
        return
    ends = thaws_at(around.freezes, around.now)
    until = "somebody lifts it with `whimbrel unfreeze`" if ends is None else shown(ends)
    note = f": {freeze.note}" if freeze.note else ""
    yield Hold(
        signal=FREEZE, level=Level.STOP, share=0.0, sentence=f"frozen until {until}{note}",
        since=freeze.begins.timestamp(), until=None if ends is None else ends.timestamp(),
    )  # fmt: skip


def _outside(windows: Sequence[Window], now: datetime) -> Iterator[Hold]:
    share = share_at(windows, now)
    if share >= 1.0:
        return
    level = Level.STOP if share == 0.0 else Level.SLOW
    hold = Hold(
        signal=WINDOW, level=level, share=share, sentence="outside its windows", since=now.timestamp()
    )
    opening = opens_at(windows, now)
    if opening is not None:
        at, window = opening
        hold = replace(hold, until=at.timestamp(), when=_when(at, now, window.zone))
    yield hold


def _by_health(run: Paced, around: Circumstances) -> Iterator[Hold]:
    verdict = around.verdict
    if verdict is None or verdict.allowed >= 1.0:
        return
    whole = verdict.allowed
    share = lane_share(whole, urgent=run.urgent) if around.urgent and around.others else whole
    if share < 1.0:
        yield from _by_verdict(verdict, share if run.urgent else whole)
    if share < whole and not run.urgent:
        yield Hold(
            signal=URGENT, level=Level.SLOW, share=share, sentence=f"the urgent run {around.urgent} goes first while the database is not well",
            since=around.now.timestamp(),
        )  # fmt: skip


def lane_share(whole: float, *, urgent: bool) -> float:
    """Returns the share of urgent runs, or of others, where both are at work and have as many slots: urgent ones get theirs first.

    Together they have twice the cluster's share. Others keep a tenth of it.
    """
    others = max(LEAST_REST * whole, 2 * whole - 1)
    return min(1.0, 2 * whole - others) if urgent else others


def _by_verdict(verdict: Verdict, share: float) -> Iterator[Hold]:
    level = Level.STOP if share == 0.0 else Level.SLOW
    if verdict.age is not None and verdict.age >= STALE_SLOW:
        yield Hold(signal=SAMPLER, level=level, share=share, sentence=stale_reason(verdict.age))
        return
    for reason in verdict.reasons:
        state = verdict.signals.get(reason.signal, UNREAD)
        yield Hold(
            signal=reason.signal, level=reason.level, share=share, sentence=reason.sentence, since=reason.since,
            value=state.value, threshold=state.threshold, host=state.host,
        )  # fmt: skip
    if not verdict.reasons:
        sentence = "the database is well, and it gets faster"
        yield Hold(signal=RECOVERY, level=level, share=share, sentence=sentence, since=verdict.since)


def _is_long(holds: Iterable[Hold], now: float) -> bool:
    """Whether what stops a run is known to take long, or until somebody ends it."""
    return any(
        hold.share == 0.0
        and hold.signal in (WINDOW, FREEZE)
        and (hold.until is None or hold.until - now > IN_HAND)
        for hold in holds
    )


def _has_been_long(around: Circumstances, now: float) -> bool:
    """Whether the database's health has stopped all runs for long: it may be over at once, but what has taken long will not be missed soon."""
    verdict = around.verdict
    if verdict is None or verdict.allowed > 0.0:
        return False
    if verdict.age is not None and verdict.age >= STALE_STOP + IN_HAND:
        return True
    return verdict.waits_since is not None and now - verdict.waits_since > IN_HAND


def _when(at: datetime, now: datetime, zone: str) -> str:
    """Returns a time as a clock of the zone shows it, with its day where that is not today."""
    local, today = at.astimezone(time_zone(zone)), now.astimezone(time_zone(zone)).date()
    return f"{local:%H:%M} {zone}" if local.date() == today else f"{local:%a %Y-%m-%d %H:%M} {zone}"
