"""The verdict on the database's health, as all slots obey it and people read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from whimbrel.domain.health.blame import NOT_OURS
from whimbrel.domain.health.members import Member
from whimbrel.domain.health.share import RESTART
from whimbrel.domain.health.signal_states import SignalState, reached
from whimbrel.domain.health.signals import SIGNALS, Level, Signal

STALE_SLOW, STALE_STOP = 5.0, 15.0  # seconds after which a verdict counts as slow, and as stop
SLOWER = "Goes at "  # how the message of a run begins that has a part of its speed
NAMED = 3  # reasons in a message


@dataclass(frozen=True, slots=True)
class Reason:
    """Why runs are slower, or wait. `since`: seconds since the epoch."""

    signal: str
    level: Level
    since: float
    sentence: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A member of the replica set that does not count, and why."""

    host: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the sampler has decided, once a second. `age`: seconds since then, by the server's clock; None where there has never been one.

    `since`: since when the share has not been whole, seconds since the epoch; None: it is whole. `waits_since`: since when it has been 0.
    `advice`: what a person may do, where runs have waited for long. `checks`: the user's own signals, beside those of the table.
    """

    share: float = 1.0
    level: Level = Level.OK
    since: float | None = None
    reasons: tuple[Reason, ...] = ()
    signals: Mapping[str, SignalState] = field(default_factory=dict)
    at: datetime | None = None
    age: float | None = None
    by: str = ""  # the process that has sampled
    waits_since: float | None = None
    share_before: float = 1.0  # the one before a stop
    advice: str = ""
    left_out: tuple[LeftOut, ...] = ()
    checks: tuple[Signal, ...] = ()
    members: tuple[Member, ...] = ()  # of the replica set

    def aged(self, age: float) -> "Verdict":
        """Returns the verdict as it is at this age, in seconds."""
        return replace(self, age=age)

    def explain(self) -> str:
        """Returns why runs go slower or wait, for their message; empty where they do not."""
        if self.age is not None and self.age >= STALE_SLOW:
            why = stale_reason(self.age)
            return (
                f"Waits: {why}" if self.allowed == 0.0 else f"{SLOWER}{self.allowed:.0%} of its speed: {why}"
            )
        if self.share >= 1.0:
            return ""
        since = "" if self.since is None else f" since {datetime.fromtimestamp(self.since, UTC):%H:%M} UTC"
        why = (
            "; ".join(reason.sentence for reason in self.reasons[:NAMED])
            or "the database is well, and it gets faster"
        )
        return (
            f"Waits{since}: {why}. {self.advice}".rstrip()
            if self.share == 0.0
            else f"{SLOWER}{self.share:.0%} of its speed{since}: {why}."
        )

    def usual_of(self, signal: str) -> float | None:
        """Returns what a signal's value usually is, where its thresholds go by that."""
        state = self.signals.get(signal)
        return state.usual if state is not None else None

    @property
    def allowed(self) -> float:
        """The share that may be used now: that of a verdict which nobody renews falls to nothing."""
        if self.age is None or self.age < STALE_SLOW:
            return self.share
        return 0.0 if self.age >= STALE_STOP else min(self.share, RESTART)


def worst_level(states: Iterable[SignalState]) -> Level:
    """Returns the worst level that any signal asks for."""
    return max([Level.OK, *(state.asks for state in states)], key=lambda level: level.rank)


def recovering(states: Mapping[str, SignalState]) -> bool:
    """Whether all slow signals are good by now, and have only to stay so for a while."""
    return all(state.recovers for state in states.values() if state.asks is Level.SLOW)


def floor_of(states: Mapping[str, SignalState], signals: Mapping[str, Signal] = SIGNALS) -> float:
    """Returns the share that the slow signals leave at least: the smallest floor of them."""
    return min(
        (signals[name].floor for name, state in states.items() if state.asks is Level.SLOW), default=0.0
    )


def reasons_of(
    states: Mapping[str, SignalState], signals: Mapping[str, Signal] = SIGNALS
) -> tuple[Reason, ...]:
    """Returns why the level is not good, the worst reason first, and of equal ones the oldest. What keeps several from being read is told once."""
    bad = [(name, state) for name, state in states.items() if state.asks in (Level.SLOW, Level.STOP)]
    bad.sort(key=lambda named: (-named[1].level.rank, named[1].since))
    told, reasons = set[tuple[str, str]](), list[Reason]()
    for name, state in bad:
        sentence = sentence_of(signals[name], state)
        if state.value is None and (state.host, state.problem) in told:
            sentence = f"{_unread(name)} either"
        told.add((state.host, state.problem))
        reasons.append(Reason(name, state.level, state.since, sentence))
    return tuple(reasons)


def sentence_of(signal: Signal, state: SignalState) -> str:
    """Returns what is bad about a signal, with its value, threshold and host."""
    where = f" on {state.host}" if state.host else ""
    if state.value is None:
        return f"{_unread(signal.name)}{where}: {state.problem}"
    foreign = f" ({NOT_OURS})" if state.not_ours else ""
    if state.threshold is None or signal.state:
        return f"{signal.title}{where}{foreign}"
    limit = measured(state.threshold, signal.unit)
    if state.usual:
        limit = f"{state.threshold / state.usual:.3g} x its usual {measured(state.usual, signal.unit)}"
    value = measured(state.value, signal.unit)
    if not reached(signal, state.value, state.threshold):
        return f"{signal.title} {value}{where}{foreign}, and for some seconds it must stay {'above' if signal.low else 'below'} {limit}"
    return f"{signal.title} {value} {'<' if signal.low else '>'} {limit}{where}{foreign}"


def _unread(signal: str) -> str:
    return f"the signal {signal} cannot be read"


def measured(value: float, unit: str) -> str:
    """Returns a value with its unit, in at most a few digits."""
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004  three digits
    return f"{digits}{unit}" if unit in ("%", "/s") else f"{digits} {unit}".rstrip()


def stale_reason(age: float) -> str:
    """Returns why a verdict that nobody renews holds runs back."""
    return f"nobody has sampled the database's health for {age:,.0f} s: is WHIMBREL_HEALTH off for some processes, or none alive that may sample?"
