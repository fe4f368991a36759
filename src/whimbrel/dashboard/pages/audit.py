"""The audit across all runs: who did what, when and why, by filters that stand in the address."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.routes.audit import audit as audited
from whimbrel.api.routes.runs import Cursor
from whimbrel.dashboard.rendering import render
from whimbrel.domain.runs.audit import ACTIONS
from whimbrel.errors import WhimbrelError

router = APIRouter()
ROWS: Final = 100
Text = Annotated[str, Query(max_length=300)]


@router.get("/dashboard/audit")
def audit(
    request: Request,
    deployment: Deployment,
    caller: Reader,
    *,
    actor: Text = "",
    run: Text = "",
    action: Text = "",
    from_: Annotated[str, Query(alias="from", max_length=40)] = "",
    to: Annotated[str, Query(max_length=40)] = "",
    cursor: Cursor = None,
) -> Response:
    """Newest first; a page of it, and the address of the next."""
    filters = {"actor": actor, "run": run, "action": action, "from": from_, "to": to}
    found: dict[str, Any] = {"entries": [], "next_cursor": None}
    problem = ""
    try:
        if action and action not in ACTIONS:
            raise ValueError(f"There is no kind {action[:40]!r}. They are: {', '.join(ACTIONS)}.")  # noqa: TRY301
        found = audited(
            deployment, caller, actor=actor or None, run=run or None, action=[action] if action else None,  # type: ignore[list-item]
            from_=from_ or None, to=to or None, limit=ROWS, cursor=cursor or None,
        ).model_dump()  # fmt: skip
    except (WhimbrelError, ValueError) as error:
        problem = str(error)
    given = {name: value for name, value in filters.items() if value}
    older = found["next_cursor"]
    return render(
        request, "audit.html", entries=found["entries"], filters=filters, actions=ACTIONS, problem=problem, first=not cursor,
        filtered=bool(given), newest=f"?{urlencode(given)}", older=f"?{urlencode({**given, 'cursor': older})}" if older else "",
    )  # fmt: skip
