"""`run`: work on a new run in the foreground."""

import contextlib
from dataclasses import replace
from typing import Annotated

import typer

from whimbrel.bootstrap import check_broker, load
from whimbrel.cli.arguments.budget_options import (
    MaxFailureRate,
    MaxFailures,
    MaxNewCause,
    budget_change,
    causes_of_plan,
)
from whimbrel.cli.arguments.options import (
    BatchSize,
    Json,
    MaxMemory,
    MigrationName,
    Nice,
    Rate,
    Slots,
    Source,
    Windows,
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
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.migrations.filters import parse_filter
from whimbrel.domain.runs.stages import stages_asked
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating.already_done import nothing_left
from whimbrel.engine.operating.failure_budget import note_seen, with_budget
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.start import add_run, asked_through, draft_run, has_documents, preview
from whimbrel.engine.rehearsing.trial_call import needs_trial, try_function
from whimbrel.errors import SettingsInvalid
from whimbrel.workers import definition_catalog
from whimbrel.workers.function_caller import FunctionCaller
from whimbrel.workers.worker_pool import WorkerPool

YES_AND_STRICT = "--yes goes on where preflight warns, --strict does not: give one of them."
DETACH_AND_WORKERS = "--detach starts no workers here: leave --workers and --max-memory out, or --detach."
FOLLOW_AND_LIMIT = "--limit takes the first documents only, --follow all that come: give one of them."


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
    window: Windows = None,
    nice: Nice = 0,
    max_failures: MaxFailures = None,
    max_failure_rate: MaxFailureRate = None,
    max_new_cause: MaxNewCause = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            metavar="FILE",
            help="what `whimbrel plan NAME --json` wrote: causes of failures that it shows are not new to the run",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="go on after the sweep with each document that is written and matches, until `whimbrel set RUN --no-follow`",
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
    _check_options(
        (yes and strict, YES_AND_STRICT),
        (detach and bool(workers or max_memory is not None), DETACH_AND_WORKERS),
        (follow and limit is not None, FOLLOW_AND_LIMIT),
    )
    gated = stages_asked(stages, hold=None if hold is None else duration("--hold", hold), approve=approve)
    settings, screen = begin(json=json)
    budget = budget_change(max_failures, max_failure_rate, max_new_cause)
    seen = () if plan is None else causes_of_plan(plan, name)
    narrower = None if filter_ is None else parse_filter(filter_)
    pool = pool_of(
        settings,
        workers=0 if detach else workers,
        slots=concurrency,
        migrations=migrations,
        max_memory=max_memory,
    )
    pool, definition = _chosen(pool, name, undo=undo)
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
        draft = draft_run(
            system.store, definition, defaults=settings.defaults, filter_=narrower, batch_size=batch_size, limit=limit,
            priority=priority, rate=rate, terms=Terms(window or (), nice), follow=follow, stages=gated,
        )  # fmt: skip
        draft = with_budget(asked_through(draft, "whimbrel run"), budget)
        check_dependencies(system.store, definition)
        expected = preview(system.store, draft)
        if workers is None and expected.total is not None and expected.batches <= 1:
            pool = replace(pool, workers=1)  # there will be only one batch at a time
        ready = draft
        if not expected.total and not follow and not has_documents(system.store, draft):
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
        note_seen(system.store.ledger, started.id, seen, who=caller())
        screen.say(f"Run {started.id} of {definition.name} on {started.ns}.")
        if detach:
            return leave_to_others(screen, system, started, tell=True)
        foreground = Foreground(system, settings, screen, interrupts)
        return conclude(screen, system, foreground.work(started, definition, pool, workers_ahead))


def _chosen(pool: WorkerPool, name: str, *, undo: bool) -> tuple[WorkerPool, Definition]:
    """Returns the migration of this name, and the pool without migrations that cannot be loaded. Raises what `choose` raises."""
    loaded = definition_catalog.describe(pool.source)
    definition = choose(loaded, name)
    return pool.without(loaded.unloadable), with_undo(definition) if undo else definition


def _check_options(*excluded: tuple[bool, str]) -> None:
    """Raises SettingsInvalid for the first options that were given though they exclude one another."""
    for given, why in excluded:
        if given:
            raise SettingsInvalid(why)
