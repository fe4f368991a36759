"""Whose page it is: a browser lets pages of other sites send requests here, and a name of theirs may point to this machine.

A name that nobody gave this server is refused (DNS rebinding), and so is what a browser says comes from somebody else's page.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from whimbrel.api.http_errors import error_answer
from whimbrel.api.middleware.admission_control import LIVE, PROBES, READS
from whimbrel.api.middleware.early_refusal import refuse_early
from whimbrel.errors import SettingsInvalid

_AUTHORITY: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)\.?(?::(\d{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://(.+)")
_ABSOLUTE: Final = re.compile(r"https?://([^/]*)(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OURS: Final = frozenset({"same-origin", "none"})  # none: a person typed the address, or followed a bookmark
_BY_ADDRESS: Final = PROBES | {LIVE}  # whatever asks these often knows no name: kubelets, Prometheus


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, and a port where one is said."""

    host: str
    port: int | None

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """Where the host is an address and no name. Nobody can make an address point elsewhere."""
        try:
            return ipaddress.ip_address(self.host.strip("[]"))
        except ValueError:
            return None


def authority(text: str) -> Authority | None:
    """What a `Host` header says; None where that is nonsense."""
    found = _AUTHORITY.fullmatch(text.strip().lower())
    if found is None:
        return None
    host, port = found[1], int(found[2]) if found[2] else None
    return Authority(_plain(host), port) if port is None or port < 2**16 else None


def _plain(host: str) -> str:
    """One spelling of each address."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host


class Hosts:
    """The names of this server: of API_HOSTS, of the address that it listens on, and of this machine to itself."""

    def __init__(self, configured: str, bound: str, *, any_name: bool) -> None:
        """`any_name`: where none is configured, all will do. Raises SettingsInvalid."""
        self.named = tuple(_read(configured))
        listened = authority(bound if ":" not in bound else f"[{bound}]")
        unspecified = (
            listened is not None and listened.address is not None and listened.address.is_unspecified
        )
        self._bound = None if listened is None or unspecified else listened.host
        self.any_name = any_name and not self.named

    def known(self, host: Authority) -> bool:
        if self.any_name or host.host in ("localhost", self._bound):
            return True
        if host.address is not None and host.address.is_loopback:
            return True
        return any(each.host == host.host and each.port in (None, host.port) for each in self.named)

    def named_as(self, origin: Authority, scheme: str) -> bool:
        """Whether pages of this origin are this server's own, though a proxy may have changed the `Host`."""
        port = origin.port or _DEFAULT_PORTS[scheme]
        return any(
            each.host == origin.host and (each.port or _DEFAULT_PORTS[scheme]) == port for each in self.named
        )


def _read(configured: str) -> Iterable[Authority]:
    for each in filter(None, (part.strip() for part in configured.split(","))):
        found = authority(each)
        if found is None:
            raise SettingsInvalid(
                f"API_HOSTS: {each!r} is no name of a host. Write names such as whimbrel.example.org, or name:port, with commas between."
            )
        yield found


class SameOrigin:
    """Middleware: refuses a name that is not this server's, and what a page of another site sends."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _from_origin(scope)
        found = self._foreign(scope, Headers(scope=scope))
        if found is None:
            await self._app(scope, receive, send)
        else:
            await refuse_early(error_answer(403, *found), scope, receive, send)

    def _foreign(self, scope: Scope, headers: Headers) -> tuple[str, str] | None:
        given = headers.getlist("host")
        host = authority(given[0]) if len(given) == 1 else None
        if given and not self._addressed(scope["path"], host):  # no browser leaves it out
            return (
                "foreign_host",
                f"This server is not known as {given[0][:100]!r}. Name it in API_HOSTS, or ask for localhost.",
            )
        if not self._own(scope["method"], headers, host):
            return (
                "foreign_origin",
                "A page of another site sent this. Name the site in API_HOSTS if it is this server's own.",
            )
        return None

    def _addressed(self, path: str, host: Authority | None) -> bool:
        if host is None:
            return self._hosts.any_name
        return self._hosts.known(host) or (path in _BY_ADDRESS and host.address is not None)

    def _own(self, method: str, headers: Headers, host: Authority | None) -> bool:
        sites = headers.getlist("sec-fetch-site")
        ours = all(each.strip().lower() in _OURS for each in sites)
        if method in READS:
            # No page can read an answer, but it can ask for what costs much, or keep a stream open.
            ours = ours or _followed(headers)
        return ours and all(
            self._same(each, host, confirmed=bool(sites)) for each in headers.getlist("origin")
        )

    def _same(self, origin: str, host: Authority | None, *, confirmed: bool) -> bool:
        """`confirmed`: the browser says itself that the page is of the same origin as it sees it."""
        found = _ORIGIN.fullmatch(origin.strip().lower())
        page = authority(found[2]) if found else None
        if found is None or page is None:
            return False  # such as null
        if self._hosts.named_as(page, found[1]) or (self._hosts.any_name and confirmed):
            return True
        default = _DEFAULT_PORTS[found[1]]
        return host is not None and (page.host, page.port or default) == (host.host, host.port or default)


def _followed(headers: Headers) -> bool:
    """Whether a person has followed a link from elsewhere, which is no harm. A frame is loaded by its page, as often as that likes."""
    kind = headers.get("sec-fetch-dest", "document")
    return headers.get("sec-fetch-mode") == "navigate" and kind == "document"


def _from_origin(scope: Scope) -> Scope:
    """A request whose first line has a whole address, as proxies are sent it: the host there counts, whatever `Host` says (RFC 9112, 3.2.2)."""
    found = _ABSOLUTE.fullmatch(scope["path"])
    if found is None:
        return scope
    _, _, rest = scope["raw_path"].partition(b"//")
    _, slash, raw = rest.partition(b"/")
    others = [each for each in scope["headers"] if each[0] != b"host"]
    return {
        **scope,
        "path": found[2] or "/",
        "raw_path": (slash + raw) or b"/",
        "headers": [(b"host", found[1].encode()), *others],
    }


def hosts_of(configured: str, bound: str, tokens: Sequence[object]) -> Hosts:
    """With tokens any name will do unless some are configured: no page has a token, and names of balancers and services differ."""
    return Hosts(configured, bound, any_name=bool(tokens))
