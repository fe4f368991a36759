"""Makes deliveries of the events in the rows of runs: stored first, removed from the row then, so that a crash between the two only repeats it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from whimbrel.domain.webhooks.addresses import Receiver
from whimbrel.domain.webhooks.deliveries import KEEP_DAYS, TOO_OLD, Delivery, DeliveryState
from whimbrel.domain.webhooks.events import RunEvent, body_of
from whimbrel.engine.operating.run_view import RunView, iso_time, row_object, views
from whimbrel.ports import Ledger

RUNS = 50  # whose events are taken in one round
TOLD = (
    "migrationId", "migration", "kind", "of", "collection", "status", "phase", "totalItems", "processedItems", "succeeded", "failed",
    "skipped", "conflicts", "progress", "message", "error", "startTime", "endTime",
)  # fmt: skip


def collect(ledger: Ledger, receivers: Sequence[Receiver]) -> int:
    """Makes the deliveries of events that nobody has taken yet. Returns how many runs had some."""
    found = ledger.webhooks.unsent(RUNS)
    if not found:
        return 0
    since, now = ledger.webhooks.begin()
    shown = views(ledger, [each.run for each in found])
    for each, run_view in zip(found, shown, strict=True):
        facts = told(run_view)
        wanted = [event for event in each.events if event.at >= since]
        ledger.webhooks.add(list(_deliveries(wanted, facts, receivers, now)))
        ledger.webhooks.forget(each.run.id, each.events[-1].number)
    return len(found)


def told(run_view: RunView) -> Mapping[str, Any]:
    """Returns what receivers learn of a run: no filter, and nothing else that may hold what users store."""
    row = row_object(run_view)
    return {name: row[name] for name in TOLD}


def _deliveries(
    events: Sequence[RunEvent], facts: Mapping[str, Any], receivers: Sequence[Receiver], now: datetime
) -> Iterator[Delivery]:
    for event in events:
        body, too_old = body_of(event, iso_time(event.at), facts), now - event.at > timedelta(days=KEEP_DAYS)
        for receiver in receivers:
            yield Delivery(
                id=f"{event.id}:{receiver.key}", event=event.id, type=event.type, run=event.run, receiver=receiver.key,
                shown=receiver.shown, body=body, state=DeliveryState.FAILED if too_old else DeliveryState.PENDING,
                problem=TOO_OLD.format(days=KEEP_DAYS) if too_old else "",
            )  # fmt: skip
