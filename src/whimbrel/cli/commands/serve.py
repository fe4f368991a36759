"""`serve`: the REST API and the dashboard, with coordinator and workers, in one process and its children."""

from typing import Annotated

import typer

from whimbrel.cli.arguments.options import Json, MaxMemory, Slots, Source, Workers, begin
from whimbrel.cli.foreground.begin_and_end import pool_of


def serve(
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    no_workers: Annotated[
        bool,
        typer.Option(
            "--no-workers", help="only the API and the coordinator; workers live elsewhere: as --workers 0"
        ),
    ] = False,
    json: Json = False,
    no_dashboard: Annotated[
        bool,
        typer.Option("--no-dashboard", help="only the REST API, without pages: as WHIMBREL_DASHBOARD=off"),
    ] = False,
) -> int:
    """Serve the REST API and the dashboard, until Ctrl-C or SIGTERM."""
    # The web framework takes a third of a command's start, and no other command needs it.
    from whimbrel.cli.api_server import serve_until_told  # noqa: PLC0415

    settings, screen = begin(json=json, service=True)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    dashboard = not no_dashboard and settings.whimbrel_dashboard == "on"
    return serve_until_told(
        settings, screen, pool, workers=not no_workers and workers != 0, dashboard=dashboard
    )
