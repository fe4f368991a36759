"""Runs the server of the REST API and the dashboard: its socket, its signals, its shutdown."""

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
from whimbrel.bootstrap import Opened, check_addresses, check_reporting
from whimbrel.cli.arguments.which_database import database_sentence
from whimbrel.cli.foreground.interrupts import INTERRUPTED, PATIENCE, SIGNALS
from whimbrel.cli.output.run_log import RunLogger
from whimbrel.cli.output.screen import Screen
from whimbrel.dashboard.app import install as install_dashboard
from whimbrel.errors import PortBusy, SettingsInvalid
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

BACKLOG = 2048  # connections that wait to be accepted
FILES = 8192  # that this process may have open if the system allows it; a connection is one
OTHERS = 256  # of those, for other uses than connections to the API


def serve_until_told(
    settings: Settings, screen: Screen, pool: WorkerPool, *, workers: bool, dashboard: bool
) -> int:
    """Serves the API with a coordinator, if `workers` a pool, and if `dashboard` the pages. Raises SettingsInvalid, PortBusy, and what broke the system."""
    tokens = read_tokens(settings.api_tokens)
    if not tokens and not _is_loopback(settings.host):
        raise SettingsInvalid(
            f"HOST={settings.host} can be reached from other machines, and API_TOKENS is not set. Set API_TOKENS, or HOST=127.0.0.1."
        )
    if not tokens and settings.api_public != "all":
        raise SettingsInvalid(
            f"API_PUBLIC={settings.api_public} needs tokens, and API_TOKENS is not set: then all is open to whoever reaches {settings.host}."
        )
    proxies = read_proxies(settings.api_proxies)
    check_addresses(settings)
    check_reporting(settings)
    system = System(settings, pool, workers=workers)
    app = create_app(system, tokens)
    if dashboard:
        install_dashboard(app, system, tokens)
    listening = listen(settings.host, settings.port)
    server = _Server(
        uvicorn.Config(
            app, http=_protocol_class(settings), ws="none", log_config=None, access_log=False, server_header=False, lifespan="on",
            timeout_graceful_shutdown=5, proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
        ),
        system,
    )  # fmt: skip
    system.on_broken = lambda: setattr(server, "should_exit", True)
    system.on_reached = partial(_report_database, screen, settings)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listening.getsockname()[1]}"
    pages = f"{address}/ (dashboard) and {address}/docs (REST API)" if dashboard else f"{address}/docs"
    screen.say(f"Serves {pages}. Ctrl-C drains and ends.")
    with RunLogger(screen, lambda: system.deployment.store.ledger if system.ready else None):
        server.run([listening])
    system.stop()  # also where a second signal made the server skip its shutdown
    if system.broken is not None:
        raise system.broken
    return 0


def _report_database(screen: Screen, settings: Settings, system: Opened) -> None:
    sentence = database_sentence(settings, system)
    screen.report(sentence, sentence, database=system.store.database)


def read_proxies(text: str) -> Sequence[str]:
    """Reads `API_PROXIES`. A proxy named there may claim any address for a request. Raises SettingsInvalid."""
    proxies = [proxy for proxy in (part.strip() for part in text.split(",")) if proxy]
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            raise SettingsInvalid(
                f"API_PROXIES: {proxy!r} is no address and no network. Write them as 10.0.0.7 or 10.0.0.0/8, with commas between."
            ) from error
    return proxies


def _protocol_class(settings: Settings) -> type[HttpProtocol]:
    """Returns the protocol class of a connection, which limits their number to what the open files allow."""

    class Bounded(HttpProtocol):
        patience = settings.api_timeout
        most = max(OTHERS, _raise_open_files_limit() - OTHERS)

    return Bounded


def _raise_open_files_limit() -> int:
    """Raises the limit of open files above what most shells set, as far as the system allows, and returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return limit
    return limit if soft == resource.RLIM_INFINITY else min(soft, FILES)


class _Server(uvicorn.Server):
    """A uvicorn server whose first signals drain, hurry and end it; a handled one is not raised again, so the exit code is 0."""

    def __init__(self, config: uvicorn.Config, system: System) -> None:
        super().__init__(config)
        self._system, self._heard = system, 0

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in SIGNALS:
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


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket, before anything else, so that a busy port fails at once. Raises PortBusy, SettingsInvalid."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsInvalid(f"HOST={host} is no address of this machine: {error.strerror}.") from error
    # From the protocol asyncio knows that it is TCP, and sends every answer at once: else the second part waits until the
    # client has acknowledged the first, 40 ms on a kept-alive connection.
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)  # if only bound, another socket could still bind the same port
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsInvalid(f"HOST={host} is no address of this machine.") from error
        raise PortBusy(
            f"Port {port} of {host} cannot be used: {error.strerror}. Set PORT to another."
        ) from error
    return listener
