"""The worker processes: what each does since when, which code it has, and which have ended without a word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment, System, ThisSystem
from whimbrel.dashboard.rendering import render
from whimbrel.domain.runs.workers import ALIVE, LOST_FOR, LOST_SHOWN, Worker
from whimbrel.ports.ledger import CONSUMERS

router = APIRouter()
SHOWN = 100  # workers, those with other code first


@dataclass(frozen=True, slots=True)
class Code:
    """A migration's code at a worker. `other`: it is not that of this server."""

    migration: str
    hash: str
    other: bool


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as it is shown."""

    worker: Worker
    code: Sequence[Code]
    quiet: float  # seconds since its last sign of life

    @property
    def mismatched(self) -> bool:
        return bool(self.worker.refuses) or any(code.other for code in self.code)


@router.get("/dashboard/workers")
def workers(request: Request, system: ThisSystem, deployment: Deployment, _: Reader) -> Response:
    """Those that are alive by name, those that were lost by when that was."""
    leases, here, now = deployment.store.ledger.leases, _hashes(system), datetime.now(UTC)
    alive = [_row(worker, here, now) for worker in leases.workers(ALIVE)]
    alive.sort(key=lambda row: not row.mismatched)
    lost = [_row(worker, {}, now) for worker in leases.lost_workers(ALIVE, within=LOST_FOR, limit=LOST_SHOWN)]
    return render(
        request, "workers.html", alive=alive[:SHOWN], number=len(alive), lost=lost, slots=sum(row.worker.slots for row in alive),
        in_hand=sum(len(row.worker.in_hand) for row in alive), mismatched=sum(row.mismatched for row in alive),
        stopped=leases.is_off(CONSUMERS), here=here, most=LOST_SHOWN,
    )  # fmt: skip


def _hashes(system: System) -> Mapping[str, str]:
    return {definition.name: definition.code_hash for definition in system.loaded.values()}


def _row(worker: Worker, here: Mapping[str, str], now: datetime) -> WorkerRow:
    code = [
        Code(name, found, other=name in here and here[name] != found)
        for name, found in sorted(worker.code.items())
    ]
    code.sort(key=lambda each: not each.other)
    return WorkerRow(worker, code, max(0.0, (now - worker.seen_at).total_seconds()))
