"""Finds the addresses of receivers, and refuses those that are none of the internet's."""

import socket
import threading
import time
from collections.abc import Sequence

import structlog

from whimbrel.domain.webhooks.addresses import Receiver, as_address, is_public, refusal

log = structlog.get_logger("whimbrel.webhooks")

RESOLVING = 3.0  # seconds that resolving all names may take at the start


class ReceiverRefused(Exception):
    """A receiver that must not be reached. The text is a sentence without what may be secret."""


class ReceiverUnknown(Exception):
    """A receiver whose name cannot be resolved."""


def resolved(receiver: Receiver, *, allow_private: bool) -> Sequence[str]:
    """Returns the addresses to connect to. Raises ReceiverRefused where one of them is private, ReceiverUnknown.

    A connection must be made to one of these, not to the name: the next answer to the same question may be another.
    """
    try:
        found = socket.getaddrinfo(receiver.host, receiver.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ReceiverUnknown(f"The name {receiver.host} cannot be resolved: {why}.") from error
    addresses = list(dict.fromkeys(str(row[4][0]) for row in found))
    if not allow_private:
        for address in addresses:
            read = as_address(address)
            if read is None or not is_public(read):
                raise ReceiverRefused(refusal(receiver, address))
    return addresses


def refused(receivers: Sequence[Receiver]) -> str:
    """Returns why one of these receivers is refused; empty where none is, as far as their names can be resolved within a few seconds."""
    reasons: list[str] = []

    def check(receiver: Receiver) -> None:
        try:
            resolved(receiver, allow_private=False)
        except ReceiverRefused as error:
            reasons.append(str(error))
        except ReceiverUnknown as error:
            log.warning("a webhook's receiver is not known now", reason=str(error))

    threads = [threading.Thread(target=check, args=(receiver,), daemon=True) for receiver in receivers]
    end = time.monotonic() + RESOLVING
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return reasons[0] if reasons else ""
