"""Settings of a run that may be changed while it works."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import Field, model_validator

from whimbrel.api.access import Operator
from whimbrel.api.answers import Answer, Model, failures
from whimbrel.api.routes.runs import RunId
from whimbrel.api.routes.starting import Rate, Size
from whimbrel.api.runs import RUN
from whimbrel.api.system import Deployment
from whimbrel.engine import control

router = APIRouter(prefix="/migrate", tags=["migration"])

Priority = Annotated[
    int, Field(strict=True, ge=0, le=10, description="above 5 it goes before others", examples=[7])
]
NULLABLE = "max_docs_per_second"


class Settings(Model):
    """What to change; what is left out stays as it is."""

    batch_size: Size | None = None
    max_docs_per_second: Rate | None = None
    priority: Priority | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Settings":
        if not self.model_fields_set:
            raise ValueError("give at least one of batchSize, maxDocsPerSecond and priority")
        if any(getattr(self, name) is None for name in self.model_fields_set - {NULLABLE}):
            raise ValueError("only maxDocsPerSecond can be null")
        return self

    def changes(self) -> dict[str, Any]:
        names = {"batch_size": "batch_size", NULLABLE: "rate", "priority": "priority"}
        return {names[field]: getattr(self, field) for field in names if field in self.model_fields_set}


class SettingsOf(Answer):
    migration_id: str = Field(description="id of the run", examples=[RUN])
    batch_size: int = Field(description="documents in a batch that is planned from now on", examples=[5000])
    max_docs_per_second: int | None = Field(
        description="documents a second that all workers together may evaluate; null: no limit",
        examples=[2000],
    )
    priority: int = Field(description="0 to 10; above 5 it goes before others", examples=[0])


@router.patch("/settings/{migrationId}", responses=failures(400, 404, 409, 413, 415, 422))
def change_settings(
    at: Deployment,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Settings, Body()],
) -> SettingsOf:
    """Change how a run goes on: its rate within a second, the rest for batches that are planned from now on."""
    run = control.adjust(at.store.ledger, migration_id, who=caller.who, **body.changes())
    return SettingsOf(
        migration_id=run.id,
        batch_size=run.batch_size,
        max_docs_per_second=run.rate,
        priority=run.priority,
    )
