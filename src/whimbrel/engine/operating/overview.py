"""What is going on in the whole cluster: the runs that are not over, the share that the database's health leaves, and freezes.

The cost of a look does not depend on how many runs, batches or failures there are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from whimbrel.domain.health.verdict import Verdict
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_query import ACTIVE, RunQuery
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.freezing import freezes_object
from whimbrel.engine.operating.run_line import line_object
from whimbrel.engine.operating.run_pages import run_page
from whimbrel.engine.operating.run_view import iso_seconds, views
from whimbrel.ports import Ledger

MOST = 200  # runs that are watched: what is at work first
NEW = 50  # runs that are read in one look because they are new
LEFT = 20  # runs that are read in one look because they are not among the watched ones any more
EVERY = 2  # looks between two at health and freezes
OVERLAP = timedelta(
    seconds=2
)  # in which a run may have been added by a look before, and not been readable yet

Line = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """`lines`: of runs that are not over, and once of each that is over now. `gone`: runs that exist no more; `dropped`: that are watched no more.

    `more`: not all that are not over are watched. `missed`: more runs were added since the look before than were read.
    """

    lines: Mapping[str, Line]
    gone: Sequence[str] = ()
    dropped: Sequence[str] = ()
    more: bool = False
    missed: bool = False
    health: Mapping[str, Any]
    freeze: Mapping[str, Any]


class Watch:
    """Looks again and again. Used by one thread at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looks = 0
        self._watched: set[str] = set()  # runs that were not over at the last look
        # When the last run was added that was read; None: there was none.
        self._newest: datetime | None = None
        self._over: set[str] = set()  # new runs that are over, and were told
        self._health: Mapping[str, Any] = {}
        self._freeze: Mapping[str, Any] = {}

    def look(self) -> Overview:
        """Returns what is going on now."""
        page = run_page(self._ledger, RunQuery(statuses=ACTIVE), order="active", cursor=None, limit=MOST)
        watched = {run.id: run for run in page.runs}
        new, missed = self._new()
        left = sorted(self._watched - watched.keys())[:LEFT]
        found = {run_id: self._ledger.runs.get(run_id) for run_id in left}
        over = {run.id: run for run in (*new, *found.values()) if run is not None and run.status in ENDED}
        if page.cursor is None:  # it began while the list was read, and was in none of its parts
            watched |= {
                run_id: run for run_id, run in found.items() if run is not None and run_id not in over
            }
        lines = [line_object(run_view) for run_view in views(self._ledger, (watched | over).values())]
        self._watched = (self._watched - set(left)) | watched.keys()
        self._look_around()
        return Overview(
            lines={line["migrationId"]: line for line in lines}, gone=[run_id for run_id, run in found.items() if run is None],
            dropped=[run_id for run_id, run in found.items() if run is not None and run_id not in over | watched],
            more=page.cursor is not None, missed=missed, health=self._health, freeze=self._freeze,
        )  # fmt: skip

    def _new(self) -> tuple[Sequence[Run], bool]:
        """Returns the last runs that were added, as some are over before anybody has seen them; and whether there were more."""
        before, first = self._newest, self._looks == 0
        rows = self._ledger.runs.page(
            RunQuery(since=None if before is None else before - OVERLAP), limit=1 if first else NEW
        )
        if rows:
            self._newest = rows[0].created_at
        new = [run for run in rows if run.id not in self._over]
        self._over = {run.id for run in rows if run.status in ENDED}
        if first:
            return [], False
        return new, len(rows) == NEW and (before is None or rows[-1].created_at > before)

    def _look_around(self) -> None:
        if self._looks % EVERY == 0:
            self._health = health_line(self._ledger.health.verdict())
            frozen = freezes_object(self._ledger.freezes.look())
            self._freeze = {name: frozen[name] for name in ("frozen", "until", "note")}
        self._looks += 1


def health_line(verdict: Verdict) -> dict[str, Any]:
    """Returns what the database's health leaves of runs' speed, and what is worst."""
    worst = verdict.reasons[0] if verdict.reasons else None
    return {
        "state": str(verdict.level), "share": round(verdict.allowed, 4), "since": iso_seconds(verdict.since),
        "said": verdict.explain() or None,
        "worst": None if worst is None else {
            "signal": worst.signal, "level": str(worst.level), "since": iso_seconds(worst.since), "said": worst.sentence,
        },
    }  # fmt: skip
