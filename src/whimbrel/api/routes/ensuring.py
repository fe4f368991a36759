"""Tells deploy pipelines whether a migration is complete and verified, and makes it so step by step."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.models.envelope import Answer, Model, WholeNumberText, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.routes.starting import Strict
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.sequence import HIGHEST
from whimbrel.domain.runs.standing import State
from whimbrel.engine.operating.ensure import Step, ensure_object, next_step
from whimbrel.engine.operating.sequence import standing, standing_of_definition
from whimbrel.engine.rehearsing.finish_step import FinishStep, to_finish
from whimbrel.errors import AlreadyStarted
from whimbrel.workers.function_caller import callers

router = APIRouter(prefix="/migrate", tags=["migration"])

Name = Annotated[str, Path(max_length=200, description="name of the migration", examples=["some-model"])]


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


class Finished(Ensured):
    """How far it is, and what was begun."""

    step: Step | None = Field(
        description="what was done: start, resume, retry or verify; wait: it is at work already; null: nothing",
        examples=["start"],
    )
    step_migration: str | None = Field(
        description="of which migration: this one, or one that it depends on", examples=["some-model"]
    )
    step_migration_id: str | None = Field(description="the run of the step", examples=[RUN])


class Finish(Model):
    """How to go about it."""

    strict: Strict = False


@router.get("/ensure/{name}", responses=failures(404, 422))
def ensure(
    system: ThisSystem,
    _: Reader,
    name: Name,
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


@router.post(
    "/ensure/{name}",
    status_code=202,
    responses={
        200: {
            "model": Finished,
            "description": "nothing is left to do, or nothing that a step could do: `message` says why",
        },
        **failures(400, 404, 409, 413, 415, 422),
    },
)
def finish(
    system: ThisSystem,
    caller: Operator,
    response: Response,
    name: Name,
    body: Annotated[Finish, Body(default_factory=Finish)],
) -> Finished:
    """Do the next step until a migration is complete and verified: of what it depends on first. Each call does one, and none of it twice at the same time.

    Ask GET /migrate/ensure/{name}, or for the run of the step, until that has ended; then call again, until it is ensured. `resume` and `retry` go on
    with what has stopped or failed: where one of them comes again, the run has failed again, and a person must look at it.
    """
    store, definition = system.deployment.store, system.evaluated(name)
    pool = system.pool
    step = FinishStep(
        store, who=caller.who, defaults=system.settings.defaults, route="POST /migrate/ensure/{name}",
        callers=callers(pool.source, pool.left_out), strict=body.strict,
    )  # fmt: skip
    done: dict[str, Any] = {"step": None, "step_migration": None, "step_migration_id": None}
    response.status_code = 200
    for needed in to_finish(store, system.loaded, definition):
        if (following := next_step(found := standing_of_definition(store, needed))) is None:
            continue
        kind, run = following
        try:
            worked_on: str | None = step.take(kind, run, needed, found).id
        except AlreadyStarted:
            kind, worked_on = "wait", standing_of_definition(store, needed).newest or None
        done = {"step": kind, "step_migration": needed.name, "step_migration_id": worked_on}
        response.status_code = 202
        break
    told = standing(store, definition.name, definition.version, definition.database, definition.collection)
    return Finished(**ensure_object(store, definition, definition.version, told), **done)
