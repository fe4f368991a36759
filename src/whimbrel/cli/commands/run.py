"""`run`: work on a new run in the foreground."""

import contextlib
from dataclasses import replace
from typing import Annotated

import typer

from whimbrel.bootstrap import check_broker, load
from whimbrel.cli.arguments.options import (
    BatchSize,
    Json,
    MaxMemory,
    MigrationName,
    Rate,
    Slots,
    Source,
    Workers,
    begin,
    caller,
)
from whimbrel.cli.arguments.points_in_time import duration
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.begin_and_end import conclude, pool_of
from whimbrel.cli.foreground.foreground import Foreground, start_workers_ahead
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.foreground.other_workers import leave_to_others
from whimbrel.cli.output.preflight_findings import consent
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.migrations.filters import parse_filter
from whimbrel.domain.runs.stages import stages_asked
from whimbrel.engine.operating.already_done import nothing_left
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.start import add_run, asked_through, draft_run, has_documents, preview
from whimbrel.engine.rehearsing.trial_call import needs_trial, try_function
from whimbrel.errors import SettingsInvalid
from whimbrel.workers import definition_catalog
from whimbrel.workers.function_caller import FunctionCaller


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
    stages: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="go in stages over the key space, such as 1000,1%,10%,100%; each ends at a gate",
        ),
    ] = None,
    hold: Annotated[
        str | None, typer.Option(metavar="TIME", help="wait at the gate of each stage, such as 10m")
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="wait at each gate for a person: `whimbrel approve`")
    ] = False,
    json: Json = False,
) -> int:
    """Run a migration, and show how far it is."""
    _refuse_contradictions(yes=yes, strict=strict, detach=detach, workers=workers, max_memory=max_memory)
    gated = stages_asked(stages, hold=None if hold is None else duration("--hold", hold), approve=approve)
    settings, screen = begin(json=json)
    narrower = None if filter_ is None else parse_filter(filter_)
    pool = pool_of(
        settings,
        workers=0 if detach else workers,
        slots=concurrency,
        migrations=migrations,
        max_memory=max_memory,
    )
    loaded = definition_catalog.describe(pool.source)
    pool, definition = pool.without(loaded.unloadable), choose(loaded, name)
    definition = with_undo(definition) if undo else definition
    load()
    calls = FunctionCaller(pool.source, pool.left_out)
    if needs_trial(definition) and not force:
        calls.load_ahead()
    with (
        Interrupts() as interrupts,
        contextlib.closing(calls),
        start_workers_ahead(screen, settings, pool) as workers_ahead,
        open_database(settings, screen) as system,
    ):
        draft = asked_through(
            draft_run(
                system.store, definition, defaults=settings.defaults, filter_=narrower, batch_size=batch_size, limit=limit,
                priority=priority, rate=rate, stages=gated,
            ),
            "whimbrel run",
        )  # fmt: skip
        check_dependencies(system.store, definition)
        expected = preview(system.store, draft)
        if workers is None and expected.total is not None and expected.batches <= 1:
            pool = replace(pool, workers=1)  # there will be only one batch at a time
        ready = draft
        if not expected.total and not has_documents(system.store, draft):
            screen.say(nothing_left(system.store, draft))
        else:
            ready = with_warnings(
                system.store, definition, draft, documents=expected.estimated, strict=strict
            )
            if not force:
                ready = try_function(system.store, definition, ready, calls.of, strict=strict)
        check_broker(settings)  # before anything is written, and before a person is asked in vain
        consent(screen, ready.warnings, yes=yes)
        interrupts.arm()  # from here on there is a run, and Ctrl-C tells how to go on
        started = add_run(system.store, definition, ready, caller())
        screen.say(f"Run {started.id} of {definition.name} on {started.ns}.")
        if detach:
            return leave_to_others(screen, system, started, tell=True)
        foreground = Foreground(system, settings, screen, interrupts)
        return conclude(screen, system, foreground.work(started, definition, pool, workers_ahead))


def _refuse_contradictions(
    *, yes: bool, strict: bool, detach: bool, workers: int | None, max_memory: str | None
) -> None:
    if yes and strict:
        raise SettingsInvalid("--yes goes on where preflight warns, --strict does not: give one of them.")
    if detach and (workers or max_memory is not None):
        raise SettingsInvalid(
            "--detach starts no workers here: leave --workers and --max-memory out, or --detach."
        )
