"""The runs of a schedule: those that its ticks start, and those that a person starts by it at once."""

from dataclasses import replace

from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Schedule, Tick
from whimbrel.domain.runs.states import ENDED
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.schedules import stages_of
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.start import Defaults, asked_through, draft_run, estimate, has_documents
from whimbrel.errors import StateForbids
from whimbrel.ports import Ledger, Store

CHANGED = "Schedule {name} was changed, or started a run, at the same moment. Look at it, and try again."


def draft_scheduled_run(
    store: Store, schedule: Schedule, definition: Definition, *, defaults: Defaults
) -> Run | None:
    """Drafts a run over all phases, unless the filters ask for one. Returns None where nothing matches, and the run would not wait for what will.

    Raises what `draft_run` and `check_dependencies` raise.
    """
    plan = schedule.plan
    query = decoded(plan.filters) if plan.filters else None
    run = draft_run(
        store, definition, defaults=defaults, filter_=query, batch_size=plan.batch_size, priority=plan.priority,
        terms=Terms(plan.windows, plan.nice), follow=plan.follow, stages=stages_of(plan),
    )  # fmt: skip
    check_dependencies(store, definition)
    if run.follow is None and not has_documents(store, run):
        return None
    return asked_through(run, f"schedule {schedule.name}")


def why_overlapping(ledger: Ledger, schedule: Schedule) -> str:
    """Returns why the previous run is in the way, or an empty string."""
    previous = ledger.runs.get(schedule.last_run) if schedule.last_run else None
    if previous is None or previous.status in ENDED:
        return ""
    return f"Run {previous.id}, which it started before, is {previous.status} still."


def run_now(
    store: Store, schedule: Schedule, definition: Definition, *, defaults: Defaults, who: str
) -> Run | None:
    """Starts the run of a schedule as its next tick would; its ticks stay as they are, also where it is disabled. Returns None where nothing matches.

    It is kept in the schedule's row until it is added, as the run of a tick is. Raises StateForbids where the run before is not over, or the schedule
    changes at the same moment, and what starting a run raises.
    """
    ledger = store.ledger
    if why := why_overlapping(ledger, schedule):
        raise StateForbids(f"{why} Wait for its end, or cancel it: whimbrel cancel {schedule.last_run}")
    run = draft_scheduled_run(store, schedule, definition, defaults=defaults)
    if run is None:
        return None
    store.prepare()
    ledger.codes.keep(definition.code_hash, definition.code)
    run = with_warnings(store, definition, run, documents=estimate(store, run))
    now = ledger.schedules.now()
    tick = Tick(due_at=now, first=now, outcome="started", run=run.id, reason=f"By hand, by {who}.")
    if not ledger.schedules.begin_now(schedule, tick, run, who=who):
        raise StateForbids(CHANGED.format(name=schedule.name))
    pending = replace(schedule, pending=run.id)
    if ledger.schedules.add_run(pending):  # else the scheduler, in another process, was quicker
        ledger.schedules.close(pending)
    return run
