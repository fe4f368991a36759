"""Streams what goes on in the whole cluster."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.envelope import failures
from whimbrel.api.run_stream import ThisRunLog

router = APIRouter(prefix="/migrate", tags=["migration"])

LAST = "abcd1234-17"
TOLD = (
    "`snapshot` once: `runs` that are not over, each as in GET /migrate with `slim`, `health`, `freeze`, and `more`, whether there are more runs than "
    "are watched (200). Then what changes: `run` (the run in short), `state` (`migrationId`, `migration`, `kind`, `before`, `after`, `reason`), `failures` "
    "(`migrationId`, `migration`, `new`, `openFailures`, `deadFailures`), `gone` (`migrationId` is not watched any more; `exists`), `health` (`state`, `share`, "
    "`since`, `said`, `worst`), `freeze` (`frozen`, `until`, `note`). `reload`: some events are missing, load again what you show. `beat`, after five seconds "
    "without another: `ageSeconds` of what was told. `error`: the ledger does not answer. All but `reload` and `beat` have an `id`"
)


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": TOLD}, **failures(422)},
)
async def stream(
    deployment: Deployment,
    _: Reader,
    run_log: ThisRunLog,
    last_event_id: Annotated[
        str | None,
        Query(
            alias="lastEventId", max_length=100, description="as the header `Last-Event-ID`, for clients that cannot send one", examples=[LAST]
        ),
    ] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID", description="id of the last event that the client has got: only what came after it is sent", examples=[LAST]
        ),
    ] = None,
) -> StreamingResponse:  # fmt: skip
    """What goes on in the whole cluster, as server-sent events: runs, failures, the share that the database's health leaves, freezes. 503 where too many streams are open already."""
    return run_log.response(deployment.store.ledger, last_event_id_header or last_event_id)
