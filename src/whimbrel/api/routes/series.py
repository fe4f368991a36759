"""The course of runs in time."""

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.entity_tags import UNCHANGED
from whimbrel.api.models.envelope import WholeNumberText, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.list_filters import From, To, span_of
from whimbrel.api.models.series import SeriesAnswer, SparksAnswer
from whimbrel.api.routes.runs import RunId
from whimbrel.domain.runs.series import MOST
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.run_view import iso_seconds, views
from whimbrel.engine.operating.series_view import course_object, course_of, sparks_of
from whimbrel.ports import Ledger

router = APIRouter(prefix="/migrate", tags=["migration"])

RUNS_AT_ONCE = 200


@router.get("/series/{migrationId}", response_model=SeriesAnswer, responses=failures(404, 422) | UNCHANGED)
async def series(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    cache: ThisAnswerCache,
    from_: From = None,
    to: To = None,
    points: Annotated[
        int, Query(ge=1, le=MOST, description="points to answer with, at most"), WholeNumberText
    ] = 240,
) -> Response:
    """The course of a run: how fast it was, what held it up, and what people changed, over its whole life or between two times.

    It is kept as long as the run, in at most 720 points however long that lasts: neighbours are merged where there are more. Numbers are worked out
    twice a second at most. The answer has an `ETag`: with `If-None-Match` the same answer is not sent again.
    """
    ledger = deployment.store.ledger
    start, end = span_of(from_, to)
    run = await anyio.to_thread.run_sync(find_run, ledger, migration_id)
    key = ("series", run.id, run.status, run.message, start, end, points)

    def look() -> tuple[int, SeriesAnswer]:
        course = course_of(ledger, run, start=start, end=end, points=points)
        return 200, SeriesAnswer(**course_object(run, course))

    return await cache.answer(key, look)


@router.get("/sparklines", response_model=SparksAnswer, responses=failures(422) | UNCHANGED)
async def sparklines(
    deployment: Deployment,
    _: Reader,
    cache: ThisAnswerCache,
    runs: Annotated[
        str,
        Query(
            min_length=1,
            max_length=8000,
            pattern=rf"^[!-+\--~]+(,[!-+\--~]+){{0,{RUNS_AT_ONCE - 1}}}$",
            description=f"ids of up to {RUNS_AT_ONCE} runs, separated by commas",
            examples=[RUN],
        ),
    ],
) -> Response:
    """The speed of several runs in the last quarter of an hour, in 60 stretches, for lists: by a fixed number of queries."""
    ledger, ids = deployment.store.ledger, tuple(dict.fromkeys(runs.split(",")))
    return await cache.answer(("sparklines", ids), lambda: (200, _sparks(ledger, ids)))


def _sparks(ledger: Ledger, ids: tuple[str, ...]) -> SparksAnswer:
    found = ledger.runs.some(ids)
    sparks = sparks_of(ledger, views(ledger, found))
    known = {run.id for run in found}
    answer: dict[str, Any] = {
        "from": iso_seconds(sparks.start), "seconds": sparks.seconds, "rates": sparks.rates,
        "unknown": [run_id for run_id in ids if run_id not in known],
    }  # fmt: skip
    return SparksAnswer(**answer)
