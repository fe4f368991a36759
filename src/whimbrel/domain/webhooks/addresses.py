"""Reads the addresses of receivers, and judges where a name leads: nobody shall reach this machine's own network through a webhook."""

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from whimbrel.domain.text.printable import is_whole
from whimbrel.errors import SettingsInvalid

MOST = 10  # receivers: each has a thread of its own while something is due
LONGEST = 2000  # characters of an address
SHORTEST_SECRET = 16  # characters
TRANSLATED = IPv6Network("64:ff9b::/96")  # IPv4 addresses behind NAT64
# What `ipaddress` takes for public, or did in some versions, and is not: protocols' own (metadata of Oracle's cloud among them), relays of 6to4,
# NAT64 within one network, documentation, and the service of Azure's hosts.
NOT_PUBLIC = tuple(
    map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "168.63.129.16/32"))
)
# What DNS can hold, and underscores, which networks of one's own have: RFC 1035, 2.3.1 and 2.3.4.
LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
LONGEST_HOST = 253
HOW = "Write http:// or https:// addresses, with commas between"


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver of webhooks. `target`: the path and query of its address, which may hold a secret."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The host as the header `Host` names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def key(self) -> str:
        """Tells receivers apart in the ledger, which does not keep their addresses."""
        return hashlib.sha256(f"{self.scheme}://{self.authority}{self.target}".encode()).hexdigest()[:8]

    @property
    def shown(self) -> str:
        """The address without what may be secret."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What the settings say about webhooks. `no_progress`: seconds without progress that are told; 0: never."""

    receivers: tuple[Receiver, ...]
    secret: str
    allow_private: bool
    no_progress: float


def read_webhooks(addresses: str, secret: str, *, allow_private: bool, no_progress: float) -> Webhooks | None:
    """Returns what the settings say; None where no address is set. Raises SettingsInvalid, without what may be secret."""
    texts = [text for text in (part.strip() for part in addresses.split(",")) if text]
    if not texts:
        return None
    if len(texts) > MOST:
        raise SettingsInvalid(f"WHIMBREL_WEBHOOKS has {len(texts)} addresses: {MOST} is the most.")
    receivers = [_receiver(text, number, allow_private=allow_private) for number, text in enumerate(texts, 1)]
    if len({receiver.key for receiver in receivers}) < len(receivers):
        raise SettingsInvalid("WHIMBREL_WEBHOOKS names an address twice: name each once.")
    if len(secret) < SHORTEST_SECRET:
        raise SettingsInvalid(
            f"WHIMBREL_WEBHOOKS needs WHIMBREL_WEBHOOK_SECRET, of at least {SHORTEST_SECRET} characters: receivers verify by it who has sent "
            "something. One is made by: openssl rand -hex 32"
        )
    if not is_whole(secret):
        raise SettingsInvalid(
            "WHIMBREL_WEBHOOK_SECRET is no text in UTF-8. One that is, is made by: openssl rand -hex 32"
        )
    return Webhooks(tuple(receivers), secret, allow_private, no_progress)


def _receiver(text: str, number: int, *, allow_private: bool) -> Receiver:
    """Reads one address. What is wrong is said by its number: the address itself may be a secret."""
    from yarl import URL  # noqa: PLC0415  most processes have no webhooks

    said = f"WHIMBREL_WEBHOOKS: address {number}"
    try:
        url = URL(text)
        host, port = url.raw_host, url.port
    except ValueError as error:
        raise SettingsInvalid(f"{said} cannot be read. {HOW}.") from error
    if (
        url.scheme not in ("http", "https")
        or not host
        or not port
        or any(blank in text for blank in " \t\r\n\\")
        or not (as_address(host) or _is_host_name(host))
    ):
        raise SettingsInvalid(f"{said} is no http:// or https:// address of a host. {HOW}.")
    if len(text) > LONGEST:
        raise SettingsInvalid(f"{said} has {len(text):,} characters: {LONGEST:,} is the most.")
    if url.raw_user is not None or url.raw_password is not None:
        raise SettingsInvalid(
            f"{said} has a user or a password, which are not sent: the signature tells receivers who has sent something."
        )
    if url.raw_fragment:
        raise SettingsInvalid(f"{said} has a part behind #, which is not sent: leave it out.")
    receiver = Receiver(url.scheme, host, port, url.raw_path_qs or "/")
    address = as_address(host)
    if address is not None and not allow_private and not is_public(address):
        raise SettingsInvalid(refusal(receiver, str(address)))
    return receiver


def as_address(host: str) -> IPv4Address | IPv6Address | None:
    """Returns the address where a host is one, as it is usually written; None where it is a name, which must be resolved."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_host_name(host: str) -> bool:
    name = host.removesuffix(".")
    return len(name) <= LONGEST_HOST and all(map(LABEL.fullmatch, name.split(".")))


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the internet: not of this machine, of a network of one's own, or reserved."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in TRANSLATED:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
        if address.is_site_local:
            return False
    if any(address in network for network in NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def refusal(receiver: Receiver, address: str) -> str:
    """Returns why a receiver is refused that has a private address, and what to do."""
    where = "" if receiver.host == address else f", which is {address},"
    return (
        f"The webhook to {receiver.shown}{where} leads to a private, loopback, link-local or reserved address, and is refused. Where that is "
        "meant, set WHIMBREL_WEBHOOK_ALLOW_PRIVATE=true."
    )
