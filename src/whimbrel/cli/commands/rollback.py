"""`rollback`: put the documents that a run changed back as they were."""

from whimbrel.cli.arguments.consent import Yes, agreed
from whimbrel.cli.arguments.options import (
    Json,
    MaxMemory,
    NewCollection,
    Nice,
    Rate,
    RunId,
    Slots,
    Windows,
    Workers,
    begin,
    caller,
    memory,
)
from whimbrel.cli.arguments.which_run import TO_ROLL_BACK, choose_run
from whimbrel.cli.foreground.begin_and_end import conclude, note_stand_alone, open_foreground
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.executing.restore import definition_without_code
from whimbrel.engine.operating import start_rollback
from whimbrel.workers.worker_pool import WorkerPool


def roll_back(
    run_id: RunId = None,
    yes: Yes = False,
    new_collection: NewCollection = False,
    rate: Rate = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    window: Windows = None,
    nice: Nice = 0,
    json: Json = False,
) -> int:
    """Put the documents that a run changed back as they were, but for those that were changed since."""
    settings, screen = begin(json=json)
    pool = WorkerPool(workers=workers, slots=concurrency, memory=memory(max_memory, settings))
    with open_foreground(settings, screen) as (system, foreground):
        old = choose_run(screen, system.store.ledger, run_id, TO_ROLL_BACK)
        note_stand_alone(screen, system)
        start_rollback.check_rollback(system.store, old)
        if not agreed(
            screen, f"Take back what run {old.id} of {old.migration} changed in {old.ns}?", yes=yes
        ):
            return 1
        foreground.arm()
        started = start_rollback.start_rollback(
            system.store,
            old.id,
            who=caller(),
            defaults=settings.defaults,
            rate=rate,
            new_collection=new_collection,
            terms=Terms(window or (), nice),
        )
        screen.say(f"Run {started.id} rolls back run {old.id} on {started.ns}.")
        return conclude(screen, system, foreground.work(started, definition_without_code(started), pool))
