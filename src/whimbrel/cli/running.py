"""`run`, `resume`, `retry`: work on a run in the foreground."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened, check_broker, load
from whimbrel.cli.asking import asked
from whimbrel.cli.choosing import TO_RESUME, TO_RETRY, chosen
from whimbrel.cli.failing import first_groups
from whimbrel.cli.findings import consent
from whimbrel.cli.foreground import Ending, Foreground, ahead
from whimbrel.cli.interrupts import Interrupts
from whimbrel.cli.options import (
    BatchSize,
    Json,
    MaxMemory,
    MigrationName,
    NewCollection,
    Rate,
    RunId,
    Slots,
    Source,
    Workers,
    begin,
    caller,
    memory,
    source,
)
from whimbrel.cli.others import left, serving
from whimbrel.cli.screen import Screen
from whimbrel.cli.tables import report_table, run_table
from whimbrel.domain.catalog import choose
from whimbrel.domain.filters import parse_filter
from whimbrel.domain.migration import Definition, with_undo
from whimbrel.domain.printable import counted
from whimbrel.domain.runs import Run
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.engine import control, restore
from whimbrel.engine.already import nothing_left
from whimbrel.engine.attempt import attempt, needs_trial
from whimbrel.engine.preflight import warned
from whimbrel.engine.start import add_run, anything, asked_through, draft_run, preview
from whimbrel.engine.starting_over import start_over
from whimbrel.engine.view import run_object
from whimbrel.errors import SettingsInvalid, StateForbids
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers import catalog
from whimbrel.workers.calling import Calls
from whimbrel.workers.team import Team

Detach = Annotated[
    bool,
    typer.Option("--detach", help="only change the run's state; workers that live elsewhere go on with it"),
]


def run(
    name: MigrationName,
    migrations: Source = None,
    batch_size: BatchSize = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="EJSON", help="only documents that match this too")
    ] = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="only the first N eligible documents, by _id")
    ] = None,
    priority: Annotated[
        int,
        typer.Option(metavar="0-10", min=0, max=10, help="above 5 its batches go before those of other runs"),
    ] = 0,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="keep in each document what is overwritten, for `whimbrel rollback`"),
    ] = False,
    rate: Rate = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="go on without asking where preflight warns")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="take warnings of preflight for errors: the run is not started")
    ] = False,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach", help="only start the run, and say its id; workers that live elsewhere carry it out"
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="start also where no answer of the function can be used; it is not tried before"
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Run a migration, and show how far it is."""
    if yes and strict:
        raise SettingsInvalid("--yes goes on where preflight warns, --strict does not: give one of them.")
    if detach and (workers or max_memory is not None):
        raise SettingsInvalid(
            "--detach starts no workers here: leave --workers and --max-memory out, or --detach."
        )
    settings, screen = begin(json=json)
    narrower = None if filter_ is None else parse_filter(filter_)
    team = Team(
        workers=0 if detach else workers,
        slots=concurrency,
        source=source(migrations, settings),
        memory=memory(max_memory, settings),
    )
    loaded = catalog.describe(team.source)
    team, it = team.without(loaded.unloadable), choose(loaded, name)
    it = with_undo(it) if undo else it
    load()
    calls = Calls(team.source, team.left_out)
    if needs_trial(it) and not force:
        calls.load_ahead()
    with (
        Interrupts() as interrupts,
        contextlib.closing(calls),
        ahead(screen, settings, team) as begun,
        asked(settings, screen) as at,
    ):
        draft = draft_run(
            at.store, it, defaults=settings.defaults, filter_=narrower, batch_size=batch_size, limit=limit,
            priority=priority, rate=rate,
        )  # fmt: skip
        draft = asked_through(draft, "whimbrel run")
        seen = preview(at.store, draft)
        if workers is None and seen.total is not None and seen.batches <= 1:
            team = replace(team, workers=1)  # one batch at a time is all that there will be
        ready = draft
        if not seen.total and not anything(at.store, draft):
            screen.say(nothing_left(at.store, draft))
        else:
            ready = warned(at.store, it, draft, documents=seen.estimated, strict=strict)
            if not force:
                ready = attempt(at.store, it, ready, calls.of, strict=strict)
        check_broker(settings)  # before anything is written, and a person is asked for nothing
        consent(screen, ready.warnings, yes=yes)
        interrupts.arm()  # what comes now is a run, and is told how to go on
        started = add_run(at.store, it, ready, caller())
        screen.say(f"Run {started.id} of {it.name} on {started.ns}.")
        if detach:
            return left(screen, at, started, tell=True)
        foreground = Foreground(at, settings, screen, interrupts)
        return conclude(screen, at, foreground.work(started, it, team, begun))


