"""The sampler: once a second it reads the signals, decides the share that runs may have, and stores the verdict.

One process in the cluster does it, by lease. Another one that takes over goes on from the stored verdict. A verdict that is not renewed
holds all slots back by itself (`Verdict.allowed`): whatever happens to the sampler, runs do not go on unwatched.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence

import structlog

from whimbrel.domain.health.blame import advice, blamed
from whimbrel.domain.health.members import members_of
from whimbrel.domain.health.own_times import OwnTimes
from whimbrel.domain.health.readings import Reading, worst_readings
from whimbrel.domain.health.share import Share, next_share
from whimbrel.domain.health.signal_states import SignalState, next_state
from whimbrel.domain.health.signals import SIGNALS, Level, Signal
from whimbrel.domain.health.throttled import throttled_seconds
from whimbrel.domain.health.verdict import (
    STALE_STOP,
    LeftOut,
    Reason,
    Verdict,
    floor_of,
    reasons_of,
    worst_level,
)
from whimbrel.engine.operating.checks_apart import Apart, answers, unbrokered
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.ports import Store, Watching
from whimbrel.ports.health import HealthReader, HealthSettings, all_signals

log = structlog.get_logger("whimbrel.health")

EVERY = 1.0  # seconds between two samples
IDLE_EVERY = 4.0  # the same while no run is at work: a verdict must not be old when one begins
ROLE = "health"
ROLE_SECONDS = (
    3.0  # another process samples so soon after the last sign of this one: before its verdict counts as old
)
ROLE_WITHIN = 1.0  # seconds that asking for the role may take
MINUTE = 60.0


class Sampler:
    """One process's candidate for the role of sampler. `apart`: the signals that are read elsewhere than in MongoDB."""

    def __init__(self, store: Store, reader: HealthReader, *, name: str, apart: Sequence[Apart] = ()) -> None:
        self._store, self._reader, self._name = store, reader, name
        self._apart = tuple(apart)
        self._own = tuple(each.signal for each in apart if each.signal.name not in SIGNALS)
        self._signals = all_signals(self._own)
        self._records = store.ledger.health
        self._asked = float("-inf")  # when the role was asked for, where it was given
        self._sampled = float("-inf")
        self._states: dict[str, SignalState] | None = None  # None: another process had the role
        self._share = Share()
        self._level = Level.OK
        self._since: float | None = None
        self._waits_since: float | None = None
        self._times = OwnTimes()
        self._minute = MinuteHistory(self._signals)
        self.latest = Verdict()  # that this process decided

    def round(self) -> None:
        """Takes a sample as `tick` does; while no run is at work only now and then, as each sample is a write."""
        self._translated(rested=IDLE_EVERY)

    def tick(self) -> None:
        """Takes one sample, where this process has the role. Raises Transient, whatever is wrong.

        A sampler that cannot work must not end its process: its verdict gets old, and that holds runs back, and says so.
        """
        self._translated(rested=0.0)

    def _translated(self, *, rested: float) -> None:
        try:
            self._sample(rested)
        except Transient:
            raise
        except WhimbrelError as error:
            raise Transient(f"The database's health was not sampled: {error}") from error

    def _sample(self, rested: float) -> None:
        """Takes a sample. `rested`: seconds since the last one, where no run is at work."""
        if not self._has_role():
            self._states = None
            return
        at_work = self._store.ledger.runs.at_work()
        if not at_work and time.monotonic() - self._sampled < rested:
            return
        self._sampled = time.monotonic()
        began = time.perf_counter()
        before = self._records.verdict()
        elapsed = (time.perf_counter() - began) * 1000
        now = self._now(before)
        if self._states is None:
            self._take_over(before, now)
        self._times.read(elapsed, at_rest=not at_work or self._share.value == 0.0)
        throttled = throttled_seconds(before) if at_work else {}
        self._keep(self._judge(now, self._records.settings(), {run.ns for run in at_work}), throttled)

    def _now(self, before: Verdict) -> float:
        """Returns the time by the server's clock, which levels go by."""
        return before.at.timestamp() + (before.age or 0.0) if before.at is not None else time.time()

    def _has_role(self) -> bool:
        now = time.monotonic()
        if now - self._asked < ROLE_SECONDS / 2:
            return True
        try:
            has_role = self._store.ledger.leases.lead(ROLE, self._name, ROLE_SECONDS, within=ROLE_WITHIN)
        except Transient:
            has_role = self._states is not None  # without a majority nobody else can say so either
        if not has_role:
            self._asked = float("-inf")
            return False
        self._asked = now
        return True

    def _take_over(self, before: Verdict, now: float) -> None:
        """Goes on from what another sampler stored, unless that is long ago."""
        self._states, self._share, self._since, self._waits_since = {}, Share(), None, None
        self._times = OwnTimes()
        if before.age is not None and before.age < STALE_STOP:
            self._states = dict(before.signals)
            self._share, self._since = Share(before.share, before.share_before, now), before.since
            self._level, self._waits_since = before.level, before.waits_since

    def _judge(self, now: float, settings: HealthSettings, namespaces: set[str]) -> Verdict:
        slots = self._store.ledger.leases.slots(MINUTE / 10)
        apart = self._looks()
        readings = self._reader.read(own_slots=slots, namespaces=namespaces)
        host = next((reading.host for reading in readings if reading.host), "")
        worst = worst_readings([*apart, *readings, *self._times.readings(host)], self._signals)
        states = {
            signal.name: self._next_state(signal, worst.get(signal.name), now, settings)
            for signal in self._signals.values()
        }
        level = worst_level(states.values())
        self._share = next_share(self._share, level, now, floor_of(states, self._signals))
        self._since = None if self._share.value >= 1.0 else self._since if self._since is not None else now
        waits = self._share.value == 0.0
        self._waits_since = (self._waits_since or now) if waits else None
        self._states = {
            name: blamed(self._signals[name], state, now, waits=waits) for name, state in states.items()
        }
        reasons = reasons_of(self._states, self._signals)
        verdict = Verdict(
            share=self._share.value, level=level, since=self._since, reasons=reasons, signals=self._states, by=self._name, waits_since=self._waits_since, share_before=self._share.before,
            advice=self._advice(reasons, now), left_out=left_out(readings), checks=self._own, members=members_of(readings),
        )  # fmt: skip
        if level is not self._level:
            log.info("health", level=str(level), share=verdict.share, reasons=[reason.sentence for reason in verdict.reasons])  # fmt: skip
        if verdict.left_out != self.latest.left_out:
            log.info(
                "members left out", members=[f"{member.host}: {member.why}" for member in verdict.left_out]
            )
        self._level = level
        return verdict

    def _looks(self) -> list[Reading]:
        """Returns what is read elsewhere, and begins to read it anew while MongoDB is asked."""
        found = [each.look() for each in self._apart]
        if not any(reading.signal == "broker-alarm" for reading in found):
            found.append(unbrokered())
        return found

    def _advice(self, reasons: Sequence[Reason], now: float) -> str:
        if self._waits_since is None or not reasons:
            return ""
        return advice(reasons[0].signal, now - self._waits_since)

    def _next_state(
        self, signal: Signal, reading: Reading | None, now: float, settings: HealthSettings
    ) -> SignalState:
        known = (self._states or {}).get(signal.name, SignalState(since=now))
        until = settings.ignored.get(signal.name)
        ignored = until.timestamp() if until is not None and until.timestamp() > now else None
        return next_state(signal, known, reading, now, settings.of(signal.name)).ignoring(ignored)

    def _keep(self, verdict: Verdict, throttled: Mapping[str, float]) -> None:
        self.latest, minute = verdict, self._minute.add(time.time(), verdict)
        began = time.perf_counter()
        try:
            self._records.keep(verdict, minute, throttled)
        finally:
            self._times.writes.append((time.perf_counter() - began) * 1000)


