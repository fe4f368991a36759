"""`status`: show the runs, or one of them in detail; with `--watch` live."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text as RichText

from whimbrel.cli.arguments.completion import migration_names, run_ids
from whimbrel.cli.arguments.options import Json, Limit, begin
from whimbrel.cli.arguments.points_in_time import point_in_time
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_WATCH, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.failure_groups import first_groups
from whimbrel.cli.output.ledger_observer import LedgerObserver
from whimbrel.cli.output.preflight_findings import findings_lines
from whimbrel.cli.output.progress_bar import live_display, moment, progress
from whimbrel.cli.output.run_rows import block, header
from whimbrel.cli.output.run_tables import batches_table, held_lines, report_table, run_table, runs_table
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView, run_object, view, views
from whimbrel.errors import RunUnknown, SettingsInvalid
from whimbrel.ports import Ledger

BATCHES = 8  # shown of a run: around those at work
EVERY = 0.5  # seconds between two updates of all runs


def status(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="RUN", autocompletion=run_ids, help="only this run, in detail"),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="go on showing; ends with the run, or by Ctrl-C")
    ] = False,
    state: Annotated[
        list[RunStatus] | None,
        typer.Option(
            metavar="STATE", help="only runs in this state, such as running or failed; give it once for each"
        ),
    ] = None,
    migration: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=migration_names, help="only runs of this migration"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="only runs that were started since then: 90m, 24h, 7d, 2026-12-31 or 2026-12-31T18:00",
        ),
    ] = None,
    limit: Limit = 20,
    json: Json = False,
) -> int:
    """Show the runs, newest first, or one run in detail."""
    settings, screen = begin(json=json)
    wanted = Wanted(
        frozenset(state or ()), migration, point_in_time(since) if since is not None else None, limit
    )
    if run_id is not None and wanted.narrow:
        raise SettingsInvalid("RUN is one run: leave it out, or --state, --migration and --since.")
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        ledger = system.store.ledger
        if run_id is not None:
            control.find_run(ledger, run_id)
        elif watch and not wanted.narrow:
            run_id = _run_to_watch(screen, ledger)
        if watch:
            screen.locate()
            with contextlib.suppress(KeyboardInterrupt):
                _watch_all(ledger, screen, wanted) if run_id is None else _watch_one(ledger, screen, run_id)
        if run_id is not None:
            run_view = view(ledger, control.find_run(ledger, run_id))
            screen.answer([run_object(run_view)]) if json else screen.show(*_details(ledger, run_view))
        elif json:
            screen.answer([run_object(shown_run) for shown_run in _views(ledger, wanted)])
        elif not watch or not screen.live:
            _show_runs(screen, _views(ledger, wanted), narrow=wanted.narrow)
        if run_id is None and not watch and _has_more(ledger, wanted):
            screen.note(
                f"There are older runs than these {wanted.limit:,}: --limit takes up to 1,000, --since a time."
            )
        return 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs to show."""

    statuses: frozenset[RunStatus]
    migration: str | None
    since: datetime | None
    limit: int

    @property
    def narrow(self) -> bool:
        return bool(self.statuses or self.migration is not None or self.since is not None)


def _views(ledger: Ledger, wanted: Wanted) -> list[RunView]:
    runs = ledger.runs.list(
        statuses=wanted.statuses or None, migration=wanted.migration, since=wanted.since, limit=wanted.limit
    )
    return views(ledger, runs)


def _has_more(ledger: Ledger, wanted: Wanted) -> bool:
    runs = ledger.runs.list(
        statuses=wanted.statuses or None,
        migration=wanted.migration,
        since=wanted.since,
        limit=wanted.limit + 1,
    )
    return len(runs) > wanted.limit


def _show_runs(screen: Screen, views: list[RunView], *, narrow: bool) -> None:
    if views:
        screen.show(runs_table(views), *held_lines(views))
    elif narrow:
        screen.show("There are no such runs. All of them: whimbrel status")
    else:
        screen.show("There are no runs yet. Start one with: whimbrel run NAME")


def _details(ledger: Ledger, run_view: RunView) -> Iterator[RenderableType]:
    yield run_table(run_view)
    if run_view.run.warnings:
        yield Text("Preflight, before it started", style="bold")
        yield from findings_lines(run_view.run.warnings)
    if run_view.run.report:
        yield report_table(run_view.run.report)
    after = min(run_view.completed_batches - BATCHES // 2, run_view.total_batches - BATCHES)
    if batches := ledger.batches.list(run_view.run.id, after=after, limit=BATCHES):
        yield batches_table(batches, run_view.total_batches)
    yield from first_groups(ledger, run_view.run)


def _watch_one(ledger: Ledger, screen: Screen, run_id: str) -> None:
    from whimbrel.cli.foreground.foreground import look  # noqa: PLC0415  imports all that works on runs

    with progress(screen) as display, LedgerObserver(lambda: look(ledger, run_id)) as observer:
        while True:
            observer.check()
            run_view, note = observer.latest
            display.show(moment(run_view, observer.silent, note))
            if run_view.run.status in ENDED:
                return
            time.sleep(0.1)


def _run_to_watch(screen: Screen, ledger: Ledger) -> str | None:
    """Returns the run to watch; None for all, which a terminal shows where several are at work, or there is none yet."""
    try:
        return choose_run(screen, ledger, None, TO_WATCH).id
    except SettingsInvalid:
        if not screen.live:
            raise
    except RunUnknown:
        pass
    return None


def _watch_all(ledger: Ledger, screen: Screen, wanted: Wanted) -> None:
    if not screen.live:
        screen.note("--watch shows all runs on a terminal only; this is how they are now.")
        return
    look = LedgerObserver(lambda: _views(ledger, wanted), EVERY)
    with live_display(screen.out) as live, look as observer:
        while True:
            observer.check()
            size = screen.out.size
            shown: list[RichText] = []
            if observer.silent:
                stale = f"MongoDB has not answered for {observer.silent:.0f} s; this is how it was."
                shown.append(Text(stale, "yellow"))
            shown += lines_that_fit(observer.latest, size.width, size.height - len(shown))
            live.update(Group(*shown), refresh=True)
            observer.wait(EVERY)


def lines_that_fit(views: list[RunView], width: int, height: int) -> list[RichText]:
    """Returns the rows of as many runs as fit a terminal, each with the reason why it waits, and how many are left out."""
    lines, shown = [header(width)], 0
    room = height - 2  # for how many are left out, and the line of the cursor
    for run_view in views:
        added = block(run_view, width)
        if len(lines) + len(added) > room:
            break
        lines += added
        shown += 1
    if shown < len(views):
        lines.append(Text(f"{len(views) - shown} more runs that were found have no room here: whimbrel top"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[: max(1, height - 1)]
