"""`retry`: try the dead failures of a run again."""

from typing import Annotated

import typer

from whimbrel.cli.arguments.options import (
    Json,
    MaxMemory,
    RunId,
    Slots,
    Source,
    Workers,
    begin,
    caller,
)
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_RETRY, choose_run
from whimbrel.cli.foreground.begin_and_end import Detach, code_of, go_on, pool_of
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating import control


def retry(
    run_id: RunId = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="only this group of failures, as `whimbrel failures` shows it"),
    ] = None,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    detach: Detach = False,
    json: Json = False,
) -> int:
    """Try the dead failures of a run again."""
    settings, screen = begin(json=json)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    with Interrupts() as interrupts, open_database(settings, screen, chooses=True) as system:
        ledger = system.store.ledger
        old = choose_run(screen, ledger, run_id, TO_RETRY)
        definition, pool = code_of(old, pool)
        only = None if group is None else control.group_of(ledger, old.id, group)
        interrupts.arm()
        ready, opened_again = control.retry(ledger, old.id, who=caller(), group=only, code=definition)
        reopened = (
            f"{counted(opened_again, 'dead failure')} {'is' if opened_again == 1 else 'are'} open again"
        )
        screen.say(
            f"Run {ready.id} of {definition.name}: {reopened if opened_again else 'what has failed is tried again'}."
        )
        return go_on(system, settings, screen, interrupts, ready, definition, None if detach else pool)
