"""Models of a run's course in time."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.runs.series import SPARK_SECONDS, SPARKS

AT = "2026-11-24T12:00:00.000Z"


class PointOf(Model):
    """What a run did in a stretch of time in which it worked."""

    at: str = Field(description="when it begins: RFC 3339", examples=[AT])
    until: str = Field(description="when it ends: RFC 3339", examples=["2026-11-24T12:00:05.000Z"])
    worked: float = Field(
        ge=0, description="seconds that it worked between, without waits and pauses", examples=[5.0]
    )
    documents: int = Field(
        description="documents evaluated; all points of a run together have its `processedItems`. Below zero where what a lost worker had done is no longer known, and is done again",
        examples=[60_000],
    )
    rate: float = Field(ge=0, description="documents a second of work", examples=[12000.0])
    failed: int = Field(ge=0, description="documents with an unresolved failure at its end", examples=[2])
    share: float = Field(
        ge=0, le=1, description="mean share of its speed that the run was allowed", examples=[1.0]
    )
    chunk_seconds: float | None = Field(
        description="median time of a chunk, of batches that were settled; null: none was. As exact as the histogram in which chunk times are kept, whose classes end at 0.05, 0.1, 0.25, 0.5, 1, 2, 5 and 10 seconds; 10 stands for that or more",
        examples=[0.21],
    )
    chunks: int = Field(ge=0, description="of how many chunks", examples=[60])


class HoldupOf(Model):
    """A time in which a run did not work, or went slower."""

    from_: str = Field(alias="from", description="when it began: RFC 3339", examples=[AT])
    to: str = Field(
        description="when it ended, or until when it has lasted so far: RFC 3339",
        examples=["2026-11-24T12:10:00.000Z"],
    )
    state: Literal[
        "waiting", "slowed", "queued", "pausing", "paused", "cancelling", "failed", "unattended"
    ] = Field(description="unattended: no process coordinated it", examples=["waiting"])
    signal: str | None = Field(
        description="of waiting and slowed: what holds it back most, as in the reasons of a run; null: something else, as `said` tells",
        examples=["window"],
    )
    said: str = Field(description="the same for people", examples=["outside its windows"])
    share: float = Field(ge=0, le=1, description="least share of its speed that it had", examples=[0.0])
    times: int = Field(
        ge=1,
        description="how many were merged to this one, as there were too many; the rest is of the longest",
        examples=[1],
    )
    seconds: float = Field(ge=0, description="how long all of them lasted", examples=[600.0])


class MarkOf(Model):
    """Something that somebody did to a run."""

    at: str = Field(description="RFC 3339", examples=[AT])
    what: str = Field(description="as the audit has it", examples=["settings changed"])
    why: str = Field(description="what was changed, or why", examples=["rate 2000"])
    who: str = Field(description="who did it", examples=["api:anna@10.0.0.7"])


class SeriesAnswer(Answer):
    """A run's course."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    from_: str | None = Field(
        alias="from", description="what the answer begins with: RFC 3339", examples=[AT]
    )
    to: str | None = Field(description="what it ends with: RFC 3339", examples=["2026-11-24T13:00:00.000Z"])
    seconds: float = Field(description="about how long a point is, at most", examples=[20.0])
    points: list[PointOf] = Field(
        description="oldest first; there are none for times in which the run did not work"
    )
    holdups: list[HoldupOf] = Field(
        description="waits, pauses and slower times, oldest first; they may overlap"
    )
    marks: list[MarkOf] = Field(description="changes of settings, and what else people did, oldest first")
    older_left_out: bool = Field(
        description="whether marks, and the pauses and queueing among `holdups`, are missing before the oldest mark: the last 1,000 entries of its audit count",
        examples=[False],
    )


class SparksAnswer(Answer):
    """The speed of several runs in the last quarter of an hour."""

    from_: str = Field(alias="from", description="when the first stretch begins: RFC 3339", examples=[AT])
    seconds: int = Field(description="of each stretch", examples=[SPARK_SECONDS])
    rates: Mapping[str, Sequence[float | None]] = Field(
        description=f"by the id of the run: documents a second in each of {SPARKS} stretches, the oldest first; null: it did not work. The last stretch is not over yet",
        examples=[{RUN: [None] * (SPARKS - 2) + [11800.0, 12000.0]}],
    )
    unknown: list[str] = Field(description="ids of which there is no run", examples=[[]])
