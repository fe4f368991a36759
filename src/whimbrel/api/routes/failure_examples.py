"""Shows an example of a cause: what went wrong with one document, its stack, and its values now and before."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import Field

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import Deployment
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.failures import GROUP, FailureOf, failure_model
from whimbrel.api.routes.runs import RunId
from whimbrel.engine.operating import control
from whimbrel.engine.operating.failed_document import shown_document

router = APIRouter(prefix="/migrate", tags=["failures"])


class FieldLeftOut(Model):
    """A field that is too large to be shown."""

    name: str = Field(description="its name", examples=["picture"])
    bytes: int = Field(description="its size", examples=[1_200_000])


class DocumentOf(Model):
    """A document of the run's collection. Fields as relaxed Extended JSON, at most 200 of them, 4 kB each and 16 kB together; without Whimbrel's own."""

    now: dict[str, Any] | None = Field(
        description="its values as a majority has them; null: it cannot be read, for the reason in `why`",
        examples=[{"_id": 7, "name": "Ann"}],
    )
    before: dict[str, Any] | None = Field(
        description="its values before the run changed it; null: that is not known, for the reason in `why`",
        examples=[None],
    )
    left_out: list[FieldLeftOut] = Field(description="fields of `now` that are too large", examples=[[]])
    why: str = Field(
        description="why something is null; empty: nothing is",
        examples=["It has no before-image: the run has not changed it."],
    )


class Example(Answer):
    """One of the failures of a cause, if possible a dead one."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    failure: FailureOf = Field(description="what went wrong; its stack is not shortened")
    document: DocumentOf = Field(description="the document that it went wrong with")


@router.get("/failures/{migrationId}/example", responses=failures(404, 422))
def example(
    deployment: Deployment,
    _: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    group: Annotated[
        str,
        Query(
            max_length=2000,
            description="of which cause, by the short name or the signature of its group",
            examples=[GROUP],
        ),
    ],
) -> Example:
    """An example of a cause: the failure of one document, with its stack, and the document's values now and before the run. Nothing is written."""
    store = deployment.store
    run = control.find_run(store.ledger, migration_id)
    name = control.group_of(store.ledger, run.id, group)
    failure = next(iter(store.ledger.failures.list(run.id, group=name, limit=1)), None)
    if failure is None:
        raise ApiError(404, "group_unknown", f"Run {run.id} has no failure of the cause {name} any more.")
    shown = shown_document(store, run, failure.key)
    return Example(
        migration_id=run.id, failure=failure_model(failure).model_copy(update={"traceback": failure.traceback}),
        document=DocumentOf(
            now=shown.now, before=shown.before, why=shown.why,
            left_out=[FieldLeftOut(name=field, bytes=size) for field, size in shown.left_out],
        ),
    )  # fmt: skip
