"""Lists and watches runs; pauses, resumes and cancels them."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment, System, ThisSystem
from whimbrel.api.event_streams import Event, ThisStreams
from whimbrel.api.models.budgets import Budgeted
from whimbrel.api.models.envelope import Answer, WholeNumberText, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.list_filters import SEVERAL, From, Several, To, span_of
from whimbrel.api.models.run_lines import RunLine, line_model
from whimbrel.api.models.runs import RunAnswer, RunRow, row_model, run_model
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run as DomainRun
from whimbrel.domain.runs.run import RunKind
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.run_query import RunOrder, RunQuery
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.executing.restore import definition_without_code
from whimbrel.engine.operating import control, stages
from whimbrel.engine.operating.run_pages import run_page
from whimbrel.engine.operating.run_view import view, views
from whimbrel.engine.operating.start_over import start_over
from whimbrel.ports import Ledger

router = APIRouter(prefix="/migrate", tags=["migration"])

EVERY = 0.5  # seconds between two events of progress
Limit = Annotated[int, Query(ge=1, le=1000, description="rows to answer with"), WholeNumberText]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`nextCursor` of the page before", examples=[None])
]
RunId = Annotated[str, Path(max_length=200, description="id of the run", examples=[RUN])]


NewCollection = Annotated[
    bool,
    Field(
        strict=True,
        description="the collection that the run began with was dropped or renamed: go by the one that has its name now",
    ),
]


class Resume(Budgeted):
    """How to go on. A run that went over its failure budget goes on only by another one, by an accepted cause, or by other code."""

    new_collection: NewCollection = False


class Runs(Answer):
    """A page of runs."""

    count: int = Field(description="of this page", examples=[1])
    migrations: list[RunRow | RunLine] = Field(
        description="in the order that was asked for; with `slim` each in short"
    )
    next_cursor: str | None = Field(description="for the next page; null on the last", examples=[None])


async def _query_of(
    deployment: Deployment,
    *,
    status: Annotated[
        list[RunStatus] | None,
        Query(description=f"only runs in this state{SEVERAL}", examples=[["running"]]),
        Several,
    ] = None,
    migration: Annotated[
        str | None, Query(max_length=200, description="only runs of this migration", examples=["some-model"])
    ] = None,
    kind: Annotated[
        list[RunKind] | None,
        Query(description=f"only runs of this kind{SEVERAL}", examples=[["migration"]]),
        Several,
    ] = None,
    collection: Annotated[
        str | None,
        Query(
            max_length=300,
            description="only runs on this collection: its name, or database and name as runs show it",
            examples=["whimbrel.somemodels"],
        ),
    ] = None,
    from_: From = None,
    to: To = None,
) -> RunQuery:
    since, until = span_of(from_, to)
    named = None if collection is None else [collection, f"{deployment.store.database}.{collection}"]
    return RunQuery(
        statuses=status, kinds=kind, migration=migration, collections=named, since=since, until=until
    )


@router.get("", response_model=Runs, responses=failures(422))
async def runs(
    request: Request,
    deployment: Deployment,
    _: Reader,
    query: Annotated[RunQuery, Depends(_query_of)],
    *,
    order: Annotated[
        RunOrder,
        Query(
            description="newest: those first that were asked for last; active: first what is at work, then what is queued or paused, then what is over",
            examples=["newest"],
        ),
    ] = "newest",
    slim: Annotated[bool, Query(description="each run in short, as a line of an overview")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
    cache: ThisAnswerCache,
) -> Runs | Response:
    """The runs. What is long of a run is left out: GET /migrate/status/{migrationId} has it. `from` and `to` are about when a run was asked for (`createdAt`).

    With `slim` an answer may be half a second old, as of everything that many clients poll.
    """
    ledger = deployment.store.ledger

    def answer() -> Runs:
        page = run_page(ledger, query, order=order, cursor=cursor, limit=limit)
        model = line_model if slim else row_model
        rows = [model(run_view) for run_view in views(ledger, page.runs)]
        return Runs(count=len(rows), migrations=rows, next_cursor=page.cursor)

    if slim:
        return await cache.answer(("runs", request.url.query), lambda: (200, answer()))
    return await anyio.to_thread.run_sync(answer)


def _answer(ledger: Ledger, run: DomainRun) -> RunAnswer:
    return RunAnswer(migration=run_model(view(ledger, run)))


def place_of(cursor: str | None) -> RunPlace | None:
    return None if cursor is None else RunPlace.of(cursor)


def next_cursor_of(runs: list[DomainRun], limit: int) -> str | None:
    return runs[-1].place.cursor if len(runs) == limit else None


@router.get("/status/{migrationId}", response_model=RunAnswer, responses=failures(404, 422))
async def status_of(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    cache: ThisAnswerCache,
) -> Response:
    """One run, as it is now; its numbers are summed up twice a second at most."""
    ledger = deployment.store.ledger
    run = await anyio.to_thread.run_sync(control.find_run, ledger, migration_id)
    # The key includes what other processes can change, so that their changes show at once.
    version = (run.id, run.status, run.leg, run.batch_size, run.priority, run.rate, run.undone_by, run.message, run.error, run.budget, run.over_budget, run.follow and run.follow.wanted)  # fmt: skip
    return await cache.answer(version, lambda: (200, _answer(ledger, run)))


@router.delete("/cancel/{migrationId}", responses=failures(404, 409, 422))
def cancel(
    deployment: Deployment, caller: Operator, migration_id: Annotated[RunId, Path(alias="migrationId")]
) -> RunAnswer:
    """Stop for good: no batch of it starts any more, and the running chunks finish."""
    return _answer(
        deployment.store.ledger, control.cancel(deployment.store.ledger, migration_id, who=caller.who)
    )


@router.post("/pause/{migrationId}", responses=failures(404, 409, 422))
def pause(
    deployment: Deployment, caller: Operator, migration_id: Annotated[RunId, Path(alias="migrationId")]
) -> RunAnswer:
    """Stop within a chunk."""
    return _answer(
        deployment.store.ledger, control.pause(deployment.store.ledger, migration_id, who=caller.who)
    )


@router.post("/approve/{migrationId}", responses=failures(404, 409, 422))
def approve(
    deployment: Deployment, caller: Operator, migration_id: Annotated[RunId, Path(alias="migrationId")]
) -> RunAnswer:
    """Let a run in stages go on: after a stage that waits for it, or that its gate has refused."""
    ledger = deployment.store.ledger
    return _answer(ledger, stages.approve(ledger, migration_id, who=caller.who))


def code_of(system: System, run: DomainRun) -> Definition | None:
    """Returns the code with which a run goes on; None where it needs none, such as a rollback."""
    return system.evaluated(run.migration) if run.kind in ("migration", "verification") else None


@router.post("/resume/{migrationId}", responses=failures(400, 404, 409, 413, 415, 422))
def resume(
    system: ThisSystem,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Resume, Body(default_factory=Resume)],
) -> RunAnswer:
    """Go on where it stopped, by the code that is loaded now.

    With `newCollection` the run is cancelled, and another like it begins in the collection that has the name now: that one is answered.
    """
    ledger = system.deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    if body.new_collection:
        definition = code_of(system, run) or definition_without_code(run)
        started_over = start_over(
            system.deployment.store, run.id, definition, who=caller.who, budget=body.budget
        )
        return _answer(ledger, started_over)
    code = code_of(system, run)
    return _answer(
        ledger, control.resume(ledger, migration_id, who=caller.who, code=code, budget=body.budget)
    )


@router.get(
    "/events/{migrationId}",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "`progress` events with the run; `end` is the last",
        },
        **failures(404, 422),
    },
)
async def events(
    deployment: Deployment,
    _: Reader,
    streams: ThisStreams,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
) -> StreamingResponse:
    """The run as it changes, as server-sent events, until it has ended. 503 where too many streams are open already."""

    def look() -> Event:
        run = control.find_run(deployment.store.ledger, migration_id)
        ended = run.status in ENDED
        text = run_model(view(deployment.store.ledger, run)).model_dump_json(by_alias=True)
        return Event("end" if ended else "progress", text, last=ended)

    return streams.response(("run", migration_id), EVERY, look)
