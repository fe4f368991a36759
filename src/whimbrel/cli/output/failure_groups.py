"""Shows the first causes of a run's failures for several commands."""

from collections.abc import Iterator

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.failure_tables import groups_table
from whimbrel.domain.failures.failure import GroupPage
from whimbrel.domain.runs.run import Run
from whimbrel.domain.text.printable import counted
from whimbrel.ports import Ledger

GROUPS = 10  # that other commands show


def first_groups(ledger: Ledger, run: Run) -> Iterator[FactTable | str]:
    """Yields the first causes of a run's failures and a summary of the others; nothing where there are none."""
    page = ledger.failures.groups(run.id, limit=GROUPS)
    if page.groups:
        known = ledger.known_causes.of(run.id)
        yield groups_table(page.groups, "Findings" if run.report else "Failures by cause", known)
    if page.after is not None:
        yield f"{summary_of_rest(page)} All of them: whimbrel failures {run.id}"


def summary_of_rest(page: GroupPage) -> str:
    """Summarizes the groups after a page."""
    return f"In {counted(page.rest, 'more group')}: {page.dead:,} dead, {page.open:,} open, {page.resolved:,} resolved."
