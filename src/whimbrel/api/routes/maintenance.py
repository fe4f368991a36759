"""Repairs what was left behind: resets documents to pending, releases stuck batches, settles batches without a run."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body
from pydantic import ConfigDict, Field

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.filters import read_filter
from whimbrel.engine.housekeeping import orphans, stuck_batches
from whimbrel.engine.housekeeping import reset_documents as resetting
from whimbrel.samples.migration import SOME_MODEL

router = APIRouter(prefix="/migrate", tags=["maintenance"])

CONFIRMED = "RESET_SUCCESS"
MORE = "Time ran out before all batches of missing runs were settled: send the request again for the rest."
Name = Annotated[str, Field(max_length=200, description="name of the migration", examples=[SOME_MODEL.name])]


class Reset(Model):
    """Which documents to set back to `pending`."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"from": {"items": {"enum": ["processing", "failed"]}}}},
                {"properties": {"confirm": {"const": CONFIRMED}}, "required": ["confirm"]},
            ]
        }
    )

    migration: Name = SOME_MODEL.name
    from_: list[Literal["processing", "failed", "success"]] = Field(
        default=["processing", "failed"],
        alias="from",
        min_length=1,
        max_length=3,
        description="statuses; `success` needs `confirm`",
        examples=[["processing", "failed"]],
    )
    filters: dict[str, Any] | None = Field(
        default=None,
        description="an Extended-JSON query, without the status field",
        examples=[{"n": {"$gt": 5}}],
    )
    confirm: str | None = Field(
        default=None,
        max_length=100,
        description=f"`{CONFIRMED}`: documents that were changed once will be changed again",
        examples=[None],
    )


class ByStatus(Model):
    """Documents reset, by the status that they had."""

    processing: int = Field(description="reset from `processing`", examples=[3])
    failed: int = Field(description="reset from `failed`", examples=[2])
    success: int = Field(description="reset from `success`", examples=[0])


class WasReset(Answer):
    """The documents are `pending` again."""

    reset_documents: int = Field(description="documents that are `pending` now", examples=[5])
    by_status: ByStatus = Field(description="where they came from")
    left_alone: int = Field(
        description="documents that somebody may be working on: held by a live batch, or in `processing` without a batch of ours",
        examples=[0],
    )
    refused: int = Field(
        description="documents that MongoDB refused to change, or that changed at that moment", examples=[0]
    )
    resolved_failures: int = Field(description="failures that are over by it", examples=[2])
    complete: bool = Field(
        description="false where time ran out: send the request again for the rest", examples=[True]
    )


class Released(Model):
    """A batch that is queued again."""

    batch_id: str = Field(description="the batch", examples=[f"{RUN}.7"])
    migration_id: str = Field(description="its run", examples=[RUN])
    worker: str | None = Field(description="who has lost it", examples=["host:4711:1f3a"])
    takeovers: int = Field(description="how often it was lost, this time included", examples=[1])


class StuckRun(Model):
    """A run that does not move."""

    migration_id: str = Field(description="the run", examples=[RUN])
    status: str = Field(description="its state", examples=["running"])
    reasons: list[str] = Field(
        description="why it does not move",
        examples=[["Nobody coordinated it; a process that can does so from now on."]],
    )


class Fixed(Answer):
    """What was found, and done about it."""

    released: list[Released] = Field(
        description="batches whose leases had ended, and that are queued again now"
    )
    stuck: list[StuckRun] = Field(description="runs that do not move, and what they wait for")
    message: str = Field(description="what was done", examples=["1 lost batch is queued again."])


class Missing(Model):
    """Whose documents to look for."""

    migration: Name = SOME_MODEL.name


class OrphanOf(Model):
    """A run that is missing, known by its batches."""

    migration_id: str = Field(description="id of a run that is not in the ledger", examples=[RUN])
    cancelled_batches: int = Field(description="batches of it, settled now", examples=[4])
    held_batches: int = Field(description="batches of it still under a lease: left alone", examples=[0])
    changed: int = Field(description="documents that bear tokens of these batches", examples=[120])
    unchanged: int = Field(description="of those found unchanged", examples=[0])
    skipped: int = Field(description="of those skipped", examples=[0])
    inferred: bool = Field(
        description="whether a batch had been claimed of which no document tells anything", examples=[False]
    )


