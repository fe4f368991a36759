"""Which slots work on a run, how far each is, and how many of them have seen what was asked for last."""

from collections.abc import Mapping
from typing import Any

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.workers import ALIVE, InHand
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.ports import Ledger
from whimbrel.ports.slots import BatchInHand

MOST = 1000  # slots that are listed
STOPS: Mapping[RunStatus, str] = {RunStatus.PAUSING: "pause", RunStatus.CANCELLING: "cancel"}


def slots_object(ledger: Ledger, run: Run) -> dict[str, Any]:
    """Returns the slots that have a batch of a run in hand, as JSON has it."""
    found = ledger.slots.in_hand(run.id, MOST + 1)
    told = {each.batch: each for worker in ledger.leases.workers(ALIVE) for each in worker.in_hand}
    slots = [_slot_object(run, batch, told.get(batch.token)) for batch in found[:MOST]]
    stop = STOPS.get(run.status)
    return {
        "migrationId": run.id, "status": str(run.status), "working": len(slots), "more": len(found) > MOST,
        "available": ledger.leases.slots(ALIVE, run=run),
        "settings": {
            "changes": run.changes, "changedAt": iso_time(run.changed_at), "seen": sum(slot["settingsSeen"] for slot in slots), "of": len(slots),
        },
        "stop": {"asked": stop, "seen": sum(slot["stopSeen"] for slot in slots) if stop else 0, "left": len(slots) if stop else 0},
        "slots": slots,
    }  # fmt: skip


def _slot_object(run: Run, batch: BatchInHand, told: InHand | None) -> dict[str, Any]:
    """Returns a slot. What its process has told last counts; of a batch that it has claimed since, what it read when it claimed it."""
    claimed_later = (
        batch.claimed_at is not None and run.changed_at is not None and batch.claimed_at > run.changed_at
    )
    seen = run.changes == 0 or claimed_later or (told is not None and told.changes >= run.changes)
    return {
        "batchId": batch.token, "phase": batch.phase, "worker": batch.worker, "since": iso_time(batch.claimed_at), "totalItems": batch.estimated,
        "processedItems": batch.counts.total + batch.failed, "changed": batch.counts.changed, "unchanged": batch.counts.unchanged,
        "skipped": batch.counts.skipped, "failed": batch.failed, "totalChunks": batch.chunks, "completedChunks": batch.chunks_done,
        "retry": batch.retry, "takeovers": batch.takeovers, "settingsSeen": seen, "stopSeen": told is not None and told.stops,
    }  # fmt: skip
