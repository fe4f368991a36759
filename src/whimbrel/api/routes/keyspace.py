"""The key space of a run as a strip."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.entity_tags import UNCHANGED
from whimbrel.api.models.envelope import WholeNumberText, failures
from whimbrel.api.models.keyspace import CellOf, KeySpaceAnswer
from whimbrel.api.routes.runs import RunId
from whimbrel.domain.runs.keyspace import MOST
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.keyspace_view import cell_object, strip_object, strip_of

router = APIRouter(prefix="/migrate", tags=["migration"])


@router.get(
    "/keyspace/{migrationId}", response_model=KeySpaceAnswer, responses=failures(404, 422) | UNCHANGED
)
async def keyspace(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    cache: ThisAnswerCache,
    cells: Annotated[
        int, Query(ge=1, le=MOST, description="cells to answer with, at most"), WholeNumberText
    ] = 1000,
    leg: Annotated[
        int | None,
        Query(
            ge=0,
            le=1000,
            description="which leg; left out: of a run at work the latest of the phases pending and processing, of one that is over the first after its stages. 404 where the run has no such leg",
            examples=[None],
        ),
        WholeNumberText,
    ] = None,
    cell: Annotated[
        int | None,
        Query(
            ge=0,
            lt=MOST,
            description="also tell the batches and keys of this cell. 404 where there is no such cell",
            examples=[None],
        ),
        WholeNumberText,
    ] = None,
) -> Response:
    """A run's batches in the order of their keys, folded to at most so many cells.

    It is worked out twice a second at most, at a cost that does not depend on how many batches are settled. The answer has an `ETag`: with
    `If-None-Match` the same answer is not sent again.
    """
    ledger = deployment.store.ledger
    run = await anyio.to_thread.run_sync(find_run, ledger, migration_id)

    def look() -> tuple[int, KeySpaceAnswer]:
        strip = strip_of(ledger, run, cells=cells, leg=leg)
        found = None if cell is None else CellOf(**cell_object(ledger, strip, cell))
        return 200, KeySpaceAnswer(**strip_object(strip), cell=found)

    return await cache.answer(("keyspace", run.id, run.status, run.leg, cells, leg, cell), look)
