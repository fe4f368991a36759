"""Decides from a signal's readings, one after the other, which level it asks for. A level is entered and left with a delay, so that it does not flutter."""

from dataclasses import dataclass, replace

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import CLEAR, Level, Signal, Thresholds

NOT_REACHED = 30.0  # seconds after which a level is left whose threshold is no longer reached, however close the value stays to it
UNREAD_SLOW, UNREAD_STOP = 5.0, 15.0  # seconds for which a signal that was readable may not be


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalState:
    """A signal's level, and what it takes to decide the next one. Times are seconds since the epoch, by the sampler's clock.

    `slow_count`, `stop_count`: bad samples in a row. `good_since`: since when it has been good enough for a lower level; None: it is not.
    `below_since`: since when the threshold of its level has not been reached; None: it is.
    `read_at`: when a value was read last; None: never. `marked_at`, `marked`: while all runs wait for this signal, when its value was noted last, and that
    value; `not_ours`: it has not got better meanwhile (`domain.health.blame`). `usual`: what the value usually is, where the threshold goes by that.
    """

    level: Level = Level.UNKNOWN
    since: float = 0.0
    value: float | None = None
    threshold: float | None = None  # of the level, where it is slow or stop
    host: str = ""
    how: str = ""
    problem: str = ""
    slow_count: int = 0
    stop_count: int = 0
    good_since: float | None = None
    below_since: float | None = None
    read_at: float | None = None
    ignored_until: float | None = None  # a person overrides the signal until then
    marked_at: float | None = None
    marked: float | None = None
    not_ours: bool = False
    usual: float | None = None

    @property
    def asks(self) -> Level:
        """The level that counts: an overridden signal asks for nothing."""
        return Level.OK if self.ignored_until is not None else self.level

    @property
    def recovers(self) -> bool:
        """Whether it is good by now, and has only to stay so for a while."""
        return self.good_since is not None

    def ignoring(self, until: float | None) -> "SignalState":
        """Returns the state with the time until which a person overrides the signal."""
        return replace(self, ignored_until=until)


def next_state(
    signal: Signal, state: SignalState, reading: Reading | None, now: float, thresholds: Thresholds
) -> SignalState:
    """Returns the state after a sample. `reading`: None where the sample has nothing about the signal."""
    if reading is not None and reading.absent:
        return SignalState(since=now, how=reading.absent, ignored_until=state.ignored_until)
    if reading is None or reading.value is None:
        return _unread(state, reading, now)
    slow, stop = _thresholds(signal, reading, thresholds)
    slow_count = state.slow_count + 1 if reached(signal, reading.value, slow) else 0
    stop_count = state.stop_count + 1 if reached(signal, reading.value, stop) else 0
    asked = (
        Level.STOP
        if stop_count >= signal.stop_after
        else Level.SLOW
        if slow_count >= signal.slow_after
        else Level.OK
    )
    unread = bool(state.problem)
    current = Level.OK if state.level is Level.UNKNOWN or unread else state.level
    by_person = {Level.SLOW: thresholds.slow, Level.STOP: thresholds.stop}
    limit = {Level.SLOW: slow, Level.STOP: stop}.get(current)
    good_since, below_since = _lasting(signal, state, asked.rank < current.rank, reading.value, limit, now)
    # Somebody has changed the threshold: by the new one it may be good, and the old one counts no more.
    moves = {Level.SLOW: reading.slow, Level.STOP: reading.stop}.get(current) is not None
    changed = limit != state.threshold and not (moves and by_person.get(current) is None)
    left = changed or _is_left(signal, current, asked, limit, (good_since, below_since), now)
    level = asked if left else current
    return replace(
        state,
        level=level,
        since=state.since if level is state.level and not unread else now,
        value=reading.value,
        threshold={Level.SLOW: slow, Level.STOP: stop}.get(level),
        host=reading.host,
        how=reading.how,
        problem="",
        slow_count=slow_count,
        stop_count=stop_count,
        good_since=None if level is not current else good_since,
        below_since=None if level is not current else below_since,
        read_at=now,
        usual=reading.usual if by_person.get(level) is None else None,
    )


def _thresholds(
    signal: Signal, reading: Reading, thresholds: Thresholds
) -> tuple[float | None, float | None]:
    """Returns the thresholds of a reading. What a person has set is stricter or laxer on purpose: one that goes with the value must not undo it."""
    if reading.shown_only:
        return thresholds.slow, thresholds.stop
    slow, stop = thresholds.of(signal)
    return (
        reading.slow if reading.slow is not None and thresholds.slow is None else slow,
        reading.stop if reading.stop is not None and thresholds.stop is None else stop,
    )


def _lasting(
    signal: Signal, state: SignalState, better: bool, value: float, limit: float | None, now: float
) -> tuple[float | None, float | None]:
    """Returns since when the value has been good enough for a lower level, and since when it has not reached the threshold of this one."""
    if not better or limit is None:
        return None, None
    good = now if state.good_since is None else state.good_since
    below = now if state.below_since is None else state.below_since
    return good if _clear(signal, value, limit) else None, None if reached(signal, value, limit) else below


def _is_left(
    signal: Signal,
    current: Level,
    asked: Level,
    limit: float | None,
    since: tuple[float | None, float | None],
    now: float,
) -> bool:
    """Whether the level becomes the one that is asked for: a worse one at once, a better one after a while, or where there is no such threshold any more.

    The longer while is for values that can never be clear, such as four fifths of a cache that is best at that, or a ratio that can only just pass its limit.
    """
    if asked.rank >= current.rank or limit is None:
        return True
    holds = (signal.hold, max(NOT_REACHED, signal.hold))
    return any(begun is not None and now - begun >= hold for begun, hold in zip(since, holds, strict=True))


def reached(signal: Signal, value: float, threshold: float | None) -> bool:
    """Whether a value is as bad as a threshold, or worse."""
    if threshold is None:
        return False
    return value <= threshold if signal.low else value >= threshold


def _clear(signal: Signal, value: float, threshold: float) -> bool:
    return value > threshold / CLEAR if signal.low else value < threshold * CLEAR


def _unread(state: SignalState, reading: Reading | None, now: float) -> SignalState:
    """A signal that cannot be read. Where it could be before, that is bad by itself: it may hide anything."""
    problem = reading.problem if reading is not None else "nothing was read"
    host, how = (reading.host, reading.how) if reading is not None else (state.host, state.how)
    if state.read_at is None:
        return replace(state, level=Level.UNKNOWN, problem=problem, host=host, how=how, value=None)
    silent = now - state.read_at
    level = Level.STOP if silent >= UNREAD_STOP else Level.SLOW if silent >= UNREAD_SLOW else state.level
    if level.rank < state.level.rank:
        level = state.level
    return replace(
        state,
        level=level,
        since=state.since if level is state.level else now,
        value=None,
        threshold=None,
        host=host,
        how=how,
        problem=problem,
        slow_count=0,
        stop_count=0,
        good_since=None,
    )
