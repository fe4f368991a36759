"""RABBITMQ_URL: one address or several, and what of it may be shown."""

import re

from yarl import URL

from whimbrel.errors import SettingsInvalid


def urls_of(text: str) -> tuple[str, ...]:
    """The addresses in RABBITMQ_URL: one, or those of a cluster's nodes with commas between. Raises SettingsInvalid."""
    found = tuple(part.strip() for part in re.split(r",(?=\s*\w+://)", text) if part.strip(" ,"))
    for each in found:
        try:
            url = URL(each)
            wrong = url.scheme not in ("amqp", "amqps") or not url.host
        except ValueError:
            wrong = True
        if wrong:
            raise SettingsInvalid(
                f"RABBITMQ_URL={masked(each)} cannot be read. Write it as amqp://user:password@host:5672/ (amqps for TLS), "
                "and the addresses of a cluster's nodes with commas between."
            )
    if not found:
        raise SettingsInvalid("RABBITMQ_URL is empty. Leave it unset to work without RabbitMQ.")
    return found


def masked(url: str) -> str:
    """An address without user and password; of one that cannot be read, nothing that could be a password."""
    _, at, rest = url.rpartition("@")
    scheme, slashes, _ = url.partition("://")
    if not slashes:
        return "***"
    return f"{scheme}://***@{rest}" if at else url
