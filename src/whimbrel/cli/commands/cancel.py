"""`cancel`: stop a run for good, and wait until it has stopped."""

from whimbrel.cli.arguments.options import Json, RunId, caller
from whimbrel.cli.arguments.which_run import TO_CANCEL
from whimbrel.cli.foreground.stop_and_wait import Wait, stop
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.ports import Ledger


def cancel(run_id: RunId = None, wait: Wait = True, json: Json = False) -> int:
    """Stop a run for good, within a chunk. What it has changed stays changed."""
    return stop(run_id, TO_CANCEL, _cancel, "What it has changed stays changed.", wait=wait, json=json)


def _cancel(ledger: Ledger, run: Run) -> Run:
    stopped = run.status in (RunStatus.CANCELLING, RunStatus.CANCELLED)
    return run if stopped else control.cancel(ledger, run.id, who=caller())
