"""How often a pointer was turned away: handed back, or sent to the end of its lane.

Counted here, for the server's delivery limit does not bound it. Up to RabbitMQ 4.2 a quorum queue counts each delivery that comes
back; from 4.3 on only what is rejected (`basic.reject`), not what `basic.nack` or a consumer that went away gave back. And no server
counts on where a pointer was sent to the end of its lane: that is a new message.
"""

from collections.abc import Mapping
from typing import Any

HEADER = "x-whimbrel-turned-away"
# The server's own, of the message that it delivers: how often it came back, and, from 4.3 on, how often it was taken.
OF_THE_SERVER = ("x-delivery-count", "x-acquired-count")


def turned_away(headers: Mapping[str, Any]) -> int:
    """How often a delivered pointer has been turned away, by what it carries and what the server says."""
    return _whole(headers.get(HEADER)) + max(_whole(headers.get(name)) for name in OF_THE_SERVER)


def once_more(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of the message that takes its place: with this time, and without the server's numbers, which begin again."""
    kept = {name: value for name, value in headers.items() if name not in OF_THE_SERVER}
    return kept | {HEADER: turned_away(headers) + 1}


def _whole(value: object) -> int:
    """A header may have been written by anybody."""
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0
