"""Options that several commands share, and what each of them begins with."""

import getpass
import os
import socket
from typing import Annotated

import typer

from whimbrel.cli.screen import Screen
from whimbrel.logs import configure_logs
from whimbrel.settings import Settings, read_settings

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output, for machines")]
Source = Annotated[
    str | None,
    typer.Option(
        "--migrations",
        metavar="FILE|MODULE",
        help="Python file or module with the migrations (default: WHIMBREL_MIGRATIONS)",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, max=512, help="worker processes (default: one a core)"),
]
Slots = Annotated[
    int,
    typer.Option(
        "--concurrency", metavar="N", min=1, max=64, help="batches at a time in each worker process"
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=100_000,
        help="documents in a batch (of a new run: the migration's, unless given)",
    ),
]
Rate = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=10_000_000,
        help="documents a second that all its workers together may evaluate",
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="id of the run, as `whimbrel status` shows it")]


def begin(*, json: bool = False) -> tuple[Settings, Screen]:
    """Read the settings and open the screen. Raises SettingsInvalid."""
    screen = Screen(json=json)
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level, screen.log)
    return settings, screen


def caller() -> str:
    """Who gives the command, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
