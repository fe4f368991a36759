"""`failures`: show what failed, by cause or by document."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType

from whimbrel.cli.arguments.options import Json, Limit, RunId, begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import WITH_FAILURES, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.failure_groups import summary_of_rest
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.tables import failure_object, failures_table, group_object, groups_table
from whimbrel.domain.failures.failure import Failure, FailurePlace, FailureState
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating import control
from whimbrel.ports import Ledger

FailureOf = StrEnum("FailureOf", ["dead", "open", "resolved"])


def failures(
    run_id: RunId = None,
    documents: Annotated[bool, typer.Option("--documents", help="each document, with its attempts")] = False,
    group: Annotated[str | None, typer.Option(metavar="GROUP", help="only this group of failures")] = None,
    state: Annotated[
        FailureOf | None,
        typer.Option(metavar="STATE", help="only failures in this state: dead, open or resolved"),
    ] = None,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="where an earlier page said that the next one begins")
    ] = None,
    json: Json = False,
) -> int:
    """Show the failures of a run by cause, or by document."""
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        ledger = system.store.ledger
        run_id = choose_run(screen, ledger, run_id, WITH_FAILURES).id
        group_id = None if group is None else control.group_of(ledger, run_id, group)
        only = None if state is None else FailureState(state.value)
        if documents:
            after = None if cursor is None else FailurePlace.of(cursor)
            rows = ledger.failures.list(run_id, state=only, group=group_id, after=after, limit=limit)
            _present(screen, [failure_object(failure) for failure in rows], failures_table(rows))
            if len(rows) == limit and (
                remaining := _remaining(ledger, run_id, rows, only, group_id, first=cursor is None)
            ):
                screen.note(f"{remaining} Show them: --cursor {rows[-1].place.cursor}")
            return 0
        page = ledger.failures.groups(run_id, state=only, group=group_id, after=cursor, limit=limit)
        _present(
            screen, [group_object(failure_group) for failure_group in page.groups], groups_table(page.groups)
        )
        if page.after is not None:
            screen.note(f"{summary_of_rest(page)} Show them: --cursor {page.after}")
        return 0


def _remaining(
    ledger: Ledger,
    run_id: str,
    rows: Sequence[Failure],
    state: FailureState | None,
    group: str | None,
    *,
    first: bool,
) -> str:
    """Tells what follows a full page. Groups have a number of documents, but no position for a later page."""
    if not first:
        return "There may be more."
    page = ledger.failures.groups(run_id, state=state, group=group, limit=1)
    kinds = [state] if state else [FailureState.DEAD, FailureState.OPEN, FailureState.RESOLVED]
    remaining = sum(getattr(part, kind) for part in (*page.groups, page) for kind in kinds) - len(rows)
    return f"{counted(remaining, 'more failure')}." if remaining > 0 else ""


def _present(screen: Screen, objects: list[dict[str, object]], table: RenderableType) -> None:
    if screen.json:
        screen.answer(objects)
    elif objects:
        screen.show(table)
    else:
        screen.show("There are no failures.")
