"""Webhooks: what runs have to tell, its deliveries, and the way to a receiver."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.webhooks.deliveries import Delivery, DeliveryState, Reply
from whimbrel.domain.webhooks.events import RunEvent

if TYPE_CHECKING:
    from whimbrel.domain.webhooks.addresses import Receiver


@dataclass(frozen=True, slots=True)
class Unsent:
    """A run, and its events of which nobody has made deliveries."""

    run: Run
    events: Sequence[RunEvent]


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Deliveries since the first: `tries` of all, those that ended by how, and those that are pending now."""

    tries: int = 0
    delivered: int = 0
    failed: int = 0
    pending: int = 0


class Poster(Protocol):
    """The way to a receiver."""

    def post(self, receiver: "Receiver", body: bytes, headers: Mapping[str, str]) -> Reply:
        """Sends it once, and returns how that ended, within about `TRY_SECONDS`. Raises nothing."""
        ...


class WebhookRecords(Protocol):
    """Events and their deliveries.

    An event is written into the run's row by the very statement that changes its state, so that no crash can come between the two.
    It stays there until its deliveries are stored.
    """

    def begin(self) -> tuple[datetime, datetime]:
        """Returns since when events are sent, from shortly before this was first called for the ledger; and the time now."""
        ...

    def unsent(self, limit: int) -> Sequence[Unsent]:
        """Returns runs that have events of which nobody has made deliveries, at most so many."""
        ...

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Stores deliveries, each once: those that exist already stay as they are."""
        ...

    def forget(self, run_id: str, number: int) -> None:
        """Removes the run's events up to this number from its row."""
        ...

    def claim(self, receiver: str) -> Delivery | None:
        """Takes the delivery to a receiver that has been due longest, and counts a try."""
        ...

    def settle(self, delivery: Delivery, reply: Reply) -> None:
        """Stores how a try ended: it was delivered, is due again later, or has failed."""
        ...

    def give_up(self, receivers: Sequence[str]) -> int:
        """Ends deliveries as failed whose last try was broken off, and those to others than these receivers. Returns how many."""
        ...

    def trim(self) -> int:
        """Removes the oldest ended deliveries beyond those that are kept. Returns how many."""
        ...

    def list(
        self,
        *,
        states: Sequence[DeliveryState] | None = None,
        after: RunPlace | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Lists deliveries, newest first. `after`: only those behind this place."""
        ...

    def get(self, delivery_id: str) -> Delivery | None: ...

    def send_again(self, delivery_id: str) -> Delivery | None:
        """Makes a failed delivery due now, with all its tries. Returns None where it has not failed, or is not there any more."""
        ...

    def counts(self) -> DeliveryCounts: ...

    def standstill(self, run_id: str, mark: str, *, waits: bool, patience: float) -> float:
        """Notes how far a run is, by any text that differs when it has made progress. Returns the seconds since the last difference.

        `waits`: the time since the last such note does not count. Neither does a time without notes, of more than `patience` seconds.
        """
        ...

    def tell_standstill(self, run_id: str, mark: str, why: str) -> bool:
        """Adds the event that a running run makes no progress, once until it makes some. Returns False where it was told, or goes on."""
        ...

    def progress_marks(self, runs: Sequence[Run]) -> Mapping[str, str]:
        """Returns for each of these runs a text that differs when anything of it has made progress, and not when batches only change hands."""
        ...
