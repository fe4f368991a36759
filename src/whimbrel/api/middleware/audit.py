"""Records every call that may change something in the audit: who, what, from where, and with which result."""

from collections.abc import Awaitable, Callable

import anyio.to_thread
import structlog
from fastapi import Request, Response
from starlette.types import Scope

from whimbrel.api.authorization import Caller
from whimbrel.api.deployment import System
from whimbrel.api.middleware.request_bodies import WITH_BODY
from whimbrel.errors import WhimbrelError

log = structlog.get_logger("whimbrel.api")
DRY = "X-Dry-Run"  # header of an answer to a call that has written nothing


def changing(scope: Scope) -> bool:
    """Whether a request may change something."""
    return scope["method"] in WITH_BODY


async def audited(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Middleware for requests that are `changing`, from authenticated callers."""
    response = await go_on(request)
    known = request.state.caller is not None  # else it is of a route that needs no token: a login that failed
    if (
        DRY not in response.headers and request.state.entry is not None and known
    ):  # None: no route was reached
        await note(request.scope, response.status_code)
    return response


async def note(scope: Scope, status: int) -> None:
    """Writes the row. If the ledger cannot be reached, the log has it instead, as the call cannot be undone."""
    caller: Caller = scope["state"]["caller"]
    request_line = f"{scope['method']} {scope['path'][:200]}"
    run = str(scope.get("path_params", {}).get("migrationId", ""))[:100]
    why = f"answered {status}"
    system: System = scope["app"].state.system
    try:
        if system.ready:
            write = system.deployment.store.ledger.leases.audit
            await anyio.to_thread.run_sync(lambda: write(request_line, run=run, who=caller.who, why=why))
    except WhimbrelError as error:
        log.warning("not audited", what=request_line, who=caller.who, result=why, reason=str(error))
