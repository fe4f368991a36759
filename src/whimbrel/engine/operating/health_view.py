"""The database's health as JSON has it, for the REST API and `--json`."""

from typing import Any

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import SIGNALS, Level, Reads, Thresholds
from whimbrel.domain.health.verdict import Verdict
from whimbrel.engine.operating.run_view import iso_seconds
from whimbrel.ports.health import HealthSettings


def health_object(verdict: Verdict, settings: HealthSettings) -> dict[str, Any]:
    """Returns the verdict as JSON has it: the same as `GET /health/signals`, without the history."""
    return {
        "state": str(verdict.level), "share": round(verdict.allowed, 4), "since": iso_seconds(verdict.since),
        "age": None if verdict.age is None else round(verdict.age, 3), "sampledBy": verdict.by or None,
        "reasons": [
            {"signal": reason.signal, "level": str(reason.level), "since": iso_seconds(reason.since), "said": reason.sentence} for reason in verdict.reasons
        ],
        "signals": [_signal_object(name, verdict.signals.get(name, SignalState()), settings) for name in SIGNALS],
    }  # fmt: skip


def _signal_object(name: str, state: SignalState, settings: HealthSettings) -> dict[str, Any]:
    signal = SIGNALS[name]
    slow, stop = settings.thresholds.get(name, Thresholds()).of(signal)
    readable = state.level is not Level.UNKNOWN
    return {
        "name": name, "title": signal.title, "unit": signal.unit, "level": str(state.level), "value": state.value, "slow": slow, "stop": stop,
        "lowIsBad": signal.low, "host": state.host or None, "how": state.how or None, "problem": state.problem or None,
        "since": iso_seconds(state.since) if readable else None, "ignoredUntil": iso_seconds(state.ignored_until),
        "grant": str(signal.needs) if signal.needs is not Reads.NOTHING else None,
    }  # fmt: skip
