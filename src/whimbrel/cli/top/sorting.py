"""The orders of the runs of a page."""

from collections.abc import Callable, Sequence

from whimbrel.cli.output.run_rows import failures_of, share_of
from whimbrel.engine.operating.run_view import RunView

NEVER = float("inf")
# By the column that a run is sorted by, in the order in which one follows the other. Runs that are equal stay as they were read.
ORDERS: dict[str, Callable[[RunView], object] | None] = {
    "state": None,  # as they are read: what is at work first
    "done": lambda view: -view.progress,
    "docs/s": lambda view: -view.throughput,
    "eta": lambda view: NEVER if view.eta is None else view.eta,
    "failed": lambda view: -failures_of(view),
    "share": lambda view: NEVER if (share := share_of(view)) is None else share,
    "migration": lambda view: view.run.migration,
    "run": lambda view: (-view.run.created_at.timestamp(), view.run.id),
}


def ordered(views: Sequence[RunView], by: str, *, reverse: bool) -> list[RunView]:
    order = ORDERS[by]
    found = list(views) if order is None else sorted(views, key=order)  # type: ignore[arg-type]  # all of a kind
    return found[::-1] if reverse else found


def next_order(by: str) -> str:
    names = list(ORDERS)
    return names[(names.index(by) + 1) % len(names)]
