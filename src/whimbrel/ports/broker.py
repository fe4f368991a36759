"""The broker: it carries pointers to batches, and is never asked what is true."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run

LaneName = Literal["processing", "priority", "retry"]
LANE_QUEUES: Final[Mapping[LaneName, str]] = {
    "processing": "app.processing.queue",
    "priority": "app.priority.queue",
    "retry": "app.retry.queue",
}
DEAD_LETTER_QUEUE: Final = "app.deadletter.queue"
QUEUES: Final = (*LANE_QUEUES.values(), DEAD_LETTER_QUEUE)


def lane_name(*, urgent: bool, retry: bool) -> LaneName:
    """Returns the lane that a batch takes. `urgent`: of a run of high priority. `retry`: failed documents are tried again."""
    if urgent:
        return "priority"
    return "retry" if retry else "processing"


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue as the server sees it."""

    ready: int
    consumers: int


class Queues(Protocol):
    """What can be done with a server's queues. All methods raise BrokerUnavailable, BrokerRefused."""

    def depths(self) -> Mapping[str, Depth]:
        """Returns the queues of `QUEUES`, by name."""
        ...

    def round_trip(self, seconds: float) -> float:
        """Sends a message through the exchange to a queue of its own and back. Returns the seconds that it took, at most so many."""
        ...

    def purge(self, queue: str) -> int:
        """Removes what lies ready in a queue. Returns how many messages."""
        ...


class Broker(Protocol):
    """What coordinators need: announcing pointers. The broker may lose them all, or deliver them twice."""

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Tells workers that batches of a run are queued. Raises BrokerUnavailable; some pointers may have been sent by then.

        The ledger broker has nothing to tell: its workers poll.
        """
        ...

    @property
    def polled(self) -> bool:
        """Whether workers poll the ledger themselves: nothing is announced."""
        ...

    def alarmed(self) -> bool:
        """Returns whether the server has stopped all publishers, as it runs out of memory or disk. Raises BrokerUnavailable, BrokerRefused.

        To know, it publishes a message without a content that no queue takes. The ledger broker is never alarmed.
        """
        ...

    def connect(self, seconds: float) -> None:
        """Waits for the broker at the start. Raises BrokerUnavailable, BrokerRefused."""
        ...

    def close(self) -> None: ...

    @property
    def queues(self) -> Queues | None:
        """The queues of a server. None: there are none, workers poll the ledger."""
        ...

    def waiting(self) -> int:
        """Returns how many pointers lie ready for a worker. Raises BrokerUnavailable."""
        ...


class Delivery(Protocol):
    """Word that a batch may be ready. A broker may lose it after it was returned several times: the ledger knows the batch."""

    @property
    def token(self) -> str | None:
        """The batch. None: poll the ledger."""
        ...

    def acknowledge(self) -> None:
        """Tells that nobody needs this delivery any more."""
        ...

    def give_back(self) -> None:
        """Returns it for somebody else."""
        ...

    def pass_on(self) -> None:
        """Returns it because this process may not work on it: somebody else gets it, after what waits behind it."""
        ...

    def refuse(self, why: str) -> None:
        """Lays it aside with the reason, for a person, because it is not ours."""
        ...


class Feed(Protocol):
    """Where the slots of one worker process learn of batches."""

    @property
    def polled(self) -> bool:
        """Whether workers poll the ledger themselves, and must wait a little where they found nothing."""
        ...

    def next(self, seconds: float, *, urgent: bool) -> Delivery | None:
        """Returns the next delivery, waiting at most so long. `urgent`: only of runs whose priority is above 5."""
        ...

    def close(self) -> None:
        """Takes nothing any more; deliveries that nobody has looked at go to others."""
        ...
