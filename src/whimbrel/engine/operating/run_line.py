"""A run as a line of an overview: how it is, why, how far, and until when."""

from typing import Any

from whimbrel.domain.runs.run import work_of
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.run_view import RunView, held_object, iso_time


def line_object(run_view: RunView) -> dict[str, Any]:
    """Returns the run as a line: a part of what its row has, and why it is as it is in one sentence."""
    run, held = run_view.run, held_object(run_view.run)
    over = run.status in ENDED
    whole = run_view.processed / run_view.seconds if over and run_view.seconds else 0.0
    reason = _why(run_view, held)
    since = held["reasons"][0]["since"] if held["reasons"] else None
    return {
        "migrationId": run.id, "migration": run.migration, "kind": run.kind, "of": run.of, "collection": run.ns,
        "status": str(run.status), "phase": work_of(run) if over else run.phase,
        "state": held["state"], "share": held["share"], "reason": reason, "reasonSince": since if reason else None,
        "progress": run_view.progress, "processedItems": run_view.processed, "totalItems": run_view.total,
        "throughput": round(whole, 1) if over else run_view.throughput, "etaSeconds": run_view.eta,
        "failed": run_view.failures["failed"], "conflicts": run_view.failures["conflict"],
        "openFailures": run_view.failures["open"], "deadFailures": run_view.failures["dead"],
        "createdAt": iso_time(run.created_at), "startTime": iso_time(run.started_at), "endTime": iso_time(run.ended_at),
        "undoneBy": run.undone_by,
    }  # fmt: skip


def _why(run_view: RunView, held: dict[str, Any]) -> str | None:
    """Returns what an operator must know: why it stopped, why it goes slower or waits, else what its message says."""
    run = run_view.run
    if run.error:
        return run.error
    if held["reasons"] and not run.message:
        return str(held["reasons"][0]["said"])
    return run.message or None
