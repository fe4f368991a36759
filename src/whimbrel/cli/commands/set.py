"""`set`: change how a live run goes on."""

from typing import Annotated

import typer

from whimbrel.cli.arguments.options import BatchSize, Json, Rate, RunId, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_SET, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.errors import SettingsInvalid


def set_(
    run_id: RunId = None,
    rate: Rate = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="as fast as its workers can")] = False,
    batch_size: BatchSize = None,
    priority: Annotated[
        int | None,
        typer.Option(metavar="0-10", min=0, max=10, help="above 5 its batches go before those of other runs"),
    ] = None,
    no_follow: Annotated[
        bool,
        typer.Option(
            "--no-follow",
            help="end following: what was written so far is done, a last sweep looks at everything, and the run ends",
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Change the rate, batch size or priority of a run that has not ended, or end its following; it is not stopped for it."""
    settings, screen = begin(json=json)
    options_given: dict[str, int | None] = {"rate": rate, "batch_size": batch_size, "priority": priority}
    changes: dict[str, int | None] = {
        name: value for name, value in options_given.items() if value is not None
    }
    if no_rate:
        if rate is not None:
            raise SettingsInvalid("--rate and --no-rate exclude one another: give one of them.")
        changes["rate"] = None
    if no_follow:
        changes["follow"] = False
    if not changes:
        raise SettingsInvalid(
            "Nothing to set: give --rate, --no-rate, --batch-size, --priority or --no-follow."
        )
    with Interrupts(), open_database(settings, screen, chooses=True) as system:
        chosen = choose_run(screen, system.store.ledger, run_id, TO_SET)
        run = control.adjust(system.store.ledger, chosen.id, who=caller(), **changes)
        if json:
            screen.answer(run_object(view(system.store.ledger, run)))
        else:
            screen.show(_summary(run))
        return 0


def _summary(run: Run) -> str:
    pace = "as fast as its workers can" if run.rate is None else f"at most {run.rate:,} documents a second"
    return (
        f"Run {run.id} goes on: {pace}, priority {run.priority}, batches of {run.batch_size:,} documents from the next that "
        f"is planned.{_ending(run)}"
    )


def _ending(run: Run) -> str:
    if run.follow is None or run.follow.wanted:
        return ""
    return " It follows no more: it does what was written so far, sweeps once more, and ends."
