"""One run: where it is, why it is not faster, what failed, and what can be done."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.run_facts import SharedFacts

router = APIRouter(prefix="/dashboard/runs", include_in_schema=False)
shared = SharedFacts()

Chosen = Annotated[str, Query(max_length=20)]


@router.get("/{migrationId}")
def run_page(
    request: Request,
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[str, Path(alias="migrationId", max_length=200)],
    *,
    range_: Annotated[str, Query(alias="range", max_length=20)] = "",
    cells: Chosen = "",
    leg: Chosen = "",
) -> Response:
    """The page of a run, in any state. What it is asked to draw stands in its address; the drawing is done by its JavaScript."""
    facts = shared.of(deployment.store.ledger, migration_id)
    return render(
        request, "run.html", facts=facts, run=facts.run, chosen={"range": range_, "cells": cells, "leg": leg}
    )
