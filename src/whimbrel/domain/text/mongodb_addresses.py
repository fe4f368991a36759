"""What an address of MongoDB says without a server or a name service being asked."""

from urllib.parse import unquote_plus

from whimbrel.masking import MASK, parsed


def database_of(uri: str) -> str | None:
    """The database that an address names, as drivers read it: what stands between the hosts and the options.

    None where it names none. A collection behind a dot, as in `/shop.orders`, belongs to no database's name.
    """
    return unquote_plus(parsed(uri).path).partition(".")[0] or None


def hosts_of(uri: str) -> str:
    """The hosts and ports that an address names, which are no secret; of what is no address nothing."""
    found = parsed(uri)
    return found.hosts_shown if found.scheme or found.userinfo is not None else MASK
