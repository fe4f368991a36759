"""Inserts, counts and deletes samples: documents to migrate and runs to look at."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response

from whimbrel.api.authorization import RANKS, Admin, Caller, Operator, Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import WholeNumberText, failures
from whimbrel.api.models.seeds import (
    AllSeeded,
    SampleNumbers,
    SampleTotals,
    SeedAll,
    SeedCleared,
    SeedConfirmation,
    Seeded,
    SeedGuide,
    SeedJobStatus,
    SeedOptions,
    SeedRequest,
    SeedSomeModel,
    SeedStats,
    stats_model,
)
from whimbrel.bootstrap import Opened, samples
from whimbrel.errors import CollectionBusy
from whimbrel.samples.guide import CONFIRM, EXAMPLES, LONG, MOST
from whimbrel.samples.migration import COLLECTION
from whimbrel.samples.runs import sample_runs
from whimbrel.samples.seeder import documents
from whimbrel.samples.seeding import Progress, Seed, Seeding

RUNS = "whimbrel_runs"
COUNTING = 2.0  # seconds that counts by status may take, as clients poll /seed/stats


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.seeding = Seeding()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(app.state.seeding.close)


router = APIRouter(prefix="/seed", tags=["samples"], lifespan=_lifespan)


def _seeding(request: Request) -> Seeding:
    seeding: Seeding = request.app.state.seeding
    return seeding


ThisSeeding = Annotated[Seeding, Depends(_seeding)]
SEEDED: dict[int | str, dict[str, Any]] = {
    202: {"model": Seeded, "description": f"above {LONG:,} documents: it goes on, see GET /seed/stats"},
    **failures(400, 409, 413, 415, 422),
}


def _ns(system: Opened, name: str = COLLECTION) -> str:
    return f"{system.store.database}.{name}"


def _check_free(system: Opened) -> None:
    """Raises CollectionBusy where documents would be deleted under a run."""
    holder = system.store.ledger.runs.holder(_ns(system))
    if holder is not None:
        raise CollectionBusy(
            f"Run {holder} works on {_ns(system)}. Wait for its end, or cancel it: DELETE /migrate/cancel/{holder}."
        )


def _check_may_clear(system: Opened, caller: Caller) -> None:
    if RANKS[caller.scope] < RANKS["admin"]:
        raise ApiError(
            403, "forbidden", f"clearExisting needs a token of the scope admin; yours is of {caller.scope}."
        )
    _check_free(system)


def _seed(
    system: Opened, seeding: Seeding, caller: Caller, options: SeedOptions, count: int, response: Response
) -> SeedStats:
    """Inserts sample documents: at once, or after the answer where there are many."""
    if options.clear_existing:
        _check_may_clear(system, caller)
    sample_store, seed = samples(system.store), secrets.randbits(32) if options.seed is None else options.seed

    def insert(stop: Callable[[], bool]) -> Iterator[int]:
        why = f"{count} documents by seed {seed}{', the others cleared' if options.clear_existing else ''}"
        system.store.ledger.leases.audit("samples seeded", run="", who=caller.who, why=why)
        if options.clear_existing:
            sample_store.clear()
        sample_documents = documents(count, status=options.status, invalid=options.invalid_ratio, seed=seed)
        yield from sample_store.insert(sample_documents, block=options.batch_size, stop=stop)

    if count > LONG:
        response.status_code = 202
        return stats_model(seeding.start(Seed(count, seed, insert)), _ns(system))
    progress = seeding.run(Seed(count, seed, insert))
    if progress.state != "done":
        raise ApiError(
            409, "seeding_stopped", f"It was stopped after {progress.inserted} of {count} documents."
        )
    return stats_model(progress, _ns(system))


def _seed_runs(system: Opened, caller: Caller, count: int, seed: int | None) -> SeedStats:
    """Inserts sample runs into the ledger."""
    sample_store, seed = samples(system.store), secrets.randbits(32) if seed is None else seed
    system.store.ledger.leases.audit(
        "sample runs seeded", run="", who=caller.who, why=f"{count} by seed {seed}"
    )
    began = time.monotonic()
    inserted = sample_store.insert_runs(
        sample_runs(count, database=system.store.database, now=sample_store.now(), seed=seed)
    )
    took = time.monotonic() - began
    return stats_model(Progress("done", count, seed, inserted, took), _ns(system, RUNS))


@router.post("/some-model", status_code=201, responses=SEEDED)
def some_model(
    deployment: Deployment,
    seeding: ThisSeeding,
    caller: Operator,
    response: Response,
    body: Annotated[SeedSomeModel, Body(default_factory=SeedSomeModel)],
) -> Seeded:
    """Insert sample documents."""
    return Seeded(stats=_seed(deployment, seeding, caller, body, body.count, response))


@router.post("/bulk/{count}", status_code=201, responses=SEEDED)
def bulk(
    deployment: Deployment,
    seeding: ThisSeeding,
    caller: Operator,
    response: Response,
    count: Annotated[
        int, Path(ge=1, le=MOST, description="sample documents", examples=[1000]), WholeNumberText
    ],
    body: Annotated[SeedOptions, Body(default_factory=SeedOptions)],
) -> Seeded:
    """Insert sample documents, their number in the path."""
    return Seeded(stats=_seed(deployment, seeding, caller, body, count, response))


@router.post("/job-status", status_code=201, responses=failures(400, 413, 415, 422))
def job_status(
    deployment: Deployment,
    caller: Operator,
    body: Annotated[SeedJobStatus, Body(default_factory=SeedJobStatus)],
) -> Seeded:
    """Put sample runs into the ledger: completed, completed_with_failures, paused, cancelled and failed ones, in turn.

    GET /migrate lists them, their `migration` ends in `(sample)`. They stay as they are: no coordinator or worker attends to
    a run in these states, and no migration can have such a name, so that they cannot be resumed or retried.
    """
    return Seeded(stats=_seed_runs(deployment, caller, body.count, body.seed))


@router.post(
    "/all",
    status_code=201,
    responses={
        **SEEDED,
        202: {
            "model": AllSeeded,
            "description": "the sample runs are in; the documents follow, see GET /seed/stats",
        },
    },
)
def everything(
    deployment: Deployment,
    seeding: ThisSeeding,
    caller: Operator,
    response: Response,
    body: Annotated[SeedAll, Body(default_factory=SeedAll)],
) -> AllSeeded:
    """Sample documents and sample runs."""
    options = SeedOptions(batch_size=body.batch_size, clear_existing=body.clear_existing)
    inserted = _seed(deployment, seeding, caller, options, body.some_model_count, response)
    if body.clear_existing:
        samples(deployment.store).clear_runs()
    return AllSeeded(
        some_model=inserted, job_status=_seed_runs(deployment, caller, body.job_status_count, None)
    )


@router.get("/stats", responses=failures())
def stats(deployment: Deployment, seeding: ThisSeeding, _: Reader) -> SampleTotals:
    """How many samples there are, by status, and how far a seeding is."""
    sample_store, progress = samples(deployment.store), seeding.progress
    statuses, runs = sample_store.statuses(COUNTING), sample_store.run_statuses()
    return SampleTotals(
        some_model=SampleNumbers(
            collection=_ns(deployment), total=sample_store.estimate() if statuses is None else sum(statuses.values()),
            exact=statuses is not None, by_status=statuses,
        ),
        job_status=SampleNumbers(collection=_ns(deployment, RUNS), total=sum(runs.values()), exact=True, by_status=runs),
        seeding=None if progress is None else stats_model(progress, _ns(deployment)),
    )  # fmt: skip


@router.delete("/clear", responses=failures(400, 409, 413, 415, 422))
def clear(
    deployment: Deployment,
    seeding: ThisSeeding,
    caller: Admin,
    body: Annotated[SeedConfirmation, Body(default_factory=SeedConfirmation)],
    confirm: Annotated[
        str | None, Query(max_length=100, description=f"{CONFIRM}, here or in the body", examples=[CONFIRM])
    ] = None,
) -> SeedCleared:
    """Delete the sample documents and the sample runs. A seeding of this process is stopped first.

    The collection itself stays, empty, with the index that the phases use.
    """
    if CONFIRM not in (confirm, body.confirm):
        raise ApiError(
            400,
            "confirmation_missing",
            f'This deletes all samples. Say that you mean it: {{"confirm": "{CONFIRM}"}} in the body, or ?confirm={CONFIRM}.',
        )
    _check_free(deployment)
    sample_store = samples(deployment.store)
    with seeding.stopped():
        _check_free(deployment)  # stopping may have taken a while
        deployment.store.ledger.leases.audit("samples cleared", run="", who=caller.who)
        return SeedCleared(documents_deleted=sample_store.clear(), runs_deleted=sample_store.clear_runs())


@router.get("/docs", responses=failures())
def docs(_: Reader) -> SeedGuide:
    """How to use these, with examples."""
    return SeedGuide(
        about=f"Samples to try Whimbrel with: documents in the collection {COLLECTION}, which the built-in migration some-model migrates, "
        "and runs in the ledger. A body may be left out; every field of it has a default.",
        requests=[SeedRequest(**asdict(request)) for request in EXAMPLES],
        links={"docs": "/docs", "openapi": "/openapi.json", "stats": "/seed/stats", "runs": "/migrate"},
    )
