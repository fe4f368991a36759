"""`cleanup`: remove a run's before-images and marks from the documents."""

from whimbrel.cli.arguments.consent import Yes, agreed
from whimbrel.cli.arguments.options import (
    Json,
    MaxMemory,
    NewCollection,
    Nice,
    RunId,
    Slots,
    Windows,
    Workers,
    begin,
    caller,
    memory,
)
from whimbrel.cli.arguments.which_run import TO_CLEAN_UP, choose_run
from whimbrel.cli.foreground.begin_and_end import conclude, note_stand_alone, open_foreground
from whimbrel.domain.runs.terms import Terms
from whimbrel.domain.text.printable import counted
from whimbrel.engine.executing.restore import definition_without_code
from whimbrel.engine.operating import start_cleanup as cleaning
from whimbrel.workers.worker_pool import WorkerPool


def clean_up(
    run_id: RunId = None,
    yes: Yes = False,
    new_collection: NewCollection = False,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    window: Windows = None,
    nice: Nice = 0,
    json: Json = False,
) -> int:
    """Remove the before-images and marks of a run from the documents. It cannot be rolled back afterwards."""
    settings, screen = begin(json=json)
    pool = WorkerPool(workers=workers, slots=concurrency, memory=memory(max_memory, settings))
    with open_foreground(settings, screen) as (system, foreground):
        old = choose_run(screen, system.store.ledger, run_id, TO_CLEAN_UP)
        note_stand_alone(screen, system)
        weight = cleaning.measure_cleanup(system.store, old.id, new_collection=new_collection)
        approximately = "" if weight.exact else "about "
        screen.say(
            f"Run {old.id} left {approximately}{counted(weight.size, 'byte')} in {approximately}{counted(weight.documents, 'document')} (before compression)."
        )
        question = "Remove them? The run cannot be rolled back then" + (
            ", and its migration would change the documents again." if old.mark == "marker" else "."
        )
        if not agreed(screen, question, yes=yes):
            return 1
        foreground.arm()
        started = cleaning.start_cleanup(
            system.store,
            old.id,
            who=caller(),
            defaults=settings.defaults,
            new_collection=new_collection,
            terms=Terms(window or (), nice),
        )
        screen.say(f"Run {started.id} cleans up after run {old.id} on {started.ns}.")
        return conclude(screen, system, foreground.work(started, definition_without_code(started), pool))
