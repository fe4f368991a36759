"""`top`: a full-screen view of the runs, the workers and the database's health; on a pipe one look at them, in lines."""

from enum import StrEnum
from typing import Annotated

import typer

from whimbrel.bootstrap import place
from whimbrel.cli.arguments.completion import run_ids
from whimbrel.cli.arguments.options import Json, begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.fullscreen.terminal import can_show
from whimbrel.cli.output.failure_groups import first_groups
from whimbrel.cli.output.run_tables import held_lines, run_table, runs_table
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.worker_tables import workers_table
from whimbrel.cli.top.cluster_lines import health_line, reason_line, work_line
from whimbrel.cli.top.live import show
from whimbrel.cli.top.run_pages import Wanted
from whimbrel.cli.top.snapshot import Looker, snapshot_object
from whimbrel.cli.top.sorting import ORDERS, ordered
from whimbrel.engine.operating import control
from whimbrel.ports import Ledger

SortBy = StrEnum("SortBy", {name: name for name in ORDERS})  # type: ignore[misc]  # the same names at run time


def top(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="RUN", autocompletion=run_ids, help="show this run in detail first"),
    ] = None,
    sort: Annotated[
        SortBy, typer.Option(metavar="COLUMN", help=f"the column to sort by: {', '.join(ORDERS)}")
    ] = SortBy("state"),
    json: Json = False,
) -> int:
    """Show runs, workers, failures and the database's health on a full screen; pause and resume runs there."""
    settings, screen = begin(json=json)
    with Interrupts() as interrupts, open_database(settings, screen, answers=True) as system:
        ledger = system.store.ledger
        if run_id is not None:
            control.find_run(ledger, run_id)
        if not json and can_show(screen):
            where = f"{place(settings)}, database {system.store.database}"
            return show(ledger, screen, interrupts, where, run_id=run_id, order=str(sort))
        _tell(ledger, screen, run_id, str(sort))
        return 0


def _tell(ledger: Ledger, screen: Screen, run_id: str | None, sort: str) -> None:
    """Writes one look, in lines."""
    snapshot = Looker(ledger, Wanted(), run_id).look()
    if screen.json:
        screen.answer(snapshot_object(snapshot))
        return
    screen.show(health_line(snapshot))
    if (why := reason_line(snapshot)).plain:
        screen.show(why)
    screen.show(work_line(snapshot))
    if snapshot.detail is not None:
        screen.show(run_table(snapshot.detail.view), *first_groups(ledger, snapshot.detail.view.run))
    elif snapshot.page.views:
        views = ordered(snapshot.page.views, sort, reverse=False)
        screen.show(runs_table(views), *held_lines(views))
    else:
        screen.show("There are no runs yet. Start one with: whimbrel run NAME")
    if snapshot.workers:
        screen.show(workers_table(snapshot.workers, snapshot.at))
    if run_id is None and snapshot.page.following is not None:
        screen.note(
            "There are older runs than these: whimbrel status --limit takes up to 1,000, --since a time."
        )
    screen.note(
        "A view that goes on needs a terminal for input and output, and another TERM than dumb; this is how things are now."
    )
