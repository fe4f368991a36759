"""Asks before something that cannot be taken back."""

from typing import Annotated

import typer

from whimbrel.cli.output.screen import Screen
from whimbrel.errors import SettingsInvalid

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def agreed(screen: Screen, question: str, *, yes: bool) -> bool:
    """Asks a person and returns whether they agree. Raises SettingsInvalid where nobody can be asked."""
    if yes:
        return True
    if not screen.answerable:
        raise SettingsInvalid(f"{question} Nobody can be asked here: say --yes.")
    if screen.ask(question):
        return True
    screen.say("Nothing was written.")
    return False
