"""The server of the REST API: its socket, its signals, and how it ends."""

import contextlib
import errno
import ipaddress
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType

import uvicorn

from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.api.http_protocol import HttpProtocol
from whimbrel.bootstrap import Opened, check_addresses
from whimbrel.cli.arguments.which_database import which
from whimbrel.cli.foreground.interrupts import HEARD, INTERRUPTED, PATIENCE
from whimbrel.cli.output.run_log import RunLogger
from whimbrel.cli.output.screen import Screen
from whimbrel.errors import PortBusy, SettingsInvalid
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

BACKLOG = 2048  # connections that wait to be accepted
FILES = 8192  # that this process may have open, where the system lets it: a connection is one
OTHERS = 256  # of those, for what are no connections to the API


def serve_until_told(settings: Settings, screen: Screen, pool: WorkerPool, *, workers: bool) -> int:
    """Serve, with a coordinator and, if `workers`, a pool. Raises SettingsInvalid, PortBusy, and what broke the system."""
    tokens = read_tokens(settings.api_tokens)
    if not tokens and not _loopback(settings.host):
        raise SettingsInvalid(
            f"HOST={settings.host} can be reached from other machines, and API_TOKENS is not set. Set API_TOKENS, or HOST=127.0.0.1."
        )
    if not tokens and settings.api_public != "all":
        raise SettingsInvalid(
            f"API_PUBLIC={settings.api_public} needs tokens, and API_TOKENS is not set: then all is open to whoever reaches {settings.host}."
        )
    proxies = read_proxies(settings.api_proxies)
    check_addresses(settings)
    system = System(settings, pool, workers=workers)
    app = create_app(system, tokens)
    listening = listen(settings.host, settings.port)
    server = _Server(
        uvicorn.Config(
            app, http=_wire(settings), ws="none", log_config=None, access_log=False, server_header=False, lifespan="on",
            timeout_graceful_shutdown=5, proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
        ),
        system,
    )  # fmt: skip
    system.on_broken = lambda: setattr(server, "should_exit", True)
    system.on_reached = partial(_tell_which, screen, settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    screen.say(f"Serves http://{host}:{listening.getsockname()[1]}/docs. Ctrl-C drains and ends.")
    with RunLogger(screen, lambda: system.at.store.ledger if system.ready else None):
        server.run([listening])
    system.stop()  # also where a second signal made the server leave without a word
    if system.broken is not None:
        raise system.broken
    return 0


def _tell_which(screen: Screen, settings: Settings, system: Opened) -> None:
    found = which(settings, system)
    screen.report(found, found, database=system.store.database)


def read_proxies(text: str) -> Sequence[str]:
    """`API_PROXIES`. Whoever is named there can say that a request comes from any address. Raises SettingsInvalid."""
    found = [each for each in (part.strip() for part in text.split(",")) if each]
    for each in found:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise SettingsInvalid(
                f"API_PROXIES: {each!r} is no address and no network. Write them as 10.0.0.7 or 10.0.0.0/8, with commas between."
            ) from error
    return found


def _wire(settings: Settings) -> type[HttpProtocol]:
    """The protocol of a connection, of which there are as many as files may be open."""

    class Bounded(HttpProtocol):
        patience = settings.api_timeout
        most = max(OTHERS, _files() - OTHERS)

    return Bounded


def _files() -> int:
    """How many files this process may have open: more than most shells say, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else min(soft, FILES)


class _Server(uvicorn.Server):
    """uvicorn, but signals drain, hurry, end; and one that was obeyed is not raised once more: the exit code is 0."""

    def __init__(self, config: uvicorn.Config, system: System) -> None:
        super().__init__(config)
        self._system, self._heard = system, 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in HEARD:
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  as signal() calls it
        self._heard += 1
        if self._heard >= PATIENCE:
            os._exit(INTERRUPTED)
        self.should_exit = True
        self._system.leave()
        if self._heard > 1:
            self.force_exit = True
            self._system.hurry()


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """The socket, before anything else: a busy port is an error at once. Raises PortBusy, SettingsInvalid."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsInvalid(f"HOST={host} is no address of this machine: {error.strerror}.") from error
    # By its protocol asyncio knows that it is TCP, and sends every answer at once: else its second part waits until the
    # client has acknowledged the first, 40 ms on a connection that is kept open.
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(BACKLOG)  # bound alone, it would still let another bind the same port
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsInvalid(f"HOST={host} is no address of this machine.") from error
        raise PortBusy(
            f"Port {port} of {host} cannot be used: {error.strerror}. Set PORT to another."
        ) from error
    return found
