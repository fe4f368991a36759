"""What a person does about the stages of a run."""

from dataclasses import replace

from whimbrel.domain.runs.allowance import Allowance
from whimbrel.domain.runs.run import Run, legs_of, stage_name
from whimbrel.domain.runs.stages import Stage, Stages, StageState
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.failure_budget import note_all_seen
from whimbrel.errors import StagesRefused, StateForbids
from whimbrel.ports import Ledger

WAITING = (StageState.APPROVAL, StageState.REFUSED)


def in_stages(run: Run, stages: Stages | None) -> Run:
    """Returns a run that goes in stages. Raises StagesRefused where it is over a part only."""
    if stages is None:
        return run
    if run.scope.kind != "all" or run.asked in ("processing", "failed"):
        raise StagesRefused(
            "Stages are for a run over all pending documents: leave out the limit, the ids, or the filter on another status."
        )
    return replace(
        run, stages=stages, legs=legs_of(mark=run.mark, scope=run.scope, first=run.asked, stages=stages)
    )


def approve(ledger: Ledger, run_id: str, *, who: str) -> Run:
    """Lets a run go on after a stage that waits for it, or that its gate has refused. Raises RunUnknown, StateForbids."""
    run = control.find_run(ledger, run_id)
    stage = _stage_of(run)
    if stage is None or stage.state not in WAITING:
        raise StateForbids(f"Nothing of run {run.id} waits for an approval: it is {run.status}{_where(run)}.")
    if run.status not in (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED, RunStatus.QUEUED):
        raise StateForbids(f"Run {run.id} is {run.status}: an approval changes nothing any more.")
    note_all_seen(ledger, run.id, who=who, where="a stage that was approved")
    if not ledger.runs.move_stage(run, StageState.PASSED, seen=stage.state, who=who, approved=True):
        raise StateForbids(
            f"{stage_name(run)} of run {run.id} changed at the same moment: look, and try again."
        )
    if stage.state is StageState.REFUSED and run.status in (RunStatus.PAUSING, RunStatus.PAUSED):
        return control.resume(ledger, run.id, who=who)
    return control.find_run(ledger, run.id)


def _stage_of(run: Run) -> Stage | None:
    gated = run.stages is not None and run.stage is not None and run.leg < run.main_leg
    return run.stages.stages[run.stage] if gated and run.stages and run.stage is not None else None


def waits_for_approval(run: Run) -> bool:
    """Whether a person must look at a stage of the run before it goes on."""
    stage = _stage_of(run)
    return stage is not None and stage.state in WAITING


def is_held(run: Run, allowance: Allowance) -> bool:
    """Whether a run that is at work may do nothing now: by its allowance, or because a stage is done, and waits for some time or for a person."""
    stage = _stage_of(run)
    at_gate = stage is not None and stage.state in (StageState.HOLDING, StageState.APPROVAL)
    return allowance.share == 0.0 or at_gate


def _where(run: Run) -> str:
    return f", in {stage_name(run)}" if run.stages is not None else ", and has no stages"
