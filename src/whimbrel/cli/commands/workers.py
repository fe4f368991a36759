"""`workers`: show the live worker processes."""

import socket
from datetime import UTC, datetime
from typing import Annotated

import typer

from whimbrel.cli.arguments.options import Json, begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.worker_tables import worker_object, workers_table
from whimbrel.domain.runs.workers import ALIVE


def workers(
    here: Annotated[
        bool,
        typer.Option("--here", help="only of this host; exit code 1 where none is alive: a health check"),
    ] = False,
    json: Json = False,
) -> int:
    """Show the worker processes that are alive, on all hosts, and what they work on."""
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        live_workers = system.store.ledger.leases.workers(ALIVE)
        if here:
            live_workers = [worker for worker in live_workers if worker.host == socket.gethostname()]
        if json:
            screen.answer([worker_object(worker) for worker in live_workers])
        elif live_workers:
            screen.show(workers_table(live_workers, datetime.now(UTC)))
        else:
            screen.show(
                "No worker has said within the last seconds that it is alive. Start some: whimbrel worker"
            )
        return 1 if here and not live_workers else 0
