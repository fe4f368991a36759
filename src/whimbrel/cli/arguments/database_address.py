"""Gives other programs the address of the MongoDB that commands work with."""

from typing import Annotated

import typer

from whimbrel.bootstrap import check_addresses, exists, left_running, place
from whimbrel.cli.output.screen import Screen
from whimbrel.settings import Settings

Create = Annotated[
    bool, typer.Option("--create", help="make an embedded MongoDB where there is none in this folder yet")
]


def left_running_at(settings: Settings, screen: Screen, *, create: bool) -> str:
    check_addresses(settings)
    is_new = not exists(settings)
    address = with_database(left_running(settings, create=create), settings)
    say_where(screen, settings)
    if settings.mongodb_uri is None:
        new = " is new and empty. It" if is_new else ""
        screen.say(f"It{new} runs until the next command that uses it has ended.", style="dim")
    return address


def say_where(screen: Screen, settings: Settings) -> None:
    screen.say(f"MongoDB: {place(settings)}, database {settings.database}.", style="dim")


def with_database(address: str, settings: Settings) -> str:
    """Adds the database to the embedded MongoDB's address, so that shells and importers use it."""
    return address if settings.mongodb_uri else address.replace("/?", f"/{settings.database}?", 1)
