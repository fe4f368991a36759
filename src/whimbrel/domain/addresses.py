"""What an address of MongoDB says without a server or a name service being asked."""

from urllib.parse import unquote_plus

from whimbrel.masking import parsed


def database_of(uri: str) -> str | None:
    """The database that an address names, as drivers read it: what stands between the hosts and the options.

    None where it names none. A collection behind a dot, as in `/shop.orders`, belongs to no database's name.
    """
    return unquote_plus(parsed(uri).path).partition(".")[0] or None
