"""Opens the MongoDB that a command uses, which must exist, and tells which one it is."""

import contextlib
from collections.abc import Iterator

from whimbrel.bootstrap import Opened, opened, place
from whimbrel.cli.output.screen import Screen
from whimbrel.settings import Settings


@contextlib.contextmanager
def open_database(
    settings: Settings, screen: Screen, *, create: bool = False, answers: bool = False, chooses: bool = False
) -> Iterator[Opened]:
    """Opens the existing deployment; only with `create` a new one is made, perhaps in a wrong folder. Raises EmbeddedMissing.

    `answers`: the answer begins with its name, except for `--json`. `chooses`: its name is shown after the run that is meant.
    """
    with opened(settings, create=create) as system:
        if not (answers and screen.json):
            screen.place = database_sentence(settings, system)
        screen.heads = answers
        if not (answers or chooses):
            screen.locate()
        try:
            yield system
        finally:  # also where no run was chosen, and no answer shown
            screen.locate()


def database_sentence(settings: Settings, system: Opened) -> str:
    """Returns a sentence that names the database, without secrets."""
    suffix = ", which is new and empty" if system.made else ""
    return f"MongoDB: {place(settings)}{suffix}, database {system.store.database}."
