"""Rolling a run back, and cleaning up after it: what it would do now, and the confirmation. The pages themselves start nothing."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from whimbrel.api.authorization import Caller, Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.routes.runs import RunId
from whimbrel.api.routes.undoing import CleanupPlan, RollbackPlan, cleanup_plan, rollback_plan
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.shown_values import one_line
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import view
from whimbrel.errors import WhimbrelError

router = APIRouter()
NOT_ALLOWED = "Looking at what it would do takes a token of the scope operate."
Plan = Annotated[str, Query(max_length=1, description="1: look at the documents now")]


@router.get("/dashboard/runs/{migrationId}/rollback")
def rollback(
    request: Request,
    system: ThisSystem,
    deployment: Deployment,
    caller: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    plan: Plan = "",
) -> Response:
    """With `plan`, how many documents would be put back, how many would be left alone, and why."""
    found, problem = _looked(caller, plan, lambda: rollback_plan(system, caller, migration_id))
    return _page(request, deployment, "rollback.html", migration_id, found, problem)


@router.get("/dashboard/runs/{migrationId}/cleanup")
def cleanup(
    request: Request,
    system: ThisSystem,
    deployment: Deployment,
    caller: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    plan: Plan = "",
) -> Response:
    """With `plan`, what would be lost for good."""
    found, problem = _looked(caller, plan, lambda: cleanup_plan(system, caller, migration_id))
    return _page(request, deployment, "cleanup.html", migration_id, found, problem)


def _looked(
    caller: Caller, plan: str, look: Callable[[], RollbackPlan | CleanupPlan]
) -> tuple[dict[str, Any] | None, str]:
    """Returns the plan, or why there can be none; neither where it was not asked for."""
    if not plan:
        return None, ""
    if not caller.may("operate"):
        return None, NOT_ALLOWED
    try:
        found: dict[str, Any] = look().model_dump()
    except WhimbrelError as error:
        return None, str(error)
    seen = {name: found[name] for name in ("documents", "collection", "host")}
    found["start"] = json.dumps({"confirm": found["migration_id"], "seen": seen})
    for reason in found.get("reasons", ()):
        reason["example"] = one_line(reason["example"], longest=200)
    return found, ""


def _page(
    request: Request,
    deployment: Deployment,
    template: str,
    migration_id: str,
    plan: dict[str, Any] | None,
    problem: str,
) -> Response:
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    return render(request, template, run=run, view=view(ledger, run), plan=plan, problem=problem)
