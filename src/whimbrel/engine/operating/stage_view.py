"""What is known of the stages of a run, as people see it."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.stages import Stages, StageState, documents_through
from whimbrel.domain.runs.states import RunStatus


def stages_object(run: Run, shown: Callable[[datetime | None], str | None]) -> dict[str, Any] | None:
    """Returns the stages of a run as the REST API and `--json` show them; None where it has none. `shown`: writes a time."""
    if run.stages is None:
        return None
    return {
        "current": (run.stage or 0) + 1, "hold": run.stages.hold, "approve": run.stages.approve,
        "stages": [_stage_object(run, run.stages, position, shown) for position in range(len(run.stages.stages))],
    }  # fmt: skip


def _stage_object(
    run: Run, stages: Stages, position: int, shown: Callable[[datetime | None], str | None]
) -> dict[str, Any]:
    stage = stages.stages[position]
    return {
        "stage": position + 1, "asked": stage.asked, "documents": documents_through(stages, position, run.estimated),
        "state": stage_state(run, position), "evaluated": stage.evaluated, "failed": stage.failed, "conflicts": stage.conflicts,
        "gate": [{"check": finding.check, "passed": finding.passed, "said": finding.sentence} for finding in stage.gate],
        "lookedAt": shown(stage.looked_at), "heldUntil": shown(stage.held_until), "passedAt": shown(stage.passed_at),
        "approvedBy": stage.approved_by,
    }  # fmt: skip


def stage_state(run: Run, position: int) -> str:
    """Returns how far a stage is: `waiting` before it, `running` in it, then as its gate says; of the last one whether the run has completed."""
    stages, now = run.stages, run.stage or 0
    if stages is None or position > now:
        return "waiting"
    if position == stages.gates:
        ended = run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)
        return "passed" if ended else "running"
    state = stages.stages[position].state
    return "running" if state is StageState.OPEN else str(state)


def stage_lines(run: Run) -> list[str]:
    """Returns a line about each stage, for people."""
    if run.stages is None:
        return []
    lines = []
    for position, stage in enumerate(run.stages.stages):
        looked = (
            f", {stage.evaluated:,} evaluated, {stage.failed + stage.conflicts:,} failed"
            if stage.looked_at
            else ""
        )
        by = (
            f", approved by {stage.approved_by} at {stage.passed_at:%Y-%m-%d %H:%M:%S} UTC"
            if stage.approved_by and stage.passed_at
            else ""
        )
        until = (
            f" until {stage.held_until:%Y-%m-%d %H:%M:%S} UTC"
            if stage.state is StageState.HOLDING and stage.held_until
            else ""
        )
        why = "".join(f"; {finding.sentence}" for finding in stage.gate if finding.passed is False)
        documents = documents_through(run.stages, position, run.estimated)
        lines.append(
            f"{stage.asked} (about {documents:,}): {stage_state(run, position)}{until}{looked}{by}{why}"
        )
    return lines
