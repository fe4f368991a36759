"""`verify`: prove that a run is what its ledger says."""

from typing import Annotated

import typer

from whimbrel.cli.choosing import TO_VERIFY, chosen
from whimbrel.cli.options import (
    Json,
    MaxMemory,
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
from whimbrel.cli.running import conclude, desk, introduce
from whimbrel.engine.restore import definition
from whimbrel.engine.verification import SAMPLE, start_verification
from whimbrel.errors import SettingsInvalid
from whimbrel.workers import catalog
from whimbrel.workers.team import Team


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
    json: Json = False,
) -> int:
    """Verify a run that has ended: look at every document, write to none."""
    if all_ and sample is not None:
        raise SettingsInvalid("--all transforms all documents once more, --sample some: give one of them.")
    settings, screen = begin(json=json)
    team = Team(
        workers=workers,
        slots=concurrency,
        source=source(migrations, settings),
        memory=memory(max_memory, settings),
    )
    found = catalog.describe(team.source)
    team = team.without(found.unloadable)
    with desk(settings, screen) as (at, foreground):
        old = chosen(screen, at.store.ledger, run_id, TO_VERIFY)
        introduce(screen, at)
        it = found.get(old.migration)
        foreground.arm()
        started = start_verification(
            at.store, old.id, it, who=caller(), defaults=settings.defaults, rate=rate,
            sample=None if all_ else SAMPLE if sample is None else sample,
            new_collection=new_collection,
        )  # fmt: skip
        screen.say(f"Run {started.id} verifies run {old.id} of {old.migration} on {old.ns}.")
        return conclude(screen, at, foreground.work(started, it or definition(old), team))
