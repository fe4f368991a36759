"""`failures`: show what failed, by cause or by document; write all of it to a file; accept a cause."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import RenderableType

from whimbrel.cli.arguments.options import Json, RunId, begin, caller, storable_note
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import WITH_FAILURES, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.export_file import STANDARD_OUTPUT, write_export
from whimbrel.cli.output.failure_groups import summary_of_rest
from whimbrel.cli.output.failure_tables import failure_object, failures_table, group_object, groups_table
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.failures.failure import Failure, FailurePlace, FailureState
from whimbrel.domain.failures.known_causes import LONGEST_NOTE
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating import control
from whimbrel.engine.operating.accepted_causes import accept_causes, withdraw_causes
from whimbrel.engine.operating.failure_export import export_pages
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import Ledger, Store

FailureOf = StrEnum("FailureOf", ["dead", "open", "resolved"])
ROWS = 100  # to show, where nothing else is said


def failures(
    run_id: RunId = None,
    documents: Annotated[bool, typer.Option("--documents", help="each document, with its attempts")] = False,
    group: Annotated[str | None, typer.Option(metavar="GROUP", help="only this group of failures")] = None,
    state: Annotated[
        FailureOf | None,
        typer.Option(metavar="STATE", help="only failures in this state: dead, open or resolved"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, max=1000, help=f"rows to show (default: {ROWS})"),
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="where an earlier page said that the next one begins")
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="FILE|-",
            help="write all failures, one JSON object a line, to a new file, or to standard output",
        ),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            "--accept",
            metavar="GROUP",
            help="let the run go on in spite of this cause: its failures do not count for the failure budget; give it once for each",
        ),
    ] = None,
    withdraw: Annotated[
        list[str] | None,
        typer.Option(
            "--withdraw", metavar="GROUP", help="accept this cause no longer; give it once for each"
        ),
    ] = None,
    note: Annotated[
        str | None,
        typer.Option(
            "--note", callback=storable_note, metavar="TEXT", help="why a cause is accepted, or no longer"
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Show the failures of a run by cause, or by document."""
    settings, screen = begin(json=json)
    shown = {"--documents": documents, "--limit": limit is not None, "--cursor": cursor is not None}
    narrowed = {"--group": group is not None, "--state": state is not None}
    _check_options(shown, narrowed, export=export is not None, accept=accept, withdraw=withdraw, note=note)
    with Interrupts(), open_database(settings, screen, answers=export is None) as system:
        ledger = system.store.ledger
        run = choose_run(screen, ledger, run_id, WITH_FAILURES)
        if accept or withdraw:
            return _judge(system.store, screen, run, accept or [], withdraw or [], note or "")
        group_id = None if group is None else control.group_of(ledger, run.id, group)
        only = None if state is None else FailureState(state.value)
        if export is not None:
            return _export(ledger, screen, run, export, state=only, group=group_id)
        if documents:
            _show_documents(ledger, screen, run.id, only, group_id, cursor=cursor, limit=limit or ROWS)
            return 0
        page = ledger.failures.groups(run.id, state=only, group=group_id, after=cursor, limit=limit or ROWS)
        known = ledger.known_causes.of(run.id)
        objects = [group_object(cause, known.get(cause.group)) for cause in page.groups]
        _present(screen, objects, groups_table(page.groups, known=known))
        if page.after is not None:
            screen.note(f"{summary_of_rest(page)} Show them: --cursor {page.after}")
        return 0


def _check_options(
    shown: dict[str, bool],
    narrowed: dict[str, bool],
    *,
    export: bool,
    accept: list[str] | None,
    withdraw: list[str] | None,
    note: str | None,
) -> None:
    """Raises SettingsInvalid where options do not go together."""
    judged = bool(accept or withdraw)
    what = "--accept and --withdraw change" if judged else "--export writes"
    others = shown | (narrowed if judged else {}) | ({"--export": export} if judged else {})
    if (judged or export) and any(others.values()):
        wrong = ", ".join(name for name, given in others.items() if given)
        raise SettingsInvalid(f"{what} all that is named, and show nothing: leave out {wrong}.")
    if note is not None and not judged:
        raise SettingsInvalid(
            "--note says why a cause is accepted, or no longer: add --accept or --withdraw."
        )
    if accept and withdraw:
        raise SettingsInvalid("--accept and --withdraw exclude one another: give one of them.")
    if note is not None and len(note) > LONGEST_NOTE:
        raise SettingsInvalid(f"--note has {len(note):,} characters: {LONGEST_NOTE} are kept. Shorten it.")


def _judge(store: Store, screen: Screen, run: Run, accept: list[str], withdraw: list[str], note: str) -> int:
    ledger, who = store.ledger, caller()
    store.prepare()
    if accept:
        groups = accept_causes(ledger, run.id, accept, who=who, note=note)
    else:
        groups = withdraw_causes(ledger, run.id, withdraw, who=who, note=note)
    if screen.json:
        known = ledger.known_causes.of(run.id)
        pages = [ledger.failures.groups(run.id, group=group, limit=1) for group in groups]
        screen.answer(
            [group_object(cause, known.get(cause.group)) for page in pages for cause in page.groups]
        )
        return 0
    named = ", ".join(groups)
    if accept:
        screen.show(f"Accepted: {named}. Failures of {'this cause' if len(groups) == 1 else 'these causes'} do not count for the failure budget of run {run.id}.")  # fmt: skip
        if run.status is RunStatus.PAUSED:
            screen.show(f"Go on with: whimbrel resume {run.id}")
    else:
        screen.show(f"No longer accepted: {named}.")
    return 0


def _export(
    ledger: Ledger,
    screen: Screen,
    run: Run,
    name: str,
    *,
    state: FailureState | None,
    group: str | None,
) -> int:
    lines = write_export(name, export_pages(ledger, run, state=state, group=group))
    if name != STANDARD_OUTPUT:
        if screen.json:
            screen.answer({"migrationId": run.id, "file": name, "failures": lines})
        else:
            screen.say(f"{counted(lines, 'failure')} of run {run.id} written to {name}.")
    return 0


def _show_documents(
    ledger: Ledger,
    screen: Screen,
    run_id: str,
    only: FailureState | None,
    group_id: str | None,
    *,
    cursor: str | None,
    limit: int,
) -> None:
    after = None if cursor is None else FailurePlace.of(cursor)
    rows = ledger.failures.list(run_id, state=only, group=group_id, after=after, limit=limit)
    _present(screen, [failure_object(failure) for failure in rows], failures_table(rows))
    if len(rows) == limit and (
        remaining := _remaining(ledger, run_id, rows, only, group_id, first=cursor is None)
    ):
        screen.note(f"{remaining} Show them: --cursor {rows[-1].place.cursor}")


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
