"""What `top` looks at: one page of runs, one run in detail, the cluster's health, and the workers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from whimbrel.cli.output.worker_tables import worker_object
from whimbrel.cli.top.run_pages import RunPage, RunPages, Wanted
from whimbrel.domain.failures.failure import GroupPage
from whimbrel.domain.failures.known_causes import KnownCause
from whimbrel.domain.health.verdict import STALE_SLOW, Verdict
from whimbrel.domain.runs.freezes import in_force
from whimbrel.domain.runs.workers import ALIVE, Worker
from whimbrel.engine.operating.run_view import RunView, iso_time, row_object, view
from whimbrel.ports import Ledger
from whimbrel.ports.freezes import FreezeLook
from whimbrel.ports.health import HealthSettings

CAUSES = 10  # of a run that are shown
NO_CAUSES = GroupPage(groups=(), after=None, rest=0)


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run, and what is known of its causes."""

    view: RunView
    causes: GroupPage = NO_CAUSES
    known: Mapping[str, KnownCause] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of things at one time. `detail`: of the run that was asked for; None where there is no such run."""

    at: datetime
    wanted: Wanted
    page: RunPage
    verdict: Verdict
    settings: HealthSettings
    freezes: FreezeLook
    workers: tuple[Worker, ...]
    detail_of: str | None = None
    detail: RunDetail | None = None

    @property
    def sampled(self) -> bool:
        """Whether the verdict says what runs have now: while no process is alive, nobody samples, and nothing waits for that."""
        age = self.verdict.age
        return age is not None and (age < STALE_SLOW or bool(self.workers))


class Looker:
    """Takes snapshots. `wanted` and `detail_of` say what of; another thread may change them."""

    def __init__(self, ledger: Ledger, wanted: Wanted, detail_of: str | None = None) -> None:
        self._ledger, self._pages = ledger, RunPages(ledger)
        self.wanted, self.detail_of = wanted, detail_of

    def look(self) -> Snapshot:
        """By a fixed number of queries, however many runs, batches and failures there are."""
        wanted, detail_of = self.wanted, self.detail_of
        ledger = self._ledger
        return Snapshot(
            at=datetime.now(UTC), wanted=wanted, page=self._pages.page(wanted), verdict=ledger.health.verdict(),
            settings=ledger.health.settings(),
            freezes=ledger.freezes.look(), workers=tuple(ledger.leases.workers(ALIVE)), detail_of=detail_of,
            detail=None if detail_of is None else self._detail(detail_of),
        )  # fmt: skip

    def _detail(self, run_id: str) -> RunDetail | None:
        run = self._ledger.runs.get(run_id)
        if run is None:
            return None
        causes = self._ledger.failures.groups(run_id, limit=CAUSES)
        known = self._ledger.known_causes.of(run_id) if causes.groups else {}
        return RunDetail(view(self._ledger, run), causes, known)


def snapshot_object(snapshot: Snapshot) -> dict[str, Any]:
    """Returns a snapshot for `--json`."""
    verdict, look = snapshot.verdict, snapshot.freezes
    return {
        "at": iso_time(snapshot.at), "share": verdict.allowed if snapshot.sampled else None, "level": str(verdict.level) if snapshot.sampled else None,
        "reason": (verdict.explain() or None) if snapshot.sampled else None, "frozen": in_force(look.freezes, look.now) is not None,
        "runs": [row_object(run_view) for run_view in snapshot.page.views],
        "more": snapshot.page.following is not None,
        "workers": [worker_object(worker) for worker in snapshot.workers],
    }  # fmt: skip
