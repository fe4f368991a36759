"""The database's health as JSON has it, for the REST API and `--json`."""

from collections.abc import Sequence
from typing import Any

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level, Reads, Signal
from whimbrel.domain.health.verdict import Verdict
from whimbrel.engine.operating.run_view import iso_seconds
from whimbrel.ports.health import HealthSettings, all_signals


def health_object(verdict: Verdict, settings: HealthSettings, own: Sequence[Signal] = ()) -> dict[str, Any]:
    """Returns the verdict as JSON has it: the same as `GET /health/signals`, without the history. `own`: the checks that this process has."""
    return {
        "state": str(verdict.level), "share": round(verdict.allowed, 4), "since": iso_seconds(verdict.since),
        "age": None if verdict.age is None else round(verdict.age, 3), "sampledBy": verdict.by or None,
        "reasons": [
            {"signal": reason.signal, "level": str(reason.level), "since": iso_seconds(reason.since), "said": reason.sentence} for reason in verdict.reasons
        ],
        "advice": verdict.advice or None,
        "leftOut": [{"host": member.host, "why": member.why} for member in verdict.left_out],
        "members": [
            {"host": member.host, "standing": member.standing, "lag": member.lag, "silence": member.silence, "why": member.why or None} for member in verdict.members
        ],
        "signals": [
            _signal_object(signal, verdict.signals.get(name, SignalState()), settings) for name, signal in all_signals(own, verdict.checks).items()
        ],
    }  # fmt: skip


def _signal_object(signal: Signal, state: SignalState, settings: HealthSettings) -> dict[str, Any]:
    slow, stop = settings.of(signal.name).of(signal)
    readable = state.level is not Level.UNKNOWN
    return {
        "name": signal.name, "title": signal.title, "unit": signal.unit, "level": str(state.level), "value": state.value, "slow": slow, "stop": stop,
        "lowIsBad": signal.low, "host": state.host or None, "how": state.how or None, "problem": state.problem or None,
        "since": iso_seconds(state.since) if readable else None, "ignoredUntil": iso_seconds(state.ignored_until),
        "notCausedByRuns": state.not_ours,
        "grant": str(signal.needs) if signal.needs is not Reads.NOTHING else None,
    }  # fmt: skip
