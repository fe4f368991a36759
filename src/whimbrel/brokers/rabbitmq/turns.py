"""Counts how often a pointer was returned: handed back, or moved to the end of its lane.

The server's delivery limit is not enough. Up to RabbitMQ 4.2 a quorum queue counts each returned delivery; from 4.3 on only
rejected ones (`basic.reject`), not those returned by `basic.nack` or by a consumer that went away. And no server
continues counting when a pointer is moved to the end of its lane, as that is a new message.
"""

from collections.abc import Mapping
from typing import Any

HEADER = "x-whimbrel-turned-away"
# The server's own headers: how often the message was returned, and, from 4.3 on, how often it was delivered.
OF_THE_SERVER = ("x-delivery-count", "x-acquired-count")


def return_count(headers: Mapping[str, Any]) -> int:
    """Returns how often a delivered pointer was returned, from our header and the server's."""
    return _count_in(headers.get(HEADER)) + max(_count_in(headers.get(name)) for name in OF_THE_SERVER)


def headers_after_return(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the headers of the replacing message: with this return counted, and without the server's counts, which restart."""
    kept_headers = {name: value for name, value in headers.items() if name not in OF_THE_SERVER}
    return kept_headers | {HEADER: return_count(headers) + 1}


def _count_in(value: object) -> int:
    """Returns a header's count; any program may have written it."""
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else 0
