"""Changes settings of a run while it works."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import ConfigDict, Field, model_validator

from whimbrel.api.authorization import Operator
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.budgets import (
    MAX_FAILURE_RATE,
    MAX_FAILURES,
    MAX_NEW_CAUSE,
    Failures,
    FailuresOfOne,
    Share,
    budget_of,
)
from whimbrel.api.models.envelope import Answer, Model, WholeNumber, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.terms import NIGHT, Nice, Windows
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
    windows: Windows = Field(default_factory=_no_default)
    nice: Nice = Field(default_factory=_no_default, examples=[1])
    max_failures: Failures = Field(default_factory=_no_default, description=MAX_FAILURES, examples=[1000])
    max_failure_rate: Share = Field(default_factory=_no_default, description=MAX_FAILURE_RATE, examples=[0.1])
    max_new_cause: FailuresOfOne = Field(
        default_factory=_no_default, description=MAX_NEW_CAUSE, examples=[100]
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
            raise ValueError(
                "give at least one of batchSize, maxDocsPerSecond, priority, windows, nice, maxFailures, maxFailureRate, maxNewCause and follow"
            )
        return self

    def changes(self) -> dict[str, Any]:
        names = {
            "batch_size": "batch_size",
            NULLABLE: "rate",
            "priority": "priority",
            "windows": "windows",
            "nice": "nice",
            "follow": "follow",
        }
        changes = {names[field]: getattr(self, field) for field in names if field in self.model_fields_set}
        return changes | budget_of(self)


class SettingsOf(Answer):
    """The settings of the run as they are now."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    batch_size: int = Field(description="documents in a batch that is planned from now on", examples=[5000])
    max_docs_per_second: int | None = Field(
        description="documents a second that all workers together may evaluate; null: no limit",
        examples=[2000],
    )
    priority: int = Field(description="0 to 10; above 5 it goes before others", examples=[0])
    windows: list[str] = Field(description="hours in which it works; empty: at any time", examples=[[NIGHT]])
    nice: int = Field(description="0 to 100: its share is at most 1/(1+nice)", examples=[0])
    max_failures: int | None = Field(
        description="failed documents that it may have before it pauses; null: any number", examples=[None]
    )
    max_failure_rate: float | None = Field(
        description="share of the documents that may fail before it pauses; null: any", examples=[0.1]
    )
    max_new_cause: int | None = Field(
        description="failures of one cause that nobody has seen before, at which it pauses; null: any number",
        examples=[20],
    )
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
    """Change how a run goes on: its rate, windows, `nice` and failure budget within a second, the rest for batches that are planned from now on."""
    run = control.adjust(deployment.store.ledger, migration_id, who=caller.who, **body.changes())
    return SettingsOf(
        migration_id=run.id,
        batch_size=run.batch_size,
        max_docs_per_second=run.rate,
        priority=run.priority,
        windows=list(run.windows),
        nice=run.nice,
        max_failures=run.budget.failures,
        max_failure_rate=run.budget.rate,
        max_new_cause=run.budget.new_cause,
        follow=None if run.follow is None else run.follow.wanted,
    )
