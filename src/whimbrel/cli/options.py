"""Options that several commands share, and what each of them begins with."""

import getpass
import os
import socket
from typing import Annotated

import typer

from whimbrel.cli.screen import Screen
from whimbrel.logs import configure_logs
from whimbrel.settings import Settings, read_settings
from whimbrel.workers.memory import read_size

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output, for machines")]
Source = Annotated[
    str | None,
    typer.Option(
        "--migrations",
        metavar="FILE|FOLDER|MODULE",
        help="Python file, folder of such files, or module with the migrations (default: WHIMBREL_MIGRATIONS)",
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
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        help="what a worker process may hold, such as 800 (megabytes), 512M or 2G; one that holds more is replaced",
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
NewCollection = Annotated[
    bool,
    typer.Option(
        "--new-collection",
        help="the run's collection was dropped or renamed: take the one that has its name now",
    ),
]
RunId = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="id of the run, as `whimbrel status` shows it; without one the last that fits is taken, and said",
    ),
]


def begin(*, json: bool = False, own_database: bool = False) -> tuple[Settings, Screen]:
    """Read the settings and open the screen. `own_database`: the command uses none that they name. Raises SettingsInvalid."""
    screen = Screen(json=json)
    settings = read_settings()
    configure_logs(settings.log_format, settings.log_level, screen.log)
    if settings.overruled and not own_database:
        screen.note(settings.overruled)
    return settings, screen


def memory(given: str | None, settings: Settings) -> int | None:
    """Bytes that each worker process may hold: by the option, else by the environment. Raises SettingsInvalid."""
    text = given or settings.whimbrel_max_memory
    return None if text is None else read_size(text)


def caller() -> str:
    """Who gives the command, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
