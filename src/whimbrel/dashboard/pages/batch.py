"""One batch: its range, who has it and since when, how far it is, and what became of its documents."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.http_errors import ApiError
from whimbrel.dashboard.rendering import render
from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, BatchStatus
from whimbrel.engine.operating import control

router = APIRouter(prefix="/dashboard/runs/{migrationId}/batches", include_in_schema=False)

NAMED = 20  # ids that the page shows of a batch of named documents


@router.get("/{number}")
def batch_page(
    request: Request,
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[str, Path(alias="migrationId", max_length=200)],
    number: Annotated[int, Path(ge=1, le=10**15)],
) -> Response:
    """The page of a batch, by its number in the run."""
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    batch, last = ledger.batches.get(f"{run.id}.{number}"), ledger.batches.last_seq(run.id)
    if batch is None:
        why = f"its batches go up to {last:,}" if last else "nothing of it is planned yet"
        raise ApiError(404, "batch_unknown", f"Run {run.id} has no batch {number:,}: {why}.")
    return render(
        request, "batch.html", run=run, batch=batch, last=last, **batch_facts(run, batch, datetime.now(UTC))
    )


def batch_facts(run: Run, batch: Batch, now: datetime) -> dict[str, Any]:
    """Returns what the page says of a batch beside its row."""
    done = (
        batch.known.total + batch.progress.failed
        if batch.status is not BatchStatus.DONE
        else batch.known.total
    )
    return {
        "seconds": _seconds(batch, now), "ended": run.status in ENDED, "lo": _shown(batch.lo), "hi": _shown(batch.hi), "ids": [id_json(key) for key in (batch.ids or ())[:NAMED]],
        "in_hand": batch.status is BatchStatus.RUNNING, "done": done,
        "suspect": _shown(batch.suspect),
    }  # fmt: skip


def _seconds(batch: Batch, now: datetime) -> float | None:
    """Returns how long it took from its last claim to its end, or how long it is in hand; None where nobody has it."""
    if batch.claimed_at is None or (batch.settled_at is None and batch.status is not BatchStatus.RUNNING):
        return None
    return max(0.0, ((batch.settled_at or now) - batch.claimed_at).total_seconds())


def _shown(key: Key | None) -> Any:
    return None if key is None else id_json(key)
