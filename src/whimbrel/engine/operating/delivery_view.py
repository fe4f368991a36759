"""Deliveries of webhooks as JSON has them, for the REST API and `--json`."""

from typing import Any

from whimbrel.domain.webhooks.deliveries import TRIES, Delivery
from whimbrel.engine.operating.run_view import iso_time


def delivery_object(delivery: Delivery) -> dict[str, Any]:
    """Returns a delivery without its body."""
    return {
        "id": delivery.id, "eventId": delivery.event, "event": delivery.type, "migrationId": delivery.run, "receiver": delivery.shown,
        "receiverKey": delivery.receiver, "state": str(delivery.state), "tries": delivery.tries, "mostTries": TRIES,
        "answered": delivery.status, "problem": delivery.problem or None, "createdAt": iso_time(delivery.created_at),
        "nextTryAt": iso_time(delivery.due_at), "endedAt": iso_time(delivery.ended_at),
    }  # fmt: skip
