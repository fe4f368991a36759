"""Writes all failures of a run, one JSON object a line, however many there are."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.failures.failure import Failure, FailurePlace, FailureState
from whimbrel.domain.failures.known_causes import KnownCause
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import Ledger

PAGE = 1000  # failures that are read at once


def export_pages(
    ledger: Ledger, run: Run, *, state: FailureState | None = None, group: str | None = None
) -> Iterator[str]:
    """Yields the failures, as many lines at once as are read at once: dead ones first, then open ones, then resolved ones, by cause and `_id`.

    Never more than a page is held. While the run is at work, a failure that changes its state meanwhile may come twice, or not at all.
    """
    known = ledger.known_causes.of(run.id)
    after: FailurePlace | None = None
    while page := ledger.failures.list(run.id, state=state, group=group, after=after, limit=PAGE):
        yield "".join(_line(export_object(failure, run, known)) for failure in page)
        if len(page) < PAGE:
            return
        after = page[-1].place


def _line(value: Mapping[str, Any]) -> str:
    # json escapes all other control characters itself
    return json.dumps(value).replace("\x7f", "\\u007f") + "\n"


def export_object(failure: Failure, run: Run, known: Mapping[str, KnownCause]) -> dict[str, Any]:
    """Returns a failure with all that is recorded of it; its id as relaxed Extended JSON."""
    accepted = known.get(failure.group)
    return {
        "id": id_json(failure.key), "migrationId": run.id, "migration": run.migration, "collection": run.ns,
        "group": failure.group, "kind": str(failure.kind), "type": failure.type, "message": failure.message, "code": failure.code,
        "traceback": failure.traceback, "attempt": failure.attempt, "state": str(failure.state), "outcome": failure.outcome,
        "resolution": failure.resolution, "phase": failure.phase, "batchId": failure.batch,
        "dueAt": iso_time(failure.due_at) if failure.state is FailureState.OPEN else None,
        "firstAt": iso_time(failure.first_at), "lastAt": iso_time(failure.last_at),
        "accepted": bool(accepted and accepted.accepted),
    }  # fmt: skip


def accepted_object(known: KnownCause | None) -> dict[str, Any] | None:
    """Returns who has accepted a cause, when and why; None where nobody has."""
    if known is None or not known.accepted:
        return None
    return {"by": known.who, "at": iso_time(known.at), "note": known.note}
