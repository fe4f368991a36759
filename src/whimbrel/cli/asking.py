"""Which MongoDB a command asks: one that is there, and said in the first line."""

from collections.abc import Iterator
from contextlib import contextmanager

from whimbrel.bootstrap import Opened, opened
from whimbrel.cli.screen import Screen
from whimbrel.settings import Settings


@contextmanager
def asked(settings: Settings, screen: Screen, *, create: bool = False) -> Iterator[Opened]:
    """The deployment that is there: in a wrong folder no other one is made, unless `create` says so. Raises EmbeddedMissing."""
    with opened(settings, create=create) as at:
        locate(screen, at)
        yield at


def locate(screen: Screen, at: Opened) -> None:
    made = ", which is new and empty" if at.made else ""
    screen.say(f"MongoDB: {at.where}{made}, database {at.store.database}.", style="dim")
