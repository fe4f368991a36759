"""`resume`: go on with a run that was paused, failed, or lost its processes."""

from whimbrel.bootstrap import check_broker
from whimbrel.cli.arguments.budget_options import MaxFailureRate, MaxFailures, MaxNewCause, budget_change
from whimbrel.cli.arguments.options import (
    Json,
    MaxMemory,
    NewCollection,
    RunId,
    Slots,
    Source,
    Workers,
    begin,
    caller,
)
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_RESUME, choose_run
from whimbrel.cli.foreground.begin_and_end import Detach, code_of, go_on, pool_of
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.failure_budget import Change
from whimbrel.engine.operating.start_over import start_over
from whimbrel.errors import StateForbids
from whimbrel.ports import Ledger


def resume(
    run_id: RunId = None,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    detach: Detach = False,
    new_collection: NewCollection = False,
    max_failures: MaxFailures = None,
    max_failure_rate: MaxFailureRate = None,
    max_new_cause: MaxNewCause = None,
    json: Json = False,
) -> int:
    """Go on with a run that was paused, failed, or lost its processes."""
    settings, screen = begin(json=json)
    budget = budget_change(max_failures, max_failure_rate, max_new_cause)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    with Interrupts() as interrupts, open_database(settings, screen, chooses=True) as system:
        old = choose_run(screen, system.store.ledger, run_id, TO_RESUME)
        check_broker(settings)
        definition, pool = code_of(old, pool)
        interrupts.arm()
        if new_collection:
            ready = start_over(system.store, old.id, definition, who=caller(), budget=budget)
            screen.say(f"Run {old.id} is cancelled, and this one goes on in its place:")
        else:
            ready = _resumed(system.store.ledger, old.id, definition, budget)
        screen.say(f"Run {ready.id} of {definition.name} on {ready.ns} is {ready.status}.")
        return go_on(system, settings, screen, interrupts, ready, definition, None if detach else pool)


def _resumed(ledger: Ledger, run_id: str, definition: Definition, budget: Change) -> Run:
    """Resumes a run. One that is queued or running without workers needs workers, not another state."""
    old = control.find_run(ledger, run_id)  # again: loading the code has taken a while
    if old.status not in (RunStatus.RUNNING, RunStatus.QUEUED):
        return control.resume(ledger, old.id, who=caller(), code=definition, budget=budget)
    if old.code_hash != definition.code_hash:
        raise StateForbids(
            f"Run {old.id} is {old.status} with another code of {definition.name} than the one loaded here. "
            f"Pause it first, then resume it with the new code: whimbrel pause {old.id}"
        )
    return control.adjust(ledger, old.id, who=caller(), **budget) if budget else old
