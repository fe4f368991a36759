"""What a MongoDB address tells without asking a server or a name service."""

from urllib.parse import unquote_plus

from whimbrel.masking import MASK, parsed


def database_of(uri: str) -> str | None:
    """Returns the database that an address names, as drivers read it: what stands between the hosts and the options.

    None where it names none. A collection after a dot, as in `/shop.orders`, is not part of the database's name.
    """
    return unquote_plus(parsed(uri).path).partition(".")[0] or None


def hosts_of(uri: str) -> str:
    """Returns the hosts and ports that an address names, which are no secret; the mask where it is not an address."""
    address = parsed(uri)
    return address.hosts_shown if address.scheme or address.userinfo is not None else MASK
