"""Builds the table of the database's health."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import RenderableType

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.health.own_times import NOBODY_ELSE, QUIET
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level, Signal
from whimbrel.domain.health.verdict import Verdict, measured
from whimbrel.ports.health import HealthSettings, all_signals

COLOURS = {Level.OK: "green", Level.SLOW: "yellow", Level.STOP: "red", Level.UNKNOWN: "dim"}
COLUMNS = ("signal", "level", "value", "usual", "slow", "stop", "host")


def health_lines(
    verdict: Verdict, settings: HealthSettings, own: Sequence[Signal] = ()
) -> Iterator[RenderableType]:
    """Yields what the verdict asks for, and the table of signals. `own`: the checks that this process has."""
    if verdict.age is None:
        yield Text(
            "Nobody samples the database's health now, as no process of Whimbrel is at work. This is one look, without what takes two."
        )
    else:
        yield Text(verdict.explain() or "Runs may go at their full speed.", "yellow" if verdict.allowed < 1.0 else "green")  # fmt: skip
    table = FactTable(COLUMNS, right=("value", "usual", "slow", "stop"), whole=("signal", "level"))
    for name, signal in all_signals(own, verdict.checks).items():
        state = verdict.signals.get(name, SignalState())
        slow, stop = settings.of(name).of(signal)
        table.add(
            name, _level(state), _shown(state.value, signal), _shown(state.usual, signal), _shown(slow, signal), _shown(stop, signal), state.host
        )  # fmt: skip
    yield table
    quiet = [name for name, state in verdict.signals.items() if QUIET in state.how]
    if quiet:
        yield Text(f"Only shown: {', '.join(quiet)}: {NOBODY_ELSE}.")
    for member in verdict.left_out:
        yield Text(f"Left out: {member.host}: {member.why}.")
    yield from _problems(verdict)


def _level(state: SignalState) -> Text:
    if state.ignored_until is not None:
        until = datetime.fromtimestamp(state.ignored_until, UTC)
        return Text(f"ignored until {until.astimezone():%H:%M}", "dim")
    return Text(str(state.level), COLOURS[state.level])


def _shown(value: float | None, signal: Signal) -> str:
    return "" if value is None else measured(value, signal.unit)


def _problems(verdict: Verdict) -> Iterator[RenderableType]:
    """Yields why signals are not read, or mean nothing here, each reason once."""
    names: dict[str, list[str]] = {}
    for name, state in verdict.signals.items():
        why = state.problem or (state.how if state.level is Level.UNKNOWN else "")
        if why:
            names.setdefault(why, []).append(name)
    for why, signals in names.items():
        yield Text(f"Not read: {', '.join(signals)}: {why}")
