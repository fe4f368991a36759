"""`set`: change how a live run goes on."""

from collections.abc import Sequence
from typing import Annotated

import typer

from whimbrel.cli.arguments.budget_options import MaxFailureRate, MaxFailures, MaxNewCause, budget_change
from whimbrel.cli.arguments.options import BatchSize, Json, Rate, RunId, Windows, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import TO_SET, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.domain.runs.budget_texts import limits
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.windows import windows_sentence
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
    window: Windows = None,
    no_windows: Annotated[bool, typer.Option("--no-windows", help="at any time of the day")] = False,
    nice: Annotated[
        int | None,
        typer.Option(
            "--nice",
            metavar="0-100",
            min=0,
            max=100,
            help="N: it rests N times as long as it works; 0: not at all",
        ),
    ] = None,
    max_failures: MaxFailures = None,
    max_failure_rate: MaxFailureRate = None,
    max_new_cause: MaxNewCause = None,
    no_follow: Annotated[
        bool,
        typer.Option(
            "--no-follow",
            help="end following: what was written so far is done, a last sweep looks at everything, and the run ends",
        ),
    ] = False,
    json: Json = False,
) -> int:
    """Change how a run goes on that has not ended: its rate, batch size, priority, windows, how nice it is, its failure budget; or end its following.

    It is not stopped for it.
    """
    settings, screen = begin(json=json)
    options_given: dict[str, float | Sequence[str] | None] = {
        "rate": rate, "batch_size": batch_size, "priority": priority, "nice": nice,
        "windows": tuple(window) if window else None,
    }  # fmt: skip
    changes: dict[str, float | Sequence[str] | None] = {
        name: value for name, value in options_given.items() if value is not None
    }
    changes |= budget_change(max_failures, max_failure_rate, max_new_cause)
    if no_windows:
        if window:
            raise SettingsInvalid("--window and --no-windows exclude one another: give one of them.")
        changes["windows"] = ()
    if no_rate:
        if rate is not None:
            raise SettingsInvalid("--rate and --no-rate exclude one another: give one of them.")
        changes["rate"] = None
    if no_follow:
        changes["follow"] = False
    if not changes:
        raise SettingsInvalid(
            "Nothing to set: give --rate, --no-rate, --batch-size, --priority, --window, --no-windows, --nice, --max-failures, "
            "--max-failure-rate, --max-new-cause or --no-follow."
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
    windows = f", in its windows: {windows_sentence(run.windows)}" if run.windows else ""
    nice = f", nice {run.nice}" if run.nice else ""
    goes = "goes on" if run.status is RunStatus.RUNNING else f"is {run.status}; it goes"
    return (
        f"Run {run.id} {goes}: {pace}{windows}{nice}, priority {run.priority}, batches of {run.batch_size:,} documents from the next that "
        f"is planned. Failure budget: {limits(run.budget) or 'none'}.{_ending(run)}"
    )


def _ending(run: Run) -> str:
    if run.follow is None or run.follow.wanted:
        return ""
    return " It follows no more: it does what was written so far, sweeps once more, and ends."
