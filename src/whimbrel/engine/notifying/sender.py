"""Sends deliveries: in one process of the cluster, by lease, with a thread for each receiver, so that none waits for another's."""

import threading
import time
from importlib.metadata import version

import structlog

from whimbrel.domain.webhooks.addresses import Receiver, Webhooks
from whimbrel.domain.webhooks.deliveries import Reply
from whimbrel.domain.webhooks.signature import headers_of
from whimbrel.engine.notifying.collecting import collect
from whimbrel.engine.notifying.standstills import Standstills
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.ports import Ledger
from whimbrel.ports.webhooks import Poster

log = structlog.get_logger("whimbrel.webhooks")

ROLE = "webhooks"
ROLE_SECONDS = 10.0  # another process sends so soon after the last sign of this one
TRIMMING = 60.0  # seconds between two looks whether there are too many deliveries
POLL = 0.02


class WebhookSender:
    """One process's candidate for the role of sender. `watched`: runs obey the database's health."""

    def __init__(
        self, ledger: Ledger, webhooks: Webhooks, poster: Poster, *, name: str, watched: bool
    ) -> None:
        self._ledger, self._webhooks, self._poster, self._name = ledger, webhooks, poster, name
        self._standstills = Standstills(ledger, webhooks.no_progress, watched=watched)
        self._asked = self._trimmed = float("-inf")
        self._began = False
        self._ended = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    def round(self) -> None:
        """Takes events, looks for standstills, and lets threads send what is due. Never waits for a receiver.

        Raises Transient, whatever is wrong: nothing about webhooks may end a process that works on runs.
        """
        try:
            if self._has_role():
                self._standstills.look()
                self._collect()
        except Transient:
            raise
        except WhimbrelError as error:
            raise Transient(f"Webhooks wait: {error}") from error

    def finish(self, seconds: float) -> None:
        """Sends what is due before a process ends, as long as that takes no more than these seconds. Others send the rest."""
        end = time.monotonic() + seconds
        try:
            if self._has_role():
                self._collect()
        except WhimbrelError as error:
            log.warning("webhooks wait for the next process", reason=str(error))
        while self._alive() and time.monotonic() < end:
            time.sleep(POLL)
        self._ended.set()
        if self._alive():
            log.warning("webhooks wait for the next process", reason="a receiver takes long to answer")

    def _has_role(self) -> bool:
        if not self._began:
            self._ledger.webhooks.begin()
            self._began = True
        now = time.monotonic()
        if now - self._asked < ROLE_SECONDS / 2:
            return True
        has_role = self._ledger.leases.lead(ROLE, self._name, ROLE_SECONDS)
        self._asked = now if has_role else float("-inf")
        return has_role

    def _collect(self) -> None:
        records, receivers = self._ledger.webhooks, self._webhooks.receivers
        while collect(self._ledger, receivers) and not self._ended.is_set():
            pass
        records.give_up([receiver.key for receiver in receivers])
        if time.monotonic() - self._trimmed > TRIMMING:
            self._trimmed = time.monotonic()
            records.trim()
        for receiver in receivers:
            thread = self._threads.get(receiver.key)
            if thread is None or not thread.is_alive():
                self._threads[receiver.key] = threading.Thread(
                    target=self._send_due, args=(receiver,), name=f"webhooks to {receiver.shown}", daemon=True
                )
                self._threads[receiver.key].start()

    def _send_due(self, receiver: Receiver) -> None:
        """Sends one delivery after the other, until none is due."""
        try:
            while not self._ended.is_set() and (delivery := self._ledger.webhooks.claim(receiver.key)):
                reply = post(
                    self._poster, receiver, delivery.body, secret=self._webhooks.secret, event_id=delivery.event, type_=delivery.type
                )  # fmt: skip
                self._ledger.webhooks.settle(delivery, reply)
                if not reply.delivered:
                    log.warning("a webhook was not delivered", id=delivery.id, to=receiver.shown, tries=delivery.tries, reason=reply.problem)  # fmt: skip
        except WhimbrelError as error:  # the delivery is due again later
            log.warning("webhooks wait: the ledger does not answer", reason=str(error))

    def _alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads.values())


def post(poster: Poster, receiver: Receiver, body: str, *, secret: str, event_id: str, type_: str) -> Reply:
    """Signs a body and sends it once."""
    data = body.encode()
    headers = headers_of(
        secret=secret, timestamp=str(int(time.time())), body=data, event_id=event_id, type_=type_, version=version("whimbrel")
    )  # fmt: skip
    return poster.post(receiver, data, headers)
