"""The runs: what is at work, and why not faster; below, what has ended."""

from fastapi import APIRouter, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import views

router = APIRouter()


@router.get("/dashboard/runs")
def runs(request: Request, deployment: Deployment, _: Reader) -> Response:
    """The page that a browser gets at `/`."""
    ledger = deployment.store.ledger
    listed = ledger.runs.list(statuses=[status for status in RunStatus if status not in ENDED], brief=True)
    return render(request, "runs.html", active=views(ledger, listed))
