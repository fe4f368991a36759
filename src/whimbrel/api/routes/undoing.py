"""Rolls back what a run changed, and removes what it left in the documents."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import Field

from whimbrel.api.authorization import Admin, Operator
from whimbrel.api.deployment import System, ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.seen import HOST, NS, Seen, seen_of
from whimbrel.api.models.terms import Nice, Windows
from whimbrel.api.routes.runs import NewCollection, RunId
from whimbrel.api.routes.starting import Rate, Size, waiting_message
from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating import start_cleanup, start_rollback
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.expectations import check_seen
from whimbrel.engine.rehearsing.rollback_preview import preview_rollback

router = APIRouter(prefix="/migrate", tags=["undo"])


class Confirmed(Model):
    """What must be said once more, because documents are changed by it."""

    confirm: str | None = Field(
        default=None, max_length=100, description="the id of the run, again", examples=[RUN]
    )
    new_collection: NewCollection = False
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0
    seen: Seen | None = Field(default=None, description="what the caller has seen; null: start in any case")


class Undo(Confirmed):
    """How to take a run back."""

    batch_size: Size | None = Field(
        default=None, description="documents in a batch; null: the setting's", examples=[5000]
    )
    max_docs_per_second: Rate | None = Field(
        default=None,
        description="documents a second that all workers together may evaluate; null: as fast as they can",
        examples=[2000],
    )
    priority: Annotated[
        int, Field(strict=True, ge=0, le=10, description="above 5 it goes before others"), WholeNumber
    ] = 0


class Undoing(Answer):
    """A run was started that does it."""

    migration_id: str = Field(description="id of the run that does it", examples=[RUN])
    message: str = Field(description="whether it waits for another run", examples=["Started."])


class CleaningUp(Undoing):
    """A run was started that does it, and what there was to remove."""

    documents: int = Field(description="documents that hold something of the run", examples=[1000])
    bytes: int = Field(description="of before-images and marks, before compression", examples=[250_000])
    exact: bool = Field(description="whether all documents were weighed, not a sample", examples=[True])


class LeftAloneOf(Model):
    """Documents that a rollback would leave as they are."""

    reason: str = Field(description="why", examples=["changed since: price"])
    documents: int = Field(description="of those that were looked at", examples=[3])
    example: Any = Field(
        description="`_id` of one of them, Extended JSON", examples=["665f1f77bcf86cd799439011"]
    )


class Undoable(Answer):
    """What would be worked on. Nothing was written."""

    migration_id: str = Field(description="the run that it would be about", examples=[RUN])
    migration: str = Field(description="name of its migration", examples=["some-model"])
    collection: str = Field(description="database and collection", examples=[NS])
    host: str = Field(description="hosts of MongoDB, or `embedded`: as `seen` wants it", examples=[HOST])
    documents: int = Field(description="documents that hold something of the run", examples=[1000])
    exact: bool = Field(
        description="whether all documents were looked at, not a sample: else `documents` is an estimate",
        examples=[True],
    )


class RollbackPlan(Undoable):
    """What a rollback would do. Nothing was written."""

    examined: int = Field(
        description="documents that were looked at, of those with a before-image", examples=[1000]
    )
    left_alone: int = Field(
        description="that would stay as they are, of all: about, where not all were looked at", examples=[3]
    )
    reasons: list[LeftAloneOf] = Field(description="why, of those that were looked at; the commonest first")


class CleanupPlan(Undoable):
    """What a cleanup would remove for good. Nothing was written."""

    bytes: int = Field(description="of before-images and marks, before compression", examples=[250_000])
    undo_lost: bool = Field(description="whether the run could be rolled back until then", examples=[True])
    marks_lost: bool = Field(
        description="whether its migration would change the documents again afterwards, as its marks go too",
        examples=[False],
    )


@router.get("/rollback/{migrationId}", responses=failures(404, 409, 422))
def rollback_plan(
    system: ThisSystem, _: Operator, migration_id: Annotated[RunId, Path(alias="migrationId")]
) -> RollbackPlan:
    """What a rollback would do: how many documents it would put back, how many it would leave alone, and why.

    It looks at all documents where that takes up to three seconds, else at a random sample.
    """
    preview = preview_rollback(system.deployment.store, migration_id)
    run = preview.run
    return RollbackPlan(
        migration_id=run.id, migration=run.migration, collection=run.ns, host=system.deployment.host, documents=preview.holders, exact=preview.exact,
        examined=preview.examined, left_alone=preview.left_in_all,
        reasons=[LeftAloneOf(reason=each.reason, documents=each.documents, example=id_json(each.example)) for each in preview.reasons],
    )  # fmt: skip


@router.get("/cleanup/{migrationId}", responses=failures(404, 409, 422))
def cleanup_plan(
    system: ThisSystem, _: Operator, migration_id: Annotated[RunId, Path(alias="migrationId")]
) -> CleanupPlan:
    """What a cleanup would remove for good: documents and bytes, and what cannot be done any more afterwards."""
    store = system.deployment.store
    weight = start_cleanup.measure_cleanup(store, migration_id)
    run = find_run(store.ledger, migration_id)
    return CleanupPlan(
        migration_id=run.id, migration=run.migration, collection=run.ns, host=system.deployment.host, documents=weight.documents, exact=weight.exact,
        bytes=weight.size, undo_lost=bool(run.undo) and start_rollback.can_be_rolled_back(store, run), marks_lost=run.mark == "marker",
    )  # fmt: skip


@router.post("/rollback/{migrationId}", status_code=202, responses=failures(400, 404, 409, 413, 415, 422))
def roll_back(
    system: ThisSystem,
    caller: Admin,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Undo, Body(default_factory=Undo)],
) -> Undoing:
    """Put the documents that a run changed back as they were. That is a run itself: watch it by its id.

    Documents that the application has changed since are its conflicts, and stay as they are.
    """
    _check(body, migration_id, "The documents that it changed would be changed back.")
    store = system.deployment.store
    if body.seen is not None:
        preview = preview_rollback(store, migration_id, new_collection=body.new_collection)
        _check_seen(system, body, preview.run.ns, preview.holders, exact=preview.exact)
    started = start_rollback.start_rollback(
        store, migration_id, who=caller.who, defaults=system.settings.defaults,
        batch_size=body.batch_size, rate=body.max_docs_per_second, priority=body.priority,
        new_collection=body.new_collection, terms=Terms(body.windows, body.nice),
    )  # fmt: skip
    return Undoing(migration_id=started.id, message=waiting_message(store.ledger, started))


@router.post("/cleanup/{migrationId}", status_code=202, responses=failures(400, 404, 409, 413, 415, 422))
def clean_up(
    system: ThisSystem,
    caller: Admin,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Confirmed, Body(default_factory=Confirmed)],
) -> CleaningUp:
    """Remove the before-images and marks of a run from the documents: it cannot be rolled back any more.

    That is a run itself: watch it by its id.
    """
    _check(body, migration_id, "It could not be rolled back any more.")
    store = system.deployment.store
    weight = start_cleanup.measure_cleanup(store, migration_id, new_collection=body.new_collection)
    if body.seen is not None:
        ns = find_run(store.ledger, migration_id).ns
        _check_seen(system, body, ns, weight.documents, exact=weight.exact)
    started = start_cleanup.start_cleanup(
        store,
        migration_id,
        who=caller.who,
        defaults=system.settings.defaults,
        new_collection=body.new_collection,
        terms=Terms(body.windows, body.nice),
    )
    return CleaningUp(
        migration_id=started.id, message=waiting_message(store.ledger, started), documents=weight.documents,
        bytes=weight.size, exact=weight.exact,
    )  # fmt: skip


def _check_seen(system: System, body: Confirmed, ns: str, documents: int, *, exact: bool) -> None:
    host = system.deployment.host
    check_seen(seen_of(body.seen), documents=documents, exact=exact, collection=ns, host=host)


def _check(body: Confirmed, run_id: str, why: str) -> None:
    if body.confirm != run_id:
        raise ApiError(
            400, "confirmation_missing", f'{why} If that is what you want, send "confirm": "{run_id}".'
        )
