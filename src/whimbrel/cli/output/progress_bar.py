"""Shows progress: a moving bar on a terminal, a plain line every few seconds elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.sparklines import sparkline
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import RunView

SHORTEST = 20  # columns for a bar and what follows it
SPARK = 30  # columns of the rate over time
EVERY = 3.0  # seconds between two plain lines
WAITING_EVERY = 60.0  # the same while nothing moves, for a reason that is said
UNCHANGED = 60.0  # the same where the line would be the same: a run may follow for days


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """The state of something under way, as it is shown."""

    title: str
    done: int
    total: int
    percent: float
    rate: float = 0.0
    eta: float | None = None
    status: str = ""
    retry: str = ""  # while only failures are left, to be tried again
    facts: str = ""  # more, in a few words
    note: str = ""  # why it does not move
    waits: bool = False  # whether it is known to wait
    more: tuple[str, ...] = ()  # further facts, for terminals that have room for them

    @property
    def line(self) -> str:
        if self.retry:
            return " · ".join(part for part in (self.retry, self.facts, self.status) if part)
        parts = [
            f"{self.done:,} of {self.total:,}", f"{self.rate:,.0f} docs/s" if self.rate else "",
            f"ETA {clock(self.eta)}" if self.eta is not None else "", self.facts, self.status,
        ]  # fmt: skip
        return " · ".join(part for part in parts if part)

    @property
    def share(self) -> str:
        """Percent in a few characters; empty where they would say nothing."""
        if self.retry:
            return ""
        return f"{self.percent:.1f}%" if self.percent < 100 else "100%"  # noqa: PLR2004


def moment(run_view: RunView, silent: float, note: str = "") -> Moment:
    """Returns a run as last seen; `silent`: seconds for which MongoDB has not answered."""
    run, failures = run_view.run, run_view.failures
    failure_counts = [
        f"{failures[outcome]:,} {outcome}" for outcome in ("failed", "conflict") if failures[outcome]
    ]
    if silent:
        note = f"waiting for MongoDB, which has not answered for {silent:.0f} s"
    if run.phase == "follow" and run.status not in ENDED:
        failure_counts.append(run_view.following)
    at_rest = run.status in ENDED or run.status is RunStatus.QUEUED
    return Moment(
        title=run.migration, done=run_view.processed, total=run_view.total, percent=run_view.progress,
        rate=0.0 if silent else run_view.throughput, eta=None if silent else run_view.eta,
        status=str(run.status) if at_rest else f"{run.status} ({run.phase})",
        retry=retrying(run_view), facts=", ".join(failure_counts), note=note or run.error or run.message,
        waits=run.status is RunStatus.RUNNING and run.allowance.share == 0.0 and not silent, more=tuple(_further_facts(run_view)),
    )  # fmt: skip


def _further_facts(run_view: RunView) -> Iterator[str]:
    """Yields what is told besides, what matters more first."""
    run = run_view.run
    if run.status is RunStatus.RUNNING and 0.0 < run.allowance.share < 1.0:
        yield f"share {run.allowance.share:.0%}"
    yield f"{clock(run_view.seconds)} of work"
    planned = "" if run.status in ENDED else " planned so far"
    yield f"{run_view.completed_batches:,} of {run_view.total_batches:,} batches{planned} done"
    if drawn := sparkline(run.samples, run_view.seconds, SPARK):
        yield f"rate {drawn}"


def retrying(run_view: RunView) -> str:
    """Returns what is tried again, and when; empty while anything else is left to do."""
    if run_view.next_retry is None:
        return ""
    when = f", next in {clock(run_view.next_retry)}" if run_view.next_retry > 0 else " now"
    return f"retrying {run_view.retrying:,}{when}"


def clock(seconds: float) -> str:
    minutes, seconds_left = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"


class Progress(Protocol):
    """One of the two displays."""

    def show(self, moment: Moment) -> None: ...


class _Bar:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, moment: Moment) -> None:
        title = Text(moment.title, style="bold")
        beside = cell_len(title.plain) + SHORTEST <= self._live.console.width
        top = Table.grid(padding=(0, 1), expand=True)
        top.add_column(no_wrap=True)
        top.add_column(ratio=1)
        top.add_column(no_wrap=True, justify="right", width=6)
        bar = ProgressBar(total=100, completed=moment.percent)
        top.add_row(title if beside else "", bar, moment.share)
        lines: list[Table | Text] = [top, Text(self._facts(moment), style="dim")]
        if not beside:
            lines.insert(0, title)
        if moment.note:
            lines.append(Text(moment.note, style="yellow"))
        self._live.update(Group(*lines), refresh=True)

    def _facts(self, moment: Moment) -> str:
        """Returns the line below the bar, with as many further facts as it has room for."""
        line = moment.line
        for fact in moment.more:
            if cell_len(longer := f"{line} · {fact}") > self._live.console.width:
                break
            line = longer
        return line


class _Lines:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._due, self._said = 0.0, ("", "")
        self._line, self._repeat = "", 0.0  # the last one, and when it may come again

    def show(self, moment: Moment) -> None:
        state = (moment.status, moment.note.partition(" for ")[0])
        if time.monotonic() < self._due and state == self._said:
            return
        self._due = time.monotonic() + (WAITING_EVERY if moment.waits else EVERY)
        self._said = state
        note = f" · {moment.note}" if moment.note else ""
        share = "" if moment.retry else f"{moment.percent:g}% · "
        line = f"{moment.title}: {share}{moment.line}{note}"
        if line != self._line or time.monotonic() >= self._repeat:
            self._line, self._repeat = line, time.monotonic() + UNCHANGED
            self._screen.say(line)


@contextlib.contextmanager
def progress(screen: Screen) -> Iterator[Progress]:
    if not screen.live:
        yield _Lines(screen)
        return
    with live_display(screen.err) as live:
        yield _Bar(live)


@contextlib.contextmanager
def live_display(console: Console) -> Iterator[Live]:
    """Opens lines of a terminal that are written over. The cursor stays: whoever stops or kills the program finds it."""
    with Live(console=console, auto_refresh=False) as live:
        console.show_cursor()
        yield live
