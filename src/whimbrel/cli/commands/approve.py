"""`approve`: let a run in stages go on."""

from whimbrel.cli.arguments.options import Json, RunId, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_APPROVE, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.foreground.other_workers import leave_to_others
from whimbrel.engine.operating import stages


def approve(run_id: RunId = None, json: Json = False) -> int:
    """Let a run in stages go on: after a stage that waits for it, or that its gate has refused."""
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, chooses=True) as system:
        run = choose_run(screen, system.store.ledger, run_id, TO_APPROVE)
        approved = stages.approve(system.store.ledger, run.id, who=caller())
        screen.say(f"Approved: run {approved.id} goes on.")
        return leave_to_others(screen, system, approved)
