"""Lists runs and batches as jobs of the old system did, and answers with single batches."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Path, Query
from pydantic import Field

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.batches import BatchAnswer, BatchOf, batch_model
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.list_filters import SEVERAL, Several
from whimbrel.api.models.runs import RunRow, row_model
from whimbrel.api.routes.runs import Cursor, Limit, next_cursor_of, place_of
from whimbrel.domain.runs.run_cursor import WRONG
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import views
from whimbrel.errors import CursorInvalid

router = APIRouter(prefix="/migrate", tags=["migration"])

S = TypeVar("S", RunStatus, BatchStatus)


class Job(Model):
    """A run or a batch."""

    job_type: Literal["migration", "batch"] = Field(
        description="which of the two it is", examples=["migration"]
    )
    job_id: str = Field(description="`migrationId` or `batchId`", examples=[RUN])
    parent_job_id: str | None = Field(description="of a batch: its run", examples=[None])
    status: str = Field(description="its state", examples=["running"])
    total_items: int = Field(description="documents to evaluate, or planned", examples=[1000])
    processed_items: int = Field(description="documents evaluated", examples=[500])
    start_time: str | None = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    end_time: str | None = Field(description="RFC 3339", examples=[None])
    migration: RunRow | None = Field(default=None, description="the run, where it is one")
    batch: BatchOf | None = Field(default=None, description="the batch, where it is one")


class Jobs(Answer):
    """A page of runs, or of one run's batches."""

    count: int = Field(description="of this page", examples=[1])
    jobs: list[Job] = Field(description="runs newest first, or batches in the order of their planning")
    next_cursor: str | None = Field(description="for the next page; null on the last", examples=[None])


@router.get("/batch/{batch}", responses=failures(404, 422))
def batch(
    deployment: Deployment,
    _: Reader,
    batch_id: Annotated[
        str, Path(alias="batch", max_length=200, description="id of the batch", examples=[f"{RUN}.1"])
    ],
) -> BatchAnswer:
    """One batch."""
    batch = deployment.store.ledger.batches.get(batch_id)
    if batch is None:
        raise ApiError(
            404, "batch_unknown", f"There is no batch {batch_id[:100]!r}. GET /migrate/jobs lists them."
        )
    return BatchAnswer(batch=batch_model(batch))


@router.get("/jobs", responses=failures(404, 422))
def jobs(
    deployment: Deployment,
    _: Reader,
    job_type: Annotated[
        Literal["migration", "batch"] | None,
        Query(alias="jobType", description="batches need `parentJobId`", examples=["migration"]),
    ] = None,
    parent_job_id: Annotated[
        str | None,
        Query(
            alias="parentJobId", max_length=200, description="the run whose batches to list", examples=[RUN]
        ),
    ] = None,
    status: Annotated[
        list[RunStatus | BatchStatus] | None,
        Query(description=f"only jobs in this state{SEVERAL}", examples=[["running"]]),
        Several,
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Jobs:
    """Runs, or the batches of one run."""
    ledger = deployment.store.ledger
    if job_type == "batch" or parent_job_id is not None:
        if parent_job_id is None:
            raise ApiError(422, "invalid", "Batches are listed by run: say which with parentJobId.")
        run = control.find_run(ledger, parent_job_id)
        # A batch that is done was `completed` in the old system.
        statuses = _states(BatchStatus, status)
        if statuses is not None and status and RunStatus.COMPLETED in status:
            statuses.append(BatchStatus.DONE)
        after = _number(run.id, cursor)
        batches = ledger.batches.list(run.id, after=after, statuses=statuses, limit=limit)
        rows = [_batch_job(batch_model(batch)) for batch in batches]
        return Jobs(
            count=len(rows), jobs=rows, next_cursor=batches[-1].token if len(batches) == limit else None
        )
    chosen = _states(RunStatus, status)
    runs = ledger.runs.list(statuses=chosen, after=place_of(cursor), limit=limit, brief=True)
    rows = [_run_job(row_model(run_view)) for run_view in views(ledger, runs)]
    return Jobs(count=len(rows), jobs=rows, next_cursor=next_cursor_of(runs, limit))


def _states(kind: type[S], wanted: Sequence[RunStatus | BatchStatus] | None) -> list[S] | None:
    """Returns the states to list: all, or those that this kind of job can be in."""
    if wanted is None:
        return None
    words = {status.value for status in wanted}
    return [state for state in kind if state.value in words]


def _number(run_id: str, cursor: str | None) -> int:
    """Returns the number of the batch that a cursor names. Raises CursorInvalid."""
    if cursor is None:
        return -1
    named_run, _, number = cursor.rpartition(".")
    if named_run != run_id or not re.fullmatch("[0-9]{1,18}", number):
        raise CursorInvalid(WRONG)
    return int(number)


def _run_job(row: RunRow) -> Job:
    return Job(
        job_type="migration", job_id=row.migration_id, parent_job_id=None, status=row.status, total_items=row.total_items,
        processed_items=row.processed_items, start_time=row.start_time, end_time=row.end_time, migration=row,
    )  # fmt: skip


def _batch_job(batch: BatchOf) -> Job:
    return Job(
        job_type="batch", job_id=batch.batch_id, parent_job_id=batch.parent_job_id, status=batch.status, total_items=batch.total_items,
        processed_items=batch.processed_items, start_time=batch.start_time, end_time=batch.end_time, batch=batch,
    )  # fmt: skip
