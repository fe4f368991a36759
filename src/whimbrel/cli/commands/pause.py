"""`pause`: stop a run, and wait until it has stopped."""

from whimbrel.cli.arguments.options import Json, RunId, caller
from whimbrel.cli.arguments.which_run import TO_PAUSE
from whimbrel.cli.foreground.stop_and_wait import Wait, stop
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.ports import Ledger


def pause(run_id: RunId = None, wait: Wait = True, json: Json = False) -> int:
    """Stop a run within a chunk. `whimbrel resume` goes on where it stopped."""
    return stop(run_id, TO_PAUSE, _pause, "Go on with: whimbrel resume {}", wait=wait, json=json)


def _pause(ledger: Ledger, run: Run) -> Run:
    stopped = run.status in (RunStatus.PAUSING, RunStatus.PAUSED)
    return run if stopped else control.pause(ledger, run.id, who=caller())
