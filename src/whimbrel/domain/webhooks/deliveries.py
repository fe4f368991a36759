"""A delivery: one event on its way to one receiver."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from whimbrel.domain.runs.run_cursor import RunPlace

if TYPE_CHECKING:
    from whimbrel.domain.webhooks.addresses import Receiver

TRIES = 5
DELAYS = (10.0, 60.0, 600.0, 3600.0)  # seconds between one try and the next
TRY_SECONDS = 10.0  # that a receiver has to answer
HOLD = 90.0  # seconds after which a try counts as broken off, if nobody has told how it ended: resolving a name takes long, too
KEEP_DAYS = 7  # for which deliveries are kept that have ended
MOST = 10_000  # that are kept
TOO_OLD = "Not sent: when a process with webhooks was there again, it was more than {days} days old."
BROKEN_OFF = "The process that sent it ended within the last try."
REMOVED = "Its address is not among WHIMBREL_WEBHOOKS any more."


class DeliveryState(StrEnum):
    """Pending until it was delivered, or its tries are used up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A row of the ledger. Times are the server's. `receiver`: its key; `shown`: its address without what may be secret.

    `status`: of the last answer over HTTP; None: there was none. `problem`: why the last try failed.
    """

    id: str
    event: str
    type: str
    run: str
    receiver: str
    shown: str
    body: str
    state: DeliveryState = DeliveryState.PENDING
    tries: int = 0
    status: int | None = None
    problem: str = ""
    created_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def place(self) -> RunPlace | None:
        """Its place in the list of deliveries; None where it is not stored yet."""
        return None if self.created_at is None else RunPlace(self.created_at, self.id)


@dataclass(frozen=True, slots=True)
class Reply:
    """How a try ended. `status`: None where there was no answer. `problem`: empty where it was delivered."""

    status: int | None
    problem: str = ""

    @property
    def delivered(self) -> bool:
        return not self.problem


@dataclass(frozen=True, slots=True)
class Tried:
    """How a test ended with one receiver."""

    receiver: "Receiver"
    reply: Reply

    @property
    def as_object(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "receiver": self.receiver.shown, "receiverKey": self.receiver.key, "delivered": self.reply.delivered,
            "answered": self.reply.status, "problem": self.reply.problem or None,
        }  # fmt: skip


def delay_after(tries: int) -> float:
    """Returns the seconds from the end of this try to the next."""
    return DELAYS[min(tries, len(DELAYS)) - 1]


def reply_of(status: int) -> Reply:
    """Returns how a try ended that was answered with this status."""
    if 200 <= status < 300:  # noqa: PLR2004  the statuses of success
        return Reply(status)
    if 300 <= status < 400:  # noqa: PLR2004
        return Reply(
            status,
            f"It answered {status}: redirects are not followed. Set WHIMBREL_WEBHOOKS to the final address.",
        )
    return Reply(status, f"It answered {status}.")
