"""`prune`: remove what is old from the ledger."""

from typing import Annotated, Any

import typer

from whimbrel.cli.arguments.consent import Yes, agreed
from whimbrel.cli.arguments.options import Json, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.domain.text.printable import counted
from whimbrel.engine.housekeeping.prune import PruneReport
from whimbrel.engine.housekeeping.prune import prune as remove

Days = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=36_500,
        help="keep what ended less than N days ago (default: WHIMBREL_KEEP_DAYS)",
    ),
]
Seconds = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=86_400, help="stop after about so many seconds; call it again to go on"
    ),
]


def prune(
    days: Days = None,
    seconds: Seconds = 60,
    trial: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Remove runs that ended long ago from the ledger, with their failures and their audit. No document is touched."""
    settings, screen = begin(json=json)
    keep_days = days or settings.whimbrel_keep_days
    question = f"Remove runs that ended more than {keep_days} days ago, their failures and their audit?"
    if not trial and not agreed(screen, question, yes=yes):
        return 1
    with Interrupts(), open_database(settings, screen) as system:
        report = remove(system.store.ledger, keep_days, seconds=seconds, who=caller(), trial=trial)
    if json:
        screen.answer(_object(report))
    else:
        screen.show(_summary(report, trial=trial))
    return 0


def _object(report: PruneReport) -> dict[str, Any]:
    return {
        "runs": report.runs, "batches": report.batches, "failures": report.failures, "kept": dict(report.kept),
        "more": report.more,
    }  # fmt: skip


def _summary(report: PruneReport, *, trial: bool) -> str:
    runs = counted(len(report.runs), "run")
    sentences = [
        f"{runs} would be removed."
        if trial
        else f"Removed {runs}, {counted(report.batches, 'batch')} and {counted(report.failures, 'failure')}."
    ]
    sentences += [f"Kept though old: {count:,} {why}." for why, count in sorted(report.kept.items())]
    if report.more:
        sentences.append("There is more: call it again.")
    return " ".join(sentences)
