"""Sends one event to every receiver at once, for a person who wants to see whether it arrives."""

import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from whimbrel.domain.webhooks.addresses import Receiver, Webhooks
from whimbrel.domain.webhooks.deliveries import Tried
from whimbrel.domain.webhooks.events import TEST, trial_body
from whimbrel.engine.notifying.sender import post
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.errors import StateForbids
from whimbrel.ports.webhooks import Poster

UNSET = "No webhooks are set: give WHIMBREL_WEBHOOKS and WHIMBREL_WEBHOOK_SECRET to this process, and to all others that shall send."


def try_webhooks(webhooks: Webhooks | None, poster: Poster, *, who: str) -> Sequence[Tried]:
    """Sends a test event to each receiver, once, and returns how that ended. Nothing is stored. Raises StateForbids where there is none."""
    if webhooks is None:
        raise StateForbids(UNSET)
    event_id = f"test:{secrets.token_hex(8)}"
    body, secret = trial_body(event_id, iso_time(datetime.now(UTC)), who), webhooks.secret

    def tried(receiver: Receiver) -> Tried:
        return Tried(receiver, post(poster, receiver, body, secret=secret, event_id=event_id, type_=TEST))

    with ThreadPoolExecutor(len(webhooks.receivers)) as pool:
        return list(pool.map(tried, webhooks.receivers))
