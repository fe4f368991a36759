"""What a person has seen before they start a run: it is not started where that is not so any more.

A filter that matched a thousand documents a minute ago may match a million now, and a tab may be open on the wrong deployment.
"""

from dataclasses import dataclass
from typing import ClassVar

from whimbrel.errors import StateForbids

GREW = 0.1  # the part by which a counted number may have grown: applications go on inserting
GREW_FEW = 100  # documents by which it may have grown in any case
GUESSED = 2.0  # so many times what was seen, where a number is an estimate


class NotAsSeen(StateForbids):
    """What would be started is not what the caller says that they have seen."""

    code: ClassVar[str] = "not_as_seen"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person has seen: how many documents, in which collection (`database.collection`), on which host."""

    documents: int
    collection: str
    host: str


def check_seen(seen: Seen | None, *, documents: int, exact: bool, collection: str, host: str) -> None:
    """Raises NotAsSeen where a run would be about noticeably more documents than were seen, or about others."""
    if seen is None:
        return
    for what, had, is_now in (("collection", seen.collection, collection), ("host", seen.host, host)):
        if had != is_now:
            raise NotAsSeen(
                f"The {what} is {is_now}, and not {had[:200]}: nothing was started. Look at the plan again."
            )
    most = max(seen.documents * (1 + GREW), seen.documents + GREW_FEW)
    if documents > (most if exact else max(most, seen.documents * GUESSED)):
        number = f"{documents:,}" if exact else f"about {documents:,}"
        raise NotAsSeen(
            f"It would be {number} documents now, and not {seen.documents:,}: nothing was started. Look at the plan again."
        )
