"""`verify`: prove that a run left what the ledger says."""

from typing import Annotated

import typer

from whimbrel.cli.arguments.options import (
    Json,
    MaxMemory,
    NewCollection,
    Nice,
    Rate,
    RunId,
    Slots,
    Source,
    Windows,
    Workers,
    begin,
    caller,
)
from whimbrel.cli.arguments.which_run import TO_VERIFY, choose_run
from whimbrel.cli.foreground.begin_and_end import conclude, note_stand_alone, open_foreground, pool_of
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.executing.restore import definition_without_code
from whimbrel.engine.operating.start_verification import SAMPLE, start_verification
from whimbrel.errors import SettingsInvalid
from whimbrel.workers import definition_catalog


def verify(
    run_id: RunId = None,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=100_000_000,
            help=f"changed documents that are transformed once more (default: {SAMPLE:,}; 0: none)",
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="transform all changed documents once more")] = False,
    rate: Rate = None,
    new_collection: NewCollection = False,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    window: Windows = None,
    nice: Nice = 0,
    json: Json = False,
) -> int:
    """Verify a run that has ended: look at every document, write to none."""
    if all_ and sample is not None:
        raise SettingsInvalid("--all transforms all documents once more, --sample some: give one of them.")
    settings, screen = begin(json=json)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    catalog = definition_catalog.describe(pool.source)
    pool = pool.without(catalog.unloadable)
    with open_foreground(settings, screen) as (system, foreground):
        old = choose_run(screen, system.store.ledger, run_id, TO_VERIFY)
        note_stand_alone(screen, system)
        definition = catalog.get(old.migration)
        foreground.arm()
        started = start_verification(
            system.store, old.id, definition, who=caller(), defaults=settings.defaults, rate=rate,
            sample=None if all_ else SAMPLE if sample is None else sample,
            new_collection=new_collection, terms=Terms(window or (), nice),
        )  # fmt: skip
        screen.say(f"Run {started.id} verifies run {old.id} of {old.migration} on {old.ns}.")
        return conclude(
            screen, system, foreground.work(started, definition or definition_without_code(old), pool)
        )