class Adopted(Answer):
    """What was found of runs that are missing, and of documents that nobody processes."""

    orphans: list[OrphanOf] = Field(description="runs that are missing, by their batches")
    unowned_documents: int | None = Field(
        description="documents in `processing` by no batch of the ledger; null where counting takes too long, or there are no statuses",
        examples=[3],
    )
    migration_id: str | None = Field(description="the run that takes those up", examples=[RUN])
    message: str = Field(description="what was done", examples=["A run was started."])


@router.post("/reset-pending", status_code=202, responses=failures(400, 404, 409, 413, 415, 422))
def reset_pending(
    system: ThisSystem, caller: Operator, body: Annotated[Reset, Body(default_factory=Reset)]
) -> WasReset:
    """Set documents back to `pending`, so that a next run takes them. Not while a run works on the collection."""
    definition = choose(system.loaded, body.migration)
    if "success" in body.from_ and body.confirm != CONFIRMED:
        raise ApiError(
            400,
            "confirmation_missing",
            f'Documents that were changed once would be changed again. If that is what you want, send "confirm": "{CONFIRMED}".',
        )
    filter_ = None if body.filters is None else read_filter(body.filters)
    result = resetting.reset(
        system.deployment.store,
        definition,
        body.from_,
        who=caller.who,
        defaults=system.settings.defaults,
        filter_=filter_,
    )
    numbers = result.by_status
    return WasReset(
        reset_documents=numbers.total(),
        by_status=ByStatus(processing=numbers["processing"], failed=numbers["failed"], success=numbers["success"]),
        left_alone=result.left, refused=result.refused, resolved_failures=result.resolved, complete=result.complete,
    )  # fmt: skip


@router.post("/fix-stuck-jobs", responses=failures())
def fix_stuck_jobs(system: ThisSystem, caller: Operator) -> Fixed:
    """Queue again what dead workers hold, at once, and say which runs do not move.

    A batch is taken from a worker only where its lease has ended a while ago, by the server's clock.
    """
    released, stuck = stuck_batches.release_stuck(system.deployment.store, system.announcer, who=caller.who)
    count = len(released)
    message = (
        "No lost batch was found."
        if not count
        else f"{count} lost batch{'es are' if count > 1 else ' is'} queued again."
    )
    return Fixed(
        released=[
            Released(
                batch_id=batch.token,
                migration_id=batch.run,
                worker=batch.worker,
                takeovers=batch.takeovers + 1,
            )
            for batch in released
        ],
        stuck=[
            StuckRun(
                migration_id=stuck_run.run.id,
                status=str(stuck_run.run.status),
                reasons=list(stuck_run.reasons),
            )
            for stuck_run in stuck
        ],
        message=message,
    )


@router.post("/create-missing-migrations", responses=failures(400, 404, 409, 413, 415, 422))
def create_missing_migrations(
    system: ThisSystem, caller: Operator, body: Annotated[Missing, Body(default_factory=Missing)]
) -> Adopted:
    """Settle batches whose run is not in the ledger, and start a run over documents that nobody processes.

    The first are cancelled, and what they did is counted from the documents. The second are those in
    `processing` by no batch of the ledger; documents that a live worker holds are left alone.
    """
    store, defaults = system.deployment.store, system.settings.defaults
    definition = system.evaluated(body.migration)
    lost = orphans.settle_orphans(store, system.loaded.values(), who=caller.who, defaults=defaults)
    route = "POST /migrate/create-missing-migrations"
    recovery = orphans.recover(store, definition, who=caller.who, defaults=defaults, route=route)
    return Adopted(
        orphans=[
            OrphanOf(
                migration_id=orphan.run, cancelled_batches=orphan.cancelled, held_batches=orphan.held, changed=orphan.counts.changed,
                unchanged=orphan.counts.unchanged, skipped=orphan.counts.skipped, inferred=orphan.inferred,
            )
            for orphan in lost.orphans
        ],
        unowned_documents=recovery.documents if recovery else None,
        migration_id=recovery.run.id if recovery and recovery.run else None,
        message=_recovery_message(recovery) if lost.complete else f"{_recovery_message(recovery)} {MORE}",
    )  # fmt: skip


def _recovery_message(recovery: orphans.Recovery | None) -> str:
    if recovery is None:
        return "The migration has no statuses: its documents are never in processing."
    if recovery.run is None:
        return "No document is in processing by no batch."
    return "A run was started." if recovery.fresh else f"Run {recovery.run.id} takes them up already."
