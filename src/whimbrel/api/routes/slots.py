"""The slots that work on a run."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.entity_tags import UNCHANGED
from whimbrel.api.models.envelope import failures
from whimbrel.api.models.slots import SlotsAnswer
from whimbrel.api.routes.runs import RunId
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.slots_view import slots_object

router = APIRouter(prefix="/migrate", tags=["migration"])


@router.get("/slots/{migrationId}", response_model=SlotsAnswer, responses=failures(404, 422) | UNCHANGED)
async def slots(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    cache: ThisAnswerCache,
) -> Response:
    """The batches in hand, with the documents done in each, and how many slots know the newest settings, or that they shall stop.

    It is worked out twice a second at most. The answer has an `ETag`: with `If-None-Match` the same answer is not sent again.
    """
    ledger = deployment.store.ledger
    run = await anyio.to_thread.run_sync(find_run, ledger, migration_id)
    key = ("slots", run.id, run.status, run.changes)
    return await cache.answer(key, lambda: (200, SlotsAnswer(**slots_object(ledger, run))))
