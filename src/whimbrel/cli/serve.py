"""`serve`: the REST API, with coordinator and workers, in one process and its children."""

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from typing import Annotated

import typer
import uvicorn

from whimbrel.api.access import read_tokens
from whimbrel.api.app import create_app
from whimbrel.api.system import System
from whimbrel.cli.options import Slots, Source, Workers, begin
from whimbrel.errors import PortBusy, SettingsInvalid
from whimbrel.workers.team import Team


def serve(
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    no_workers: Annotated[
        bool, typer.Option("--no-workers", help="only the API and the coordinator; workers live elsewhere")
    ] = False,
) -> int:
    """Serve the REST API, until Ctrl-C or SIGTERM."""
    settings, screen = begin()
    team = Team(workers=workers, slots=concurrency, source=migrations or settings.whimbrel_migrations)
    tokens = read_tokens(settings.api_tokens)
    if not tokens and not _loopback(settings.host):
        raise SettingsInvalid(
            f"HOST={settings.host} can be reached from other machines, and API_TOKENS is not set. Set API_TOKENS, or HOST=127.0.0.1."
        )
    listening = _listen(settings.host, settings.port)
    system = System(settings, team, workers=not no_workers)
    server = _Server(
        uvicorn.Config(
            create_app(system, tokens), log_config=None, access_log=False, server_header=False, lifespan="on",
            timeout_graceful_shutdown=5,
        )
    )  # fmt: skip
    system.on_broken = lambda: setattr(server, "should_exit", True)
    screen.say(f"Serves http://{settings.host}:{listening.getsockname()[1]}/docs. Ctrl-C drains and ends.")
    server.run([listening])
    if system.broken is not None:
        raise system.broken
    return 0


class _Server(uvicorn.Server):
    """uvicorn, but a signal that was obeyed is not raised once more at the end: the exit code is 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """The socket, before anything else: a busy port is an error at once. Raises PortBusy, SettingsInvalid."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise SettingsInvalid(f"HOST={host} is no address of this machine: {error}.") from error
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise PortBusy(
            f"Port {port} of {host} cannot be used: {error.strerror}. Set PORT to another."
        ) from error
    return found
