"""Tells deploy pipelines whether a migration is complete and verified."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.models.envelope import Answer, Model, WholeNumberText, failures
from whimbrel.api.models.runs import RUN
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.sequence import HIGHEST
from whimbrel.domain.runs.standing import State
from whimbrel.engine.operating.ensure import ensure_object
from whimbrel.engine.operating.sequence import standing

router = APIRouter(prefix="/migrate", tags=["migration"])


class NeededOf(Model):
    """A migration that must be complete before a run of the other may start."""

    migration: str = Field(description="its name", examples=["split-name"])
    version: int = Field(description="the one that is complete, else the one that is needed", examples=[1])
    state: State = Field(description="how far it is", examples=["verified"])
    complete: bool = Field(
        description="whether a run of the other may start, as far as this one is concerned", examples=[True]
    )
    migration_id: str | None = Field(description="the run that decides it", examples=[RUN])


class Ensured(Answer):
    """How far a version of a migration is."""

    migration: str = Field(description="its name", examples=["some-model"])
    version: int = Field(description="the version that was asked about", examples=[1])
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    state: State = Field(
        description="not_started (also after a cancellation or a rollback), running (or waiting for its collection), paused, failed (also: "
        "with failures that are not resolved), complete, or verified",
        examples=["verified"],
    )
    ensured: bool = Field(description="whether it is complete and verified", examples=[True])
    complete: bool = Field(description="whether it is complete, verified or not", examples=[True])
    message: str = Field(description="why, in a sentence", examples=["No run of it was started."])
    migration_id: str | None = Field(
        description="the run that decides it; null: there is none", examples=[RUN]
    )
    verification_id: str | None = Field(description="the newest verification of that run", examples=[None])
    depends_on: list[NeededOf] = Field(
        description="what must be complete before a run of it may start", examples=[[]]
    )


@router.get("/ensure/{name}", responses=failures(404, 422))
def ensure(
    system: ThisSystem,
    _: Reader,
    name: Annotated[str, Path(max_length=200, description="name of the migration", examples=["some-model"])],
    version: Annotated[
        int | None,
        Query(ge=1, le=HIGHEST, description="its version; none: the one that is loaded", examples=[1]),
        WholeNumberText,
    ] = None,
) -> Ensured:
    """Whether a migration is complete and verified: by a verification that began when no run of it was at work any more. Nothing is started."""
    store, definition = system.deployment.store, choose(system.loaded, name)
    asked = version or definition.version
    found = standing(store, definition.name, asked, definition.database, definition.collection)
    return Ensured(**ensure_object(store, definition, asked, found))
