"""Starts runs over exactly the documents that a request names."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Response
from pydantic import Field

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.http_errors import ApiError, bad_fields
from whimbrel.api.json_bodies import ParsedRoute
from whimbrel.api.middleware.audit import DRY
from whimbrel.api.models.budgets import Budgeted
from whimbrel.api.models.envelope import Answer, Fault, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.run_parts import Warned, warned_models
from whimbrel.api.models.terms import Nice, Windows
from whimbrel.api.routes.starting import Size, Strict, start_message
from whimbrel.domain.bson.document_ids import id_json, parse_id
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating.failure_budget import with_budget
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.start import asked_through
from whimbrel.engine.operating.start_by_ids import choose_ids, start_by_ids
from whimbrel.samples.migration import SOME_MODEL

router = APIRouter(prefix="/migrate", tags=["migration"], route_class=ParsedRoute)


class Bulk(Budgeted):
    """Exactly these documents."""

    ids: list[Any] = Field(
        min_length=1,
        max_length=100_000,
        description="the documents' `_id`s, as Extended JSON; a text of 24 hexadecimal digits that is the `_id` of no document stands for the ObjectId",
        examples=[["65a1b2c3d4e5f60718293a4b", {"$oid": "65a1b2c3d4e5f60718293a4c"}, 42, "some-key"]],
    )
    migration: str = Field(default=SOME_MODEL.name, max_length=200, description="name of the migration")
    batch_size: Size | None = Field(
        default=None, description="documents in a batch; at most 1,000 here", examples=[1000]
    )
    dry_run: Annotated[bool, Field(strict=True, description="only look the ids up: nothing is written")] = (
        False
    )
    strict: Strict = False
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0


class BulkStarted(Answer):
    """A run over these documents was started; or, by `dryRun` or because nothing is left to do, what it would be."""

    migration_id: str | None = Field(description="id of the run; null where none was started", examples=[RUN])
    message: str = Field(description="what happened", examples=["Started."])
    total_documents: int = Field(description="documents that the ids name", examples=[3])
    eligible_documents: int = Field(
        description="of those: not done yet, and of the migration's filter", examples=[2]
    )
    estimated_batches: int = Field(description="in which the run takes them", examples=[1])
    unknown_ids: int = Field(description="ids that no document has", examples=[1])
    unknown: list[Any] = Field(
        description="the first hundred of those, as relaxed Extended JSON", examples=[["some-key"]]
    )
    dry_run: bool = Field(description="whether it was one", examples=[False])
    warnings: list[Warned] = Field(
        description="what preflight found; also kept in the run. Empty where nothing is left to do",
        examples=[[]],
    )


@router.post(
    "/bulk",
    status_code=202,
    responses={
        200: {
            "model": BulkStarted,
            "description": "nothing was started: a dry run, or nothing is left to do",
        },
        **failures(400, 404, 409, 413, 415, 422),
    },
)
def bulk(
    system: ThisSystem, caller: Operator, response: Response, body: Annotated[Bulk, Body()]
) -> BulkStarted:
    """A run over exactly these documents. What is done already, or not of the migration's filter, is left alone."""
    definition = system.evaluated(body.migration)
    store = system.deployment.store
    chosen = choose_ids(
        store, definition, _keys(body.ids), defaults=system.settings.defaults, batch_size=body.batch_size
    )
    answer = BulkStarted(
        migration_id=None, message="Nothing was written.", total_documents=len(chosen.keys),
        eligible_documents=chosen.eligible, estimated_batches=chosen.batches, unknown_ids=len(chosen.unknown),
        unknown=[id_json(key) for key in chosen.unknown[:100]], dry_run=body.dry_run, warnings=[],
    )  # fmt: skip
    response.status_code = 200
    if not body.dry_run and not chosen.eligible:
        return answer.model_copy(update={"message": "Nothing is left to do: no run was started."})
    if not body.dry_run:
        check_dependencies(store, definition)
    run = Terms(body.windows, body.nice).of(asked_through(chosen.run, "POST /migrate/bulk"))
    run = with_budget(run, body.budget)
    ready = with_warnings(store, definition, run, documents=chosen.eligible, strict=body.strict)
    answer.warnings = warned_models(ready.warnings)
    if body.dry_run:
        response.headers[DRY] = "true"
        return answer
    ahead = store.ledger.runs.ahead(ready.ns)
    run = start_by_ids(store, definition, replace(chosen, run=ready), who=caller.who)
    response.status_code = 202
    return answer.model_copy(update={"migration_id": run.id, "message": start_message(ahead, run.ns)})


def _keys(ids: list[Any]) -> list[Key]:
    """Parses ids. Raises ApiError, which names the first invalid ones."""
    keys, faults = [], []
    for position, id_value in enumerate(ids):
        try:
            keys.append(parse_id(id_value))
        except ValueError as error:
            faults.append(Fault(field=f"body.ids.{position}", message=str(error)))
    if faults:
        sentence, details = bad_fields(faults, len(faults))
        raise ApiError(422, "invalid", f"These ids cannot be used: {sentence}", details)
    return keys
