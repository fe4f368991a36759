"""Declares options that several commands share, and does what each command begins with."""

import getpass
import os
import socket
from typing import Annotated

import typer

from whimbrel.cli.arguments.completion import migration_names, run_ids
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.text.printable import is_whole, visible
from whimbrel.errors import SettingsInvalid
from whimbrel.logs import configure_logs
from whimbrel.settings import Settings, read_settings
from whimbrel.workers.memory_limit import read_size
from whimbrel.workers.migration_places import BETWEEN

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output, for machines")]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--migrations",
        metavar="FILE|FOLDER|MODULE",
        help="Python file, folder of such files, or module with the migrations; give it once for each, or with commas between "
        "(default: WHIMBREL_MIGRATIONS)",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=0,
        max=512,
        help="worker processes (default: one a core); 0: none here, those that live elsewhere do the work",
    ),
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
MigrationName = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=migration_names, help="name of the migration")
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


def _checked(windows: list[str] | None) -> list[str] | None:
    """Checks windows before anything is done. Raises SettingsInvalid."""
    if not windows:
        return None
    from whimbrel.domain.runs.windows import check_windows  # noqa: PLC0415  most command lines have none

    return list(check_windows(windows))


def storable_note(note: str | None) -> str | None:
    """Returns a note as the audit can store it: with escapes for bytes that are no UTF-8, as a terminal of another encoding sends them."""
    return note if note is None or is_whole(note) else visible(note)


Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        callback=_checked,
        metavar="WINDOW",
        help="hours in which it works, such as '22:00-06:00 Europe/Berlin' or 'Mon-Fri 22:00-06:00 UTC'; outside it waits, or has with "
        "'... share=0.2' a fifth of its speed; give it once for each",
    ),
]
Nice = Annotated[
    int,
    typer.Option(
        "--nice",
        metavar="0-100",
        min=0,
        max=100,
        help="N: it rests N times as long as it works, its share is at most 1/(1+N)",
    ),
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="rows to show")]
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
        metavar="RUN",
        autocompletion=run_ids,
        help="id of the run, as `whimbrel status` shows it; without one the last that fits is taken, and said",
    ),
]


def begin(
    *, json: bool = False, own_database: bool = False, service: bool = False
) -> tuple[Settings, Screen]:
    """Reads the settings and opens the screen. Raises SettingsInvalid.

    `own_database`: the command does not use the settings' database. `service`: it shows no progress bar, beside which logs are not JSON.
    """
    screen = Screen(json=json)
    settings = read_settings()
    bar = screen.live and not service
    configure_logs("console" if bar else settings.log_format, settings.log_level, screen.log)
    if settings.overruled and not own_database:
        screen.note(settings.overruled)
    return settings, screen


def source(given: list[str] | None, settings: Settings) -> str | None:
    """Returns the places of the migrations, comma-separated: from the option, else the environment. Raises SettingsInvalid."""
    if not given:
        return settings.whimbrel_migrations
    if not all(place.strip(" ,") for place in given):
        raise SettingsInvalid("--migrations names nothing: give a file, a folder or a module.")
    return BETWEEN.join(given)


def memory(given: str | None, settings: Settings) -> int | None:
    """Returns the bytes that each worker process may hold: from the option, else the environment. Raises SettingsInvalid."""
    text = given or settings.whimbrel_max_memory
    return None if text is None else read_size(text)


def caller() -> str:
    """Returns who gives the command, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return visible(f"{user}@{socket.gethostname()}")
