"""Which MongoDB a command asks: one that is there, and said."""

import contextlib
from collections.abc import Iterator

from whimbrel.bootstrap import Opened, opened, place
from whimbrel.cli.output.screen import Screen
from whimbrel.settings import Settings


@contextlib.contextmanager
def open_database(
    settings: Settings, screen: Screen, *, create: bool = False, answers: bool = False, chooses: bool = False
) -> Iterator[Opened]:
    """The deployment that is there: in a wrong folder no other one is made, unless `create` says so. Raises EmbeddedMissing.

    `answers`: which one it is begins the answer, but for `--json`. `chooses`: it is said behind the run that is meant.
    """
    with opened(settings, create=create) as at:
        if not (answers and screen.json):
            screen.place = which(settings, at)
        screen.heads = answers
        if not (answers or chooses):
            screen.locate()
        try:
            yield at
        finally:  # also where no run was meant, and no answer came
            screen.locate()


def which(settings: Settings, system: Opened) -> str:
    """The sentence that says it, without secrets."""
    made = ", which is new and empty" if system.made else ""
    return f"MongoDB: {place(settings)}{made}, database {system.store.database}."
