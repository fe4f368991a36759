"""A receiver, and senders to it, of a test's ledger."""

from collections.abc import Iterator

import pytest

from tests.servers.receiver import Receiver, receiving
from whimbrel.domain.webhooks.addresses import Webhooks, read_webhooks
from whimbrel.engine.notifying.sender import WebhookSender
from whimbrel.mongo.store import MongoStore
from whimbrel.webhooks.http_poster import HttpPoster

KEY = "a secret of the tests"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def webhooks_to(*receivers: Receiver, no_progress: float = 0.0) -> Webhooks:
    found = read_webhooks(
        ",".join(receiver.url for receiver in receivers), KEY, allow_private=True, no_progress=no_progress
    )
    assert found is not None
    return found


def sender(
    store: MongoStore,
    *receivers: Receiver,
    name: str = "one",
    no_progress: float = 0.0,
    watched: bool = False,
) -> WebhookSender:
    return WebhookSender(
        store.ledger, webhooks_to(*receivers, no_progress=no_progress), HttpPoster(allow_private=True), name=name, watched=watched
    )  # fmt: skip
