"""Starts verifications of runs."""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import ConfigDict, Field

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.terms import Nice, Windows
from whimbrel.api.routes.runs import NewCollection, RunId
from whimbrel.api.routes.starting import Rate, Size, waiting_message
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating import control
from whimbrel.engine.operating.start_verification import SAMPLE, start_verification

router = APIRouter(prefix="/migrate", tags=["migration"])

Sample = Annotated[
    int,
    Field(strict=True, ge=0, le=100_000_000, description="documents that are transformed once more", examples=[1000]),
    WholeNumber,
]  # fmt: skip


class Verify(Model):
    """How thoroughly, and how fast: one of `sample` and `all`, not both."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"properties": {"all": {"const": False}}},
                {"properties": {"sample": {"type": "null"}}},
            ]
        }
    )

    sample: Sample | None = Field(
        default=None,
        description=f"of those that the run changed; null: {SAMPLE:,}, unless `all`; 0: none",
    )
    all: Annotated[bool, Field(strict=True, description="transform all of them once more")] = False
    max_docs_per_second: Rate | None = Field(
        default=None,
        description="documents a second that it looks at; null: as fast as it can",
        examples=[2000],
    )
    new_collection: NewCollection = False
    batch_size: Size | None = Field(
        default=None, description="documents in a batch; null: 50,000, or with `all` the server's own"
    )
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0


class Verifying(Answer):
    """A verification was started."""

    migration_id: str = Field(description="id of the verification, which is a run itself", examples=[RUN])
    message: str = Field(description="whether it waits for another run", examples=["Started."])


@router.post("/verify/{migrationId}", status_code=202, responses=failures(400, 404, 409, 413, 415, 422))
def verify(
    system: ThisSystem,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Verify, Body(default_factory=Verify)],
) -> Verifying:
    """Verify a run that has ended. Nothing is written to its collection; the report is in the verification's `report`, at its end."""
    if body.all and body.sample is not None:
        raise ApiError(422, "invalid", "Give one of `sample` and `all`.")
    store = system.deployment.store
    old = control.find_run(store.ledger, migration_id)
    sample = None if body.all else SAMPLE if body.sample is None else body.sample
    started = start_verification(
        store, old.id, system.loaded.get(old.migration), who=caller.who, defaults=system.settings.defaults,
        sample=sample, batch_size=body.batch_size, rate=body.max_docs_per_second, new_collection=body.new_collection,
        terms=Terms(body.windows, body.nice),
    )  # fmt: skip
    return Verifying(migration_id=started.id, message=waiting_message(store.ledger, started))