def resume(
    run_id: RunId = None,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    detach: Detach = False,
    new_collection: NewCollection = False,
    json: Json = False,
) -> int:
    """Go on with a run that was paused, failed, or lost its processes."""
    settings, screen = begin(json=json)
    team = Team(
        workers=workers,
        slots=concurrency,
        source=source(migrations, settings),
        memory=memory(max_memory, settings),
    )
    with Interrupts() as interrupts, asked(settings, screen, chooses=True) as at:
        old = chosen(screen, at.store.ledger, run_id, TO_RESUME)
        check_broker(settings)
        it, team = _code(old, team)
        interrupts.arm()
        if new_collection:
            ready = start_over(at.store, old.id, it, who=caller())
            screen.say(f"Run {old.id} is cancelled, and this one goes on in its place:")
        else:
            ready = _resumed(at.store.ledger, old.id, it)
        screen.say(f"Run {ready.id} of {it.name} on {ready.ns} is {ready.status}.")
        return _go_on(at, settings, screen, interrupts, ready, it, None if detach else team)


def retry(
    run_id: RunId = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="only this group of failures, as `whimbrel failures` shows it"),
    ] = None,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    detach: Detach = False,
    json: Json = False,
) -> int:
    """Try the dead failures of a run again."""
    settings, screen = begin(json=json)
    team = Team(
        workers=workers,
        slots=concurrency,
        source=source(migrations, settings),
        memory=memory(max_memory, settings),
    )
    with Interrupts() as interrupts, asked(settings, screen, chooses=True) as at:
        ledger = at.store.ledger
        old = chosen(screen, ledger, run_id, TO_RETRY)
        it, team = _code(old, team)
        only = None if group is None else control.group_of(ledger, old.id, group)
        interrupts.arm()
        ready, opened_again = control.retry(ledger, old.id, who=caller(), group=only, code=it)
        screen.say(
            f"Run {ready.id} of {it.name}: {counted(opened_again, 'dead failure')} {'is' if opened_again == 1 else 'are'} open again."
        )
        return _go_on(at, settings, screen, interrupts, ready, it, None if detach else team)


def _code(run: Run, team: Team) -> tuple[Definition, Team]:
    """The migration that a run goes on with, as it is loaded here, and the team without what cannot be loaded."""
    if not run.has_user_code:
        return restore.definition(run), team
    loaded = catalog.describe(team.source)
    return choose(loaded, run.migration), team.without(loaded.unloadable)


def introduce(screen: Screen, at: Opened) -> None:
    """Say what a server of its kind cannot do."""
    if not at.store.replica_set:
        screen.note(
            "this server is stand-alone. The run works, but a write that it acknowledged is on one machine only, and a write "
            "that the network broke off is not tried again by the driver. A replica set (even of one member) does both."
        )


@contextlib.contextmanager
def desk(settings: Settings, screen: Screen) -> Iterator[tuple[Opened, Foreground]]:
    """A deployment and its broker, which answer before anything is written; and the work that is done on a run here."""
    with Interrupts() as interrupts, asked(settings, screen, chooses=True) as at:
        check_broker(settings)
        yield at, Foreground(at, settings, screen, interrupts)


def _resumed(ledger: Ledger, run_id: str, it: Definition) -> Run:
    """A run that nobody works on although it is queued or running needs workers, not another state."""
    old = control.find_run(ledger, run_id)  # once more: loading the code has taken a while
    if old.status not in (RunStatus.RUNNING, RunStatus.QUEUED):
        return control.resume(ledger, old.id, who=caller(), code=it)
    if old.code_hash != it.code_hash:
        raise StateForbids(
            f"Run {old.id} is {old.status} with another code of {it.name} than the one loaded here. "
            f"Pause it first, then resume it with the new code: whimbrel pause {old.id}"
        )
    return old


def _go_on(
    at: Opened,
    settings: Settings,
    screen: Screen,
    interrupts: Interrupts,
    ready: Run,
    it: Definition,
    team: Team | None,
) -> int:
    """In the foreground, unless live workers serve the run or nobody here shall work."""
    if team is not None and not serving(at.store.ledger, ready):
        introduce(screen, at)
        return conclude(screen, at, Foreground(at, settings, screen, interrupts).work(ready, it, team))
    return left(screen, at, ready)


def conclude(screen: Screen, at: Opened, ending: Ending) -> int:
    """What happened: as the Run object, or as tables and what to do next."""
    if screen.json:
        screen.answer(run_object(ending.view))
    else:
        show_run(screen, at.store.ledger, ending)
    if ending.said:
        screen.say(ending.said)
    return ending.exit_code


def show_run(screen: Screen, ledger: Ledger, ending: Ending, *, advise: bool = True) -> None:
    run = ending.view.run
    screen.show(run_table(ending.view))
    if run.report:
        screen.show(report_table(run.report))
    if not ending.said and (groups := list(first_groups(ledger, run))):
        screen.show(*groups)
        if advise:
            screen.show(f"Look at the documents:  whimbrel failures {run.id} --documents")
            if run.status is RunStatus.COMPLETED_WITH_FAILURES and run.kind != "verification":
                screen.show(f"Try them again:         whimbrel retry {run.id}")
    if advise and run.kind == "migration" and run.status in ENDED:
        screen.show(f"Verify the run:         whimbrel verify {run.id}")
        if run.undo:
            screen.show(f"Take it back:           whimbrel rollback {run.id}")
            screen.show(f"Give the space back:    whimbrel cleanup {run.id}")
