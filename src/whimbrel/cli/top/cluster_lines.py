"""The lines on the cluster: what the database's health and freezes leave of the speed, and who is at work."""

from rich.text import Text as RichText

from whimbrel.cli.output.health_tables import COLOURS
from whimbrel.cli.output.run_rows import failures_of, one_line
from whimbrel.cli.output.terminal_text import Text
from whimbrel.cli.top.run_pages import Wanted
from whimbrel.cli.top.snapshot import Snapshot
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level, Signal, Thresholds
from whimbrel.domain.health.verdict import measured
from whimbrel.domain.runs.freezes import in_force, shown, thaws_at
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.text.printable import counted
from whimbrel.ports.health import all_signals

AT_WORK = (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING)


def health_line(snapshot: Snapshot) -> RichText:
    """Returns the share that runs have, the worst signal, and whether anything is frozen."""
    return Text("  ").join([_share(snapshot), _worst(snapshot), _frozen(snapshot)])


def reason_line(snapshot: Snapshot) -> RichText:
    """Returns why runs go slower or wait; empty where they do not."""
    return Text(one_line(snapshot.verdict.explain()) if snapshot.sampled else "", "yellow")


def work_line(snapshot: Snapshot) -> RichText:
    """Returns how many workers, slots and runs there are, and how many failures in the runs of this page."""
    workers, views = snapshot.workers, snapshot.page.views
    slots, in_hand = sum(worker.slots for worker in workers), sum(len(worker.in_hand) for worker in workers)
    hosts = len({worker.host for worker in workers})
    where = f" on {counted(hosts, 'host')}" if hosts > 1 else ""
    staff = f"{counted(len(workers), 'worker')}{where}, {in_hand:,} of {counted(slots, 'slot')} busy"
    numbers = {
        "at work": sum(run_view.run.status in AT_WORK for run_view in views),
        "queued": sum(run_view.run.status is RunStatus.QUEUED for run_view in views),
        "paused": sum(run_view.run.status is RunStatus.PAUSED for run_view in views),
    }
    part = snapshot.page.following is not None or snapshot.wanted != Wanted()
    listed = "listed" if part else "runs"
    states = f"{listed}: {', '.join(f'{number:,} {name}' for name, number in numbers.items() if number or name == 'at work')}"
    failed = sum(map(failures_of, views))
    parts: list[RichText] = [
        Text(staff if workers else "no worker is alive", "" if workers else "yellow"), Text(states),
        Text(f"{failed:,} failed", "red" if failed else ""),
    ]  # fmt: skip
    return Text(" · ").join(parts)


def _share(snapshot: Snapshot) -> RichText:
    verdict = snapshot.verdict
    if not snapshot.sampled:
        return Text("share: nobody samples the health now", "dim")
    colour = "green" if verdict.allowed >= 1.0 else "red" if verdict.allowed == 0.0 else "yellow"
    return Text(f"share {verdict.allowed:.0%}", f"bold {colour}")


def _worst(snapshot: Snapshot) -> RichText:
    """Returns the signal that asks for most; where none asks for anything, the one that is nearest to its threshold."""
    verdict = snapshot.verdict
    if not snapshot.sampled:
        return Text()
    signals = all_signals(verdict.checks)
    read = {name: state for name, state in verdict.signals.items() if name in signals}
    asking = [name for name, state in read.items() if state.asks.rank]
    if asking:
        name = max(asking, key=lambda name: (read[name].asks.rank, -read[name].since))
        state = read[name]
        value = "" if state.value is None else f" {measured(state.value, signals[name].unit)}"
        host = f" on {state.host}" if state.host else ""
        return Text(one_line(f"worst signal: {name} {state.level}{value}{host}"), COLOURS[state.asks])
    part, name = max(
        ((_part(read[name], signals[name], snapshot.settings.of(name)), name) for name in read),
        default=(0.0, ""),
    )
    if not part or (value_of := read[name].value) is None:
        return Text("all signals ok" if read else "no signal is read", "green" if read else "dim")
    return Text(f"worst signal: {name} ok, {measured(value_of, signals[name].unit)}", COLOURS[Level.OK])


def _part(state: SignalState, signal: Signal, thresholds: Thresholds) -> float:
    """Returns how much of the way to its first threshold a signal is; 0 where it has none."""
    slow, stop = thresholds.of(signal)
    first = slow if slow is not None else stop
    if state.value is None or not first or signal.state or state.ignored_until is not None:
        return 0.0
    return (first / max(state.value, first / 1000)) if signal.low else state.value / first


def _frozen(snapshot: Snapshot) -> RichText:
    look = snapshot.freezes
    freeze = in_force(look.freezes, look.now)
    if freeze is None:
        return Text()
    ends = thaws_at(look.freezes, look.now)
    until = "until somebody lifts it" if ends is None else f"until {shown(ends)}"
    note = f": {one_line(freeze.note)}" if freeze.note else ""
    return Text(f"FROZEN {until}{note}", "bold red")
