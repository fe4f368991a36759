"""The failures of a run by cause, as other commands show them."""

from collections.abc import Iterator

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.tables import groups_table
from whimbrel.domain.failures.failure import GroupPage
from whimbrel.domain.runs.run import Run
from whimbrel.domain.text.printable import counted
from whimbrel.ports import Ledger

GROUPS = 10  # that other commands show


def first_groups(ledger: Ledger, run: Run) -> Iterator[FactTable | str]:
    """The first causes of a run's failures, and what is in all others; nothing where there are none."""
    page = ledger.failures.groups(run.id, limit=GROUPS)
    if page.groups:
        yield groups_table(page.groups, "Findings" if run.report else "Failures by cause")
    if page.after is not None:
        yield f"{rest_of(page)} All of them: whimbrel failures {run.id}"


def rest_of(page: GroupPage) -> str:
    """What is in the groups behind a page."""
    return f"In {counted(page.rest, 'more group')}: {page.dead:,} dead, {page.open:,} open, {page.resolved:,} resolved."
