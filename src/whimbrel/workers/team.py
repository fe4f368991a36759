"""The worker processes that a command or a server starts."""

import os
from dataclasses import dataclass

from whimbrel.bootstrap import Opened
from whimbrel.settings import Settings
from whimbrel.workers.fleet import Fleet


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Team:
    """The worker processes that a command starts."""

    workers: int | None = None
    slots: int = 2
    source: str | None = None  # of the migrations
    lanes: tuple[str, ...] = ()  # queues to take from; none named: all

    def fleet(
        self, opened: Opened, settings: Settings, *, run: str | None, longest_call: float, stderr: int | None
    ) -> Fleet:
        environment = {
            "MONGODB_URI": opened.uri,
            "MONGODB_DB_NAME": settings.mongodb_db_name,
            "WHIMBREL_MIGRATIONS": self.source or "",
            "RABBITMQ_URL": settings.rabbitmq_url or "",
            "RABBITMQ_EXCHANGE": settings.rabbitmq_exchange,
        }
        ledger = opened.store.ledger
        if settings.rabbitmq_url:
            run = None  # queues are shared: pointers of other runs come too
        fleet = Fleet(
            ledger.batches, environment, leases=ledger.leases, lanes=self.lanes,
            size=self.workers or cores(), slots=self.slots, run=run, longest_call=longest_call, stderr=stderr,
        )  # fmt: skip
        fleet.loading = settings.whimbrel_loading
        return fleet
