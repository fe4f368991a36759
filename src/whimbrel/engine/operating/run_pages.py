"""Lists runs for people in pages: newest first, or what is at work before what waits and what is over."""

from collections.abc import Sequence
from dataclasses import dataclass

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_query import GROUPS, ListPlace, RunOrder, RunQuery
from whimbrel.ports import Ledger


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, `brief`, and the cursor of the next page; None: nothing comes after them."""

    runs: Sequence[Run]
    cursor: str | None


def run_page(ledger: Ledger, query: RunQuery, *, order: RunOrder, cursor: str | None, limit: int) -> RunPage:
    """Returns a page of the runs of a query. Raises CursorInvalid.

    A run that ends between two pages of the order `active` may come twice: at work, and over.
    """
    after = None if cursor is None else ListPlace.of(cursor, order)
    if order == "newest":
        runs = ledger.runs.page(query, after=after and after.place, limit=limit)
        return RunPage(runs, ListPlace(runs[-1].place).cursor if len(runs) == limit else None)
    found = list[Run]()
    begin = 0 if after is None or after.group is None else after.group
    for number, group in enumerate(GROUPS[begin:], begin):
        place = after.place if after is not None and number == begin else None
        chosen = query.only(group)
        if chosen.statuses:
            found += ledger.runs.page(chosen, after=place, limit=limit - len(found))
        if len(found) == limit:
            return RunPage(found, ListPlace(found[-1].place, number).cursor)
    return RunPage(found, None)
