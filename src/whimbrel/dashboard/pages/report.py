"""The report of a verification, to be read, printed and kept: what was proved of a run, and numbers that add up."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.run_figures import outcomes
from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_actions import possible_actions
from whimbrel.engine.operating.run_view import RunView, proof_object, row_object, view
from whimbrel.ports import Ledger

router = APIRouter(prefix="/dashboard/runs", include_in_schema=False)

EARLIER = 20  # verifications of the run that are listed
FINDINGS = 50  # causes of findings


@router.get("/{migrationId}/report")
def report(
    request: Request,
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[str, Path(alias="migrationId", max_length=200)],
) -> Response:
    """The report of a verification, or of the newest verification of a run."""
    ledger = deployment.store.ledger
    asked = control.find_run(ledger, migration_id)
    verification = asked if asked.kind == "verification" else _newest(ledger, asked)
    run = ledger.runs.get(asked.of or "") if asked.kind == "verification" else asked
    return render(
        request, "report.html", asked=asked, run=run, verification=verification, id_json=id_json, **_facts(ledger, run, verification)
    )  # fmt: skip


def _newest(ledger: Ledger, run: Run) -> Run | None:
    """Returns the newest verification that has ended with a report, else the newest one."""
    listed = ledger.runs.list(of=run.id, kind="verification", limit=EARLIER, brief=True)
    chosen = next((each for each in listed if each.status in ENDED), next(iter(listed), None))
    return None if chosen is None else ledger.runs.get(chosen.id)


def _facts(ledger: Ledger, run: Run | None, verification: Run | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "earlier": [],
        "tiles": None,
        "proofs": [],
        "findings": (),
        "more_findings": 0,
        "view": None,
        "actions": (),
    }
    if run is not None:
        run_view = view(ledger, run)
        facts |= {
            "view": row_object(run_view), "outcomes": outcomes(run_view), "tiles": tiles(run_view),
            "earlier": ledger.runs.list(of=run.id, kind="verification", limit=EARLIER, brief=True),
            "actions": possible_actions(run, dead=run_view.failures["dead"]),
        }  # fmt: skip
    if verification is not None:
        page = ledger.failures.groups(verification.id, limit=FINDINGS)
        facts |= {
            "proofs": [proof_object(proof) for proof in verification.report], "findings": page.groups, "more_findings": page.rest,
            "checked": row_object(view(ledger, verification)),
        }  # fmt: skip
    return facts


def tiles(run_view: RunView) -> dict[str, Any]:
    """Returns the sums of a run, and whether they add up: documents by outcome, and batches."""
    parts = outcomes(run_view)
    total = sum(part.number for part in parts)
    batches = run_view.total_batches
    return {
        "documents": total, "agrees": total == run_view.total, "evaluated": run_view.processed,
        "batches": batches, "done": run_view.completed_batches, "cancelled": run_view.cancelled_batches, "open": max(0, batches - run_view.settled_batches),
        "batches_agree": run_view.settled_batches <= batches,
    }  # fmt: skip
