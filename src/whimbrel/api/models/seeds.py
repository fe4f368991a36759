"""Models of the samples in the API."""

from typing import Annotated, Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import EXACT, Answer, Model, WholeNumber
from whimbrel.samples.guide import CONFIRM, MOST, MOST_RUNS
from whimbrel.samples.seeder import Status
from whimbrel.samples.seeding import Progress

BatchSize = Annotated[
    int,
    Field(strict=True, ge=1, le=5000, description="documents in one insert", examples=[1000]),
    WholeNumber,
]
Clear = Annotated[
    bool,
    Field(
        strict=True,
        description="delete the samples that are there first; needs the scope admin",
        examples=[False],
    ),
]
Documents = Annotated[
    int, Field(strict=True, ge=1, le=MOST, description="sample documents", examples=[1000]), WholeNumber
]
RunCount = Annotated[
    int, Field(strict=True, ge=1, le=MOST_RUNS, description="sample runs", examples=[100]), WholeNumber
]
RandomSeed = Annotated[
    Annotated[int, Field(strict=True, ge=0, le=EXACT), WholeNumber] | None,
    Field(
        description="the same seed gives the same samples; without one, any, which the answer names",
        examples=[42],
    ),
]


class SeedOptions(Model):
    """Which sample documents."""

    batch_size: BatchSize = 1000
    clear_existing: Clear = False
    status: Status = Field(
        default="mixed", description="of all of them; mixed: a random one each", examples=["mixed"]
    )
    invalid_ratio: float = Field(
        default=0.0, strict=True, ge=0, le=1, allow_inf_nan=False, examples=[0.001],
        description="share (0 to 1) of documents that the sample migration cannot migrate, about",
    )  # fmt: skip
    seed: RandomSeed = None


class SeedSomeModel(SeedOptions):
    """How many sample documents, and which."""

    count: Documents = 1000


class SeedJobStatus(Model):
    """How many sample runs."""

    count: RunCount = 100
    seed: RandomSeed = None


class SeedAll(Model):
    """How many of both."""

    some_model_count: Documents = 1000
    job_status_count: RunCount = 100
    clear_existing: Clear = False
    batch_size: BatchSize = 1000


class SeedConfirmation(Model):
    """That one means it."""

    confirm: str | None = Field(
        default=None, max_length=100, description=f"must be {CONFIRM}", examples=[CONFIRM]
    )


class SeedStats(Model):
    """How far a seeding is, or was."""

    state: Literal["running", "done", "stopped", "failed"] = Field(
        description="stopped: by DELETE /seed/clear or the end of the process", examples=["done"]
    )
    documents_requested: int = Field(description="how many were asked for", examples=[1000])
    documents_inserted: int = Field(
        description="acknowledged by MongoDB; of one that failed, some more may be in", examples=[1000]
    )
    duration_seconds: float = Field(description="seconds that it took, or has taken yet", examples=[0.05])
    documents_per_second: float = Field(description="on average", examples=[20000.0])
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    seed: int = Field(description="what gives the same samples again", examples=[42])
    error: str | None = Field(description="why it failed", examples=[None])


class Seeded(Answer):
    """How far the seeding is; at its end, what it has put in."""

    stats: SeedStats = Field(description="how far it is")


class AllSeeded(Answer):
    """What was put in of both kinds."""

    some_model: SeedStats = Field(description="the sample documents")
    job_status: SeedStats = Field(description="the sample runs, each counted as a document")


class SampleNumbers(Model):
    """What there is of one kind."""

    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    total: int = Field(description="how many there are", examples=[1000])
    exact: bool = Field(
        description="false: counting took longer than two seconds; `total` is from the collection's metadata",
        examples=[True],
    )
    by_status: dict[str, int] | None = Field(
        description="how many of each status; null where counting took longer than two seconds",
        examples=[{"pending": 600, "success": 400}],
    )


class SampleTotals(Answer):
    """How many samples there are."""

    some_model: SampleNumbers = Field(description="sample documents")
    job_status: SampleNumbers = Field(description="sample runs")
    seeding: SeedStats | None = Field(
        description="the seeding of this process that goes on, or its last one; null: there was none"
    )


class SeedCleared(Answer):
    """The samples were deleted."""

    documents_deleted: int = Field(
        description="sample documents that were there, by the collection's metadata", examples=[1000]
    )
    runs_deleted: int = Field(description="sample runs", examples=[100])


class SeedRequest(Model):
    """One request, by example."""

    method: str = Field(description="of HTTP", examples=["POST"])
    path: str = Field(description="where", examples=["/seed/some-model"])
    scope: str = Field(description="what the token must allow", examples=["operate"])
    does: str = Field(description="what comes of it", examples=["Insert sample documents."])
    body: dict[str, Any] | None = Field(description="an example of a body", examples=[{"count": 5000}])
    answers: dict[str, str] = Field(
        description="by status; every failure is in the envelope", examples=[{"201": "the documents are in"}]
    )


class SeedGuide(Answer):
    """How to use the sample routes."""

    about: str = Field(description="what samples are", examples=["Samples to try Whimbrel with."])
    requests: list[SeedRequest] = Field(description="in the order in which one would try them")
    links: dict[str, str] = Field(description="where all is described", examples=[{"docs": "/docs"}])


def stats_model(progress: Progress, collection: str) -> SeedStats:
    return SeedStats(
        state=progress.state, documents_requested=progress.requested, documents_inserted=progress.inserted,
        duration_seconds=round(progress.seconds, 3), documents_per_second=round(progress.inserted / progress.seconds, 1) if progress.seconds else 0.0,
        collection=collection, seed=progress.seed, error=progress.error,
    )  # fmt: skip
