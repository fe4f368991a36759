"""`rollback` and `cleanup`: what is done to documents after a run has ended. Each is a run itself."""

from typing import Annotated

import typer

from whimbrel.cli.choosing import TO_CLEAN_UP, TO_ROLL_BACK, chosen
from whimbrel.cli.options import (
    Json,
    MaxMemory,
    NewCollection,
    Rate,
    RunId,
    Slots,
    Workers,
    begin,
    caller,
    memory,
)
from whimbrel.cli.running import conclude, desk, introduce
from whimbrel.cli.screen import Screen
from whimbrel.domain.printable import counted
from whimbrel.engine import cleanup as cleaning
from whimbrel.engine import rollback
from whimbrel.engine.restore import definition
from whimbrel.errors import SettingsInvalid
from whimbrel.workers.team import Team

Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def roll_back(
    run_id: RunId = None,
    yes: Yes = False,
    new_collection: NewCollection = False,
    rate: Rate = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> int:
    """Put the documents that a run changed back as they were, but for those that were changed since."""
    settings, screen = begin(json=json)
    team = Team(workers=workers, slots=concurrency, memory=memory(max_memory, settings))
    with desk(settings, screen) as (at, foreground):
        old = chosen(screen, at.store.ledger, run_id, TO_ROLL_BACK)
        introduce(screen, at)
        rollback.check(at.store, old)
        if not agreed(
            screen, f"Take back what run {old.id} of {old.migration} changed in {old.ns}?", yes=yes
        ):
            return 1
        foreground.arm()
        started = rollback.start_rollback(
            at.store,
            old.id,
            who=caller(),
            defaults=settings.defaults,
            rate=rate,
            new_collection=new_collection,
        )
        screen.say(f"Run {started.id} rolls back run {old.id} on {started.ns}.")
        return conclude(screen, at, foreground.work(started, definition(started), team))


def clean_up(
    run_id: RunId = None,
    yes: Yes = False,
    new_collection: NewCollection = False,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> int:
    """Remove the before-images and marks of a run from the documents. It cannot be rolled back afterwards."""
    settings, screen = begin(json=json)
    team = Team(workers=workers, slots=concurrency, memory=memory(max_memory, settings))
    with desk(settings, screen) as (at, foreground):
        old = chosen(screen, at.store.ledger, run_id, TO_CLEAN_UP)
        introduce(screen, at)
        weight = cleaning.weigh(at.store, old.id, new_collection=new_collection)
        about = "" if weight.exact else "about "
        screen.say(
            f"Run {old.id} left {about}{counted(weight.size, 'byte')} in {about}{counted(weight.documents, 'document')} (before compression)."
        )
        question = "Remove them? The run cannot be rolled back then" + (
            ", and its migration would change the documents again." if old.mark == "marker" else "."
        )
        if not agreed(screen, question, yes=yes):
            return 1
        foreground.arm()
        started = cleaning.start_cleanup(
            at.store, old.id, who=caller(), defaults=settings.defaults, new_collection=new_collection
        )
        screen.say(f"Run {started.id} cleans up after run {old.id} on {started.ns}.")
        return conclude(screen, at, foreground.work(started, definition(started), team))


def agreed(screen: Screen, question: str, *, yes: bool) -> bool:
    """Whether a person wants it. Raises SettingsInvalid where nobody can be asked."""
    if yes:
        return True
    if not screen.answerable:
        raise SettingsInvalid(f"{question} Nobody can be asked here: say --yes.")
    if screen.ask(question):
        return True
    screen.say("Nothing was written.")
    return False
