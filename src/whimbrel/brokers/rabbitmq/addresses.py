"""Reads RABBITMQ_URL: one address or several."""

import re

from yarl import URL

from whimbrel.errors import SettingsInvalid
from whimbrel.masking import masked_address, parsed


def urls_of(text: str) -> tuple[str, ...]:
    """Returns the addresses in RABBITMQ_URL: one, or a cluster's nodes, comma-separated. Raises SettingsInvalid."""
    addresses = tuple(part.strip() for part in re.split(r",(?=\s*\w+://)", text) if part.strip(" ,"))
    for address in addresses:
        try:
            url = URL(address)
            # An address that the driver misreads would lead it to another host.
            misread = bool(parsed(address).unescaped & set("/?#"))
            wrong = misread or url.scheme not in ("amqp", "amqps") or not url.host
        except ValueError:
            wrong = True
        if wrong:
            raise SettingsInvalid(
                f"RABBITMQ_URL={masked_address(address)} cannot be read. Write it as amqp://<user>:<password>@<host>:5672/ (amqps for TLS), "
                "the characters @ : / ? # % in user and password as %40 %3A %2F %3F %23 %25, and the addresses of a cluster's nodes with commas between."
            )
    if not addresses:
        raise SettingsInvalid("RABBITMQ_URL is empty. Leave it unset to work without RabbitMQ.")
    return addresses
