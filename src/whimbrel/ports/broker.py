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
    """Which lane a batch takes. `urgent`: of a run of high priority. `retry`: documents that failed are tried again."""
    if urgent:
        return "priority"
    return "retry" if retry else "processing"


@dataclass(frozen=True, slots=True)
class Depth:
    """A queue as the server sees it."""

    ready: int
    consumers: int


class Queues(Protocol):
    """What a server's queues can be asked. All raise BrokerUnavailable, BrokerRefused."""

    def depths(self) -> Mapping[str, Depth]:
        """The queues of `QUEUES`, by name."""
        ...

    def round_trip(self, seconds: float) -> float:
        """Send a message through the exchange to a queue of its own and back: the seconds that it took, at most so many."""
        ...

    def purge(self, queue: str) -> int:
        """Remove what lies ready in a queue: how many messages."""
        ...


class Broker(Protocol):
    """What coordinators need: pointers go out. It may lose them all, or deliver them twice."""

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Tell workers that batches of a run are queued. Raises BrokerUnavailable; some may have gone out by then.

        The ledger broker has nothing to tell: its workers look.
        """
        ...

    @property
    def polled(self) -> bool:
        """Whether workers look into the ledger for themselves: nothing is announced."""
        ...

    def connect(self, seconds: float) -> None:
        """Wait for the broker at the start. Raises BrokerUnavailable, BrokerRefused."""
        ...

    def close(self) -> None: ...

    @property
    def queues(self) -> Queues | None:
        """The queues of a server. None: there are none, workers look into the ledger."""
        ...

    def waiting(self) -> int:
        """How many pointers lie ready for a worker. Raises BrokerUnavailable."""
        ...


class Delivery(Protocol):
    """Word that a batch may be ready. A broker may lose it where it is turned away again and again: the ledger knows of the batch."""

    @property
    def token(self) -> str | None:
        """Which batch. None: look for yourself."""
        ...

    def acknowledge(self) -> None:
        """Nobody needs this word any more."""
        ...

    def give_back(self) -> None:
        """Somebody else shall have it."""
        ...

    def pass_on(self) -> None:
        """This process may not work on it: somebody else shall have it, and whatever waits behind it comes first."""
        ...

    def refuse(self, why: str) -> None:
        """It is not ours: it is laid aside with the reason, for a person."""
        ...


class Feed(Protocol):
    """Where the slots of one worker process learn of batches."""

    @property
    def polled(self) -> bool:
        """Whether workers look into the ledger for themselves, and must wait a little where they found nothing."""
        ...

    def next(self, seconds: float, *, urgent: bool) -> Delivery | None:
        """The next word, waiting at most so long. `urgent`: only of runs whose priority is above 5."""
        ...

    def close(self) -> None:
        """Take nothing any more; what nobody has looked at goes to others."""
        ...