class MinuteHistory:
    """Gathers the seconds of a minute into one row: the smallest share, and the worst value of each signal."""

    def __init__(self, signals: Mapping[str, Signal] = SIGNALS) -> None:
        self._signals = signals
        self._minute: int | None = None
        self._share, self._level = 1.0, Level.OK
        self._values: dict[str, float] = {}

    def add(self, now: float, verdict: Verdict) -> Mapping[str, object] | None:
        """Adds a second. Returns the row of the minute before, where this second is the first of another one."""
        minute, row = int(now // MINUTE), None
        if self._minute is not None and minute != self._minute:
            row = {"share": self._share, "level": str(self._level), "values": self._values}
            self._share, self._level, self._values = 1.0, Level.OK, {}
        self._minute = minute
        if verdict.share <= self._share:
            self._share, self._level = verdict.share, verdict.level
        for name, state in verdict.signals.items():
            if state.value is not None:
                known = self._values.get(name, state.value)
                self._values[name] = (
                    min(known, state.value) if self._signals[name].low else max(known, state.value)
                )
        return row


def left_out(readings: Sequence[Reading]) -> tuple[LeftOut, ...]:
    """Returns the members that do not count, each once."""
    why = {reading.host: reading.absent for reading in readings if reading.absent and reading.host}
    return tuple(LeftOut(host, reason) for host, reason in sorted(why.items()))


def sample_once(store: Store) -> Verdict:
    """Reads the signals now, for a person to see, where nobody samples. Writes nothing, so that no run obeys it."""
    watching, now = store.watching or Watching(), time.time()
    with contextlib.closing(store.health_reader()) as reader:
        readings = [*answers(watching), *reader.read(own_slots=0, namespaces=())]
    if not watching.brokered:
        readings.append(unbrokered())
    signals = all_signals(watching.signals)
    worst, settings = worst_readings(readings, signals), store.ledger.health.settings()
    states = {
        name: next_state(signal, SignalState(since=now), worst.get(name), now, settings.of(name))
        for name, signal in signals.items()
    }
    return Verdict(
        signals=states, left_out=left_out(readings), checks=watching.signals, members=members_of(readings)
    )
