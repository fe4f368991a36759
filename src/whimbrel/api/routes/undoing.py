"""Rolls back what a run changed, and removes what it left in the documents."""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import Field

from whimbrel.api.authorization import Admin
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.runs import RUN
from whimbrel.api.models.terms import Nice, Windows
from whimbrel.api.routes.runs import NewCollection, RunId
from whimbrel.api.routes.starting import Rate, Size, waiting_message
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating import start_cleanup, start_rollback

router = APIRouter(prefix="/migrate", tags=["undo"])


class Confirmed(Model):
    """What must be said once more, because documents are changed by it."""

    confirm: str | None = Field(
        default=None, max_length=100, description="the id of the run, again", examples=[RUN]
    )
    new_collection: NewCollection = False
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0


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


def _check(body: Confirmed, run_id: str, why: str) -> None:
    if body.confirm != run_id:
        raise ApiError(
            400, "confirmation_missing", f'{why} If that is what you want, send "confirm": "{run_id}".'
        )
