"""Refuses requests from pages of other sites: browsers let them send requests here, and their names may point to this machine.

A host name that was not given to this server is refused (DNS rebinding), and so is what a browser says comes from another site's page.
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
_BY_ADDRESS: Final = PROBES | {LIVE}  # their clients often know only an address: kubelets, Prometheus


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, and a port where one is given."""

    host: str
    port: int | None

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, if it is an address and not a name; an address cannot be made to point elsewhere."""
        try:
            return ipaddress.ip_address(self.host.strip("[]"))
        except ValueError:
            return None


def authority(text: str) -> Authority | None:
    """Parses a `Host` header; returns None where it is invalid."""
    match = _AUTHORITY.fullmatch(text.strip().lower())
    if match is None:
        return None
    host, port = match[1], int(match[2]) if match[2] else None
    return Authority(_normalized(host), port) if port is None or port < 2**16 else None


def _normalized(host: str) -> str:
    """Returns one spelling of each address."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host


class Hosts:
    """The names of this server: of API_HOSTS, of the address that it listens on, and of this machine to itself."""

    def __init__(self, configured: str, bound: str, *, any_name: bool) -> None:
        """`any_name`: where no name is configured, all are accepted. Raises SettingsInvalid."""
        self.named = tuple(_read_hosts(configured))
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
        return any(name.host == host.host and name.port in (None, host.port) for name in self.named)

    def named_as(self, origin: Authority, scheme: str) -> bool:
        """Whether pages of this origin are this server's own, even if a proxy has changed the `Host`."""
        port = origin.port or _DEFAULT_PORTS[scheme]
        return any(
            name.host == origin.host and (name.port or _DEFAULT_PORTS[scheme]) == port for name in self.named
        )


def _read_hosts(configured: str) -> Iterable[Authority]:
    for name in filter(None, (part.strip() for part in configured.split(","))):
        host = authority(name)
        if host is None:
            raise SettingsInvalid(
                f"API_HOSTS: {name!r} is no name of a host. Write names such as whimbrel.example.org, or name:port, with commas between."
            )
        yield host


class SameOrigin:
    """Middleware: refuses host names that are not this server's, and requests from pages of other sites."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _from_absolute_address(scope)
        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refuse_early(error_answer(403, *refusal), scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[str, str] | None:
        host_headers = headers.getlist("host")
        host = authority(host_headers[0]) if len(host_headers) == 1 else None
        if host_headers and not self._names_this_server(scope["path"], host):  # browsers always send it
            return (
                "foreign_host",
                f"This server is not known as {host_headers[0][:100]!r}. Name it in API_HOSTS, or ask for localhost.",
            )
        if not self._is_own_page(scope["method"], headers, host):
            return (
                "foreign_origin",
                "A page of another site sent this. Name the site in API_HOSTS if it is this server's own.",
            )
        return None

    def _names_this_server(self, path: str, host: Authority | None) -> bool:
        if host is None:
            return self._hosts.any_name
        return self._hosts.known(host) or (path in _BY_ADDRESS and host.address is not None)

    def _is_own_page(self, method: str, headers: Headers, host: Authority | None) -> bool:
        sites = headers.getlist("sec-fetch-site")
        is_own = all(site.strip().lower() in _OURS for site in sites)
        if method in READS:
            # No page can read an answer, but it can send expensive requests, or keep a stream open.
            is_own = is_own or _is_followed_link(headers)
        return is_own and all(
            self._is_same_origin(origin, host, confirmed=bool(sites)) for origin in headers.getlist("origin")
        )

    def _is_same_origin(self, origin: str, host: Authority | None, *, confirmed: bool) -> bool:
        """Whether an origin is this server. `confirmed`: the browser itself says that the page has the same origin."""
        match = _ORIGIN.fullmatch(origin.strip().lower())
        page = authority(match[2]) if match else None
        if match is None or page is None:
            return False  # such as null
        if self._hosts.named_as(page, match[1]) or (self._hosts.any_name and confirmed):
            return True
        default = _DEFAULT_PORTS[match[1]]
        return host is not None and (page.host, page.port or default) == (host.host, host.port or default)


def _is_followed_link(headers: Headers) -> bool:
    """Whether a person followed a link from another site, which is harmless. A frame is not, as its page can load it any number of times."""
    kind = headers.get("sec-fetch-dest", "document")
    return headers.get("sec-fetch-mode") == "navigate" and kind == "document"


def _from_absolute_address(scope: Scope) -> Scope:
    """Uses the host of an absolute address in the first line, as proxies are sent it, instead of `Host` (RFC 9112, 3.2.2)."""
    match = _ABSOLUTE.fullmatch(scope["path"])
    if match is None:
        return scope
    _, _, after_scheme = scope["raw_path"].partition(b"//")
    _, slash, raw = after_scheme.partition(b"/")
    other_headers = [header for header in scope["headers"] if header[0] != b"host"]
    return {
        **scope,
        "path": match[2] or "/",
        "raw_path": (slash + raw) or b"/",
        "headers": [(b"host", match[1].encode()), *other_headers],
    }


def hosts_of(configured: str, bound: str, tokens: Sequence[object]) -> Hosts:
    """Returns the server's names. With tokens any name is accepted unless some are configured.

    No page has a token, and names of balancers and services differ.
    """
    return Hosts(configured, bound, any_name=bool(tokens))
