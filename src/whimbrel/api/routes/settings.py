"""Changes settings of a run while it works."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import ConfigDict, Field, model_validator

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.runs import RUN
from whimbrel.api.routes.runs import RunId
from whimbrel.api.routes.starting import Rate, Size
from whimbrel.engine.operating import control

router = APIRouter(prefix="/migrate", tags=["migration"])

Priority = Annotated[int, Field(strict=True, ge=0, le=10), WholeNumber]
NULLABLE = "max_docs_per_second"


def _no_default() -> Any:
    """Is not a default in the schema, so that null for a size or a priority is refused."""


class Settings(Model):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    batch_size: Size = Field(
        default_factory=_no_default,
        description="documents in a batch that is planned from now on",
        examples=[5000],
    )
    max_docs_per_second: Rate | None = Field(
        default_factory=_no_default,
        description="documents a second that all workers together may evaluate; null: as fast as they can",
        examples=[2000],
    )
    priority: Priority = Field(
        default_factory=_no_default, description="above 5 it goes before others", examples=[7]
    )
    follow: Annotated[
        bool,
        Field(
            strict=True,
            description="false ends following: what was written so far is done, a last sweep looks at everything, and the run ends; true is refused where the run does not follow",
        ),
    ] = Field(default_factory=_no_default, examples=[False])

    @model_validator(mode="after")
    def _says_something(self) -> "Settings":
        if not self.model_fields_set:
            raise ValueError("give at least one of batchSize, maxDocsPerSecond, priority and follow")
        return self

    def changes(self) -> dict[str, Any]:
        names = {
            "batch_size": "batch_size", NULLABLE: "rate", "priority": "priority", "follow": "follow",
        }  # fmt: skip
        return {names[field]: getattr(self, field) for field in names if field in self.model_fields_set}


class SettingsOf(Answer):
    """The settings of the run as they are now."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    batch_size: int = Field(description="documents in a batch that is planned from now on", examples=[5000])
    max_docs_per_second: int | None = Field(
        description="documents a second that all workers together may evaluate; null: no limit",
        examples=[2000],
    )
    priority: int = Field(description="0 to 10; above 5 it goes before others", examples=[0])
    follow: bool | None = Field(
        description="whether it follows until it is told to end; null: it does not follow", examples=[None]
    )


@router.patch("/settings/{migrationId}", responses=failures(400, 404, 409, 413, 415, 422))
def change_settings(
    deployment: Deployment,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Settings, Body()],
) -> SettingsOf:
    """Change how a run goes on: its rate within a second, the rest for batches that are planned from now on."""
    run = control.adjust(deployment.store.ledger, migration_id, who=caller.who, **body.changes())
    return SettingsOf(
        migration_id=run.id,
        batch_size=run.batch_size,
        max_docs_per_second=run.rate,
        priority=run.priority,
        follow=None if run.follow is None else run.follow.wanted,
    )
