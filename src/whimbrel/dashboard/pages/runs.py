"""The runs: what is at work, and why not faster, then what waits; below, what has ended."""

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.run_filters import FAILED, NOT_COMPLETED, Filters, RunFilters
from whimbrel.dashboard.sparklines import sparkline
from whimbrel.domain.runs.run_query import ACTIVE, AT_WORK
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_line import line_object
from whimbrel.engine.operating.run_pages import run_page
from whimbrel.engine.operating.run_view import RunView, views
from whimbrel.engine.operating.series_view import sparks_of
from whimbrel.ports import Ledger

router = APIRouter()
ROWS: Final = 30  # runs on a page
LATELY: Final = timedelta(days=1)  # after which a run that has failed is no news any more
NEWS: Final = 10  # of such runs that are counted
CHOICES: Final = (
    ("All", ()),
    ("All but completed", NOT_COMPLETED),
    ("At work or waiting", ACTIVE),
    ("Failed, or with failures", FAILED),
)


@router.get("/dashboard/runs")
def runs(
    request: Request,
    deployment: Deployment,
    _: Reader,
    filters: Filters,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
) -> Response:
    """The page that a browser gets at `/`."""
    ledger = deployment.store.ledger
    page = run_page(ledger, filters.query, order="active", cursor=cursor or None, limit=ROWS)
    found = views(ledger, page.runs)
    at_work = [each for each in found if each.run.status in AT_WORK]
    rates = sparks_of(ledger, at_work).rates if at_work else {}
    lines = [_line(each) | {"spark": sparkline(rates.get(each.run.id, ()))} for each in found]
    return render(
        request, "runs.html", filters=filters, choices=CHOICES, active=[line for line in lines if not line["over"]],
        ended=[line for line in lines if line["over"]], more=page.cursor, cursor=cursor, news=_news(ledger, found, filters, cursor),
        statuses=list(map(str, RunStatus)), kinds=["migration", "rollback", "cleanup", "verification"],
    )  # fmt: skip


def _line(run_view: RunView) -> dict[str, Any]:
    run = run_view.run
    took = (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else None
    return {
        **line_object(run_view),
        "over": run.status in ENDED,
        "seconds": took,
        "nextRetry": run_view.next_retry,
    }


def _news(
    ledger: Ledger, found: list[RunView], filters: RunFilters, cursor: str | None
) -> dict[str, Any] | None:
    """Returns in numbers whether anything is wrong; only where nothing is left out by filters or pages."""
    if filters.any or cursor or not found:
        return None
    now = max((each.now for each in found if each.now is not None), default=None)
    failed = 0 if now is None else ledger.runs.failed_since(now - LATELY, most=NEWS)
    active = [each.run.status for each in found if each.run.status not in ENDED]
    return {
        "working": sum(status in AT_WORK for status in active), "paused": active.count(RunStatus.PAUSED),
        "queued": active.count(RunStatus.QUEUED), "failed": failed, "many": failed == NEWS, "full": len(active) == ROWS,
    }  # fmt: skip
