"""Begins, continues and ends the work on a run, for all commands that do so."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened, check_broker
from whimbrel.cli.arguments.options import memory, source
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.foreground import Foreground, RunEnding
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.foreground.other_workers import leave_to_others, served_by_others
from whimbrel.cli.output.failure_groups import first_groups
from whimbrel.cli.output.run_tables import report_table, run_table
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.executing import restore
from whimbrel.engine.operating.run_view import run_object
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers import definition_catalog
from whimbrel.workers.worker_pool import WorkerPool

Detach = Annotated[
    bool,
    typer.Option("--detach", help="only change the run's state; workers that live elsewhere go on with it"),
]


def pool_of(
    settings: Settings,
    *,
    workers: int | None,
    slots: int,
    migrations: list[str] | None,
    max_memory: str | None,
) -> WorkerPool:
    """Returns the worker processes that a command's options ask for. Raises SettingsInvalid."""
    return WorkerPool(
        workers=workers, slots=slots, source=source(migrations, settings), memory=memory(max_memory, settings)
    )


def code_of(run: Run, pool: WorkerPool) -> tuple[Definition, WorkerPool]:
    """Returns the run's migration as it is loaded here, and the pool without what cannot be loaded."""
    if not run.has_user_code:
        return restore.definition_without_code(run), pool
    loaded = definition_catalog.describe(pool.source)
    return choose(loaded, run.migration), pool.without(loaded.unloadable)


def note_stand_alone(screen: Screen, system: Opened) -> None:
    """Shows what a stand-alone server cannot do."""
    if not system.store.replica_set:
        screen.note(
            "this server is stand-alone. The run works, but a write that it acknowledged is on one machine only, and a write "
            "that the network broke off is not tried again by the driver. A replica set (even of one member) does both."
        )


@contextlib.contextmanager
def open_foreground(settings: Settings, screen: Screen) -> Iterator[tuple[Opened, Foreground]]:
    """Opens a deployment, checks its broker before anything is written, and yields it with the foreground work."""
    with Interrupts() as interrupts, open_database(settings, screen, chooses=True) as system:
        check_broker(settings)
        yield system, Foreground(system, settings, screen, interrupts)


def go_on(
    system: Opened,
    settings: Settings,
    screen: Screen,
    interrupts: Interrupts,
    ready: Run,
    definition: Definition,
    pool: WorkerPool | None,
) -> int:
    """Works on the run in the foreground, unless live workers serve it or `pool` is None."""
    if pool is not None and not served_by_others(system.store.ledger, ready):
        note_stand_alone(screen, system)
        return conclude(
            screen, system, Foreground(system, settings, screen, interrupts).work(ready, definition, pool)
        )
    return leave_to_others(screen, system, ready)


def conclude(screen: Screen, system: Opened, ending: RunEnding) -> int:
    """Shows what happened, as the Run object, or as tables and what to do next; returns the exit code."""
    if screen.json:
        screen.answer(run_object(ending.view))
    else:
        show_run(screen, system.store.ledger, ending)
    if ending.said:
        screen.say(ending.said)
    return ending.exit_code


def show_run(screen: Screen, ledger: Ledger, ending: RunEnding, *, advise: bool = True) -> None:
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
