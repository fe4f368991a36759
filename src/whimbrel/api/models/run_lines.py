"""Models of runs as lines of an overview."""

from typing import Literal

from pydantic import Field

from whimbrel.api.models.envelope import Model
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.runs.run import RunKind
from whimbrel.engine.operating.run_line import line_object
from whimbrel.engine.operating.run_view import RunView

MOMENT = "2026-11-24T12:00:00.000Z"


class RunLine(Model):
    """A run in short: how it is, why, how far, and until when. Its fields are those of a run, unless it says otherwise."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    migration: str = Field(description="name of the migration", examples=["some-model"])
    kind: RunKind = Field(description="migration, rollback, cleanup or verification", examples=["migration"])
    of: str | None = Field(
        description="the run that this one rolls back, cleans up or verifies", examples=[None]
    )
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    status: str = Field(description="its state", examples=["running"])
    phase: str = Field(
        description="in which it is; of a run that has ended the one that it was about", examples=["pending"]
    )
    state: Literal["working", "slowed", "waiting"] | None = Field(
        description="of a running run: whether it has its full speed, a part of it, or waits; null: it is not running",
        examples=["slowed"],
    )
    share: float | None = Field(
        ge=0, le=1, description="of a running run: the share of its speed that it has", examples=[0.25]
    )
    reason: str | None = Field(
        description="why it is as it is, in a sentence: what stopped it, what it waits for, what holds it back; null: nothing is to be said",
        examples=["Goes at 25% of its speed since 14:02 UTC: replication lag 2.4 s > 2 s on host2:27017."],
    )
    reason_since: str | None = Field(
        description="since when what holds it back most does so: RFC 3339; null: nothing does",
        examples=[MOMENT],
    )
    progress: float = Field(description="percent of documents evaluated", examples=[50.0])
    processed_items: int = Field(description="documents evaluated, each once", examples=[500])
    total_items: int = Field(description="documents to evaluate", examples=[1000])
    throughput: float = Field(
        description="documents a second now; of the whole run at its end", examples=[12000.0]
    )
    eta_seconds: float | None = Field(
        description="seconds until every document was evaluated, about; null where that cannot be known",
        examples=[3.5],
    )
    failed: int = Field(description="documents with an unresolved failure", examples=[2])
    conflicts: int = Field(description="documents that the application kept changing", examples=[0])
    open_failures: int = Field(
        description="failures, conflicts among them, that are tried again by themselves", examples=[0]
    )
    dead_failures: int = Field(
        description="failures, conflicts among them, that wait for a person", examples=[2]
    )
    created_at: str | None = Field(description="when it was asked for: RFC 3339", examples=[MOMENT])
    start_time: str | None = Field(description="when it began to work: RFC 3339", examples=[MOMENT])
    end_time: str | None = Field(description="RFC 3339", examples=[None])
    undone_by: str | None = Field(description="the run that rolled this one back, or does", examples=[None])


def line_model(run_view: RunView) -> RunLine:
    return RunLine(**line_object(run_view))
