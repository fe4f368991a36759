"""Prunes runs that ended long ago, with all that the ledger knows of them, unless somebody may still need them."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import is_verified, over_everything
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.ports import Ledger
from whimbrel.ports.retention import Entry

log = structlog.get_logger("whimbrel.parent")

ROUND = 30.0  # seconds between two rounds of a working process
ROUND_SECONDS = 1.0  # that a round may take, about
PROCESS_DAYS = 1.0  # after which what a killed process has left is removed
ROWS = 5000  # of one kind removed in one statement

FAILING = "with failures that are not resolved"
UNDOABLE = "with before-images in the documents: they can be rolled back"
TREATED = "rolled back, cleaned up or verified since"
FOLLOWING = "that belong to a run that is kept"


@dataclass(frozen=True, slots=True)
class PrunedThrough:
    """How far a call has looked: the last run, and the last entry of the audit; None before the first."""

    run: Run | None = None
    entry: Entry | None = None


@dataclass(slots=True)
class PruneReport:
    """What a call has removed, why it kept older runs, and whether there is more to do."""

    runs: list[str] = field(default_factory=list)
    batches: int = 0
    failures: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    more: bool = False
    reached: PrunedThrough = PrunedThrough()


class Pruner:
    """Applies the retention of a ledger beside the work: in one process of a cluster, for a short time in each round.

    Old runs that are kept are not looked at again: a round begins where the one before ended.
    """

    def __init__(self, ledger: Ledger, days: float, *, name: str) -> None:
        self._ledger, self._days, self._name = ledger, days, name
        self._reached = PrunedThrough()

    def tick(self) -> None:
        if not self._ledger.leases.lead("retention", self._name, 3 * ROUND):
            return
        report = prune(self._ledger, self._days, seconds=ROUND_SECONDS, who="retention", after=self._reached)
        self._reached = report.reached
        if report.runs or report.batches or report.failures:
            log.info("pruned", runs=len(report.runs), batches=report.batches, failures=report.failures)
        if not report.more:
            self._ledger.retention.processes(PROCESS_DAYS)


def prune(
    ledger: Ledger,
    days: float,
    *,
    seconds: float,
    who: str,
    trial: bool = False,
    after: PrunedThrough | None = None,
) -> PruneReport:
    """Removes what ended more than so many days ago, for about so many seconds. Audited.

    Calling it again continues, also after a call was killed. `trial`: only reports, removes nothing. `after`: what an earlier call has
    reached, where the runs that it kept should not be looked at again.
    """
    after = after or PrunedThrough()
    report, end = PruneReport(), time.monotonic() + seconds
    last: Run | None = None
    if not trial:
        for run_id in ledger.retention.begun():
            _remove(ledger, run_id, report, end)
    for run in ledger.retention.old(days, after=after.run):
        if last is not None and time.monotonic() > end:
            report.more, report.reached = True, PrunedThrough(last, after.entry)
            return report
        last = run
        if run.id in report.runs:  # it was removed with the run that it follows
            continue
        followers = list(ledger.runs.followers(run.id))
        why = _why_kept(ledger, run, followers, days)
        if why:
            report.kept[why] += 1
        elif trial:
            report.runs += [removed_run.id for removed_run in (*followers, run)]
        else:
            _begin(ledger, [*followers, run], report, end, who)
    if not trial:
        entry = _remove_audit(ledger, days, after.entry, end)
        report.more, report.reached = report.more or entry is not None, PrunedThrough(None, entry)
    return report


def _remove_audit(ledger: Ledger, days: float, after: Entry | None, end: float) -> Entry | None:
    """Returns where it stopped; None where nothing old is left."""
    while (after := ledger.retention.audit(days, ROWS, after=after).last) is not None:
        if time.monotonic() > end:
            return after
    return None


def _why_kept(ledger: Ledger, run: Run, followers: Sequence[Run], days: float) -> str:
    """Returns why an old run must stay; an empty string where nobody needs it."""
    if run.kind == "verification" and not _tells_of_kept_run(
        ledger, run
    ):  # its findings are no work that waits
        return ""
    if run.of is not None and ledger.runs.get(run.of) is not None:
        return FOLLOWING
    if any(
        follower.status not in ENDED or not ledger.retention.is_old(follower, days) for follower in followers
    ):
        return TREATED
    for related in (run, *followers):
        unresolved = ledger.failures.counts(related.id)
        if related.kind != "verification" and unresolved["open"] + unresolved["dead"]:
            return FAILING
    cleaned = any(
        follower.kind == "cleanup" and follower.status is RunStatus.COMPLETED
        and (run.ended_at is None or follower.created_at >= run.ended_at)
        for follower in followers
    )  # fmt: skip
    return UNDOABLE if run.undo and run.undone_by is None and not cleaned else ""


def _tells_of_kept_run(ledger: Ledger, verification: Run) -> bool:
    """Whether a migration is known as complete and verified by this verification."""
    run = ledger.runs.get(verification.of or "")
    if run is None or not over_everything(run) or run.undone_by is not None:
        return False
    unresolved = ledger.failures.counts(run.id)
    newest = next(ledger.runs.followers(run.id, kind="verification"), None)
    is_newest = newest is not None and newest.id == verification.id
    return is_newest and not unresolved["open"] + unresolved["dead"] and is_verified(run, [verification])


def _begin(ledger: Ledger, runs: Sequence[Run], report: PruneReport, end: float, who: str) -> None:
    """Removes followers before the run itself: after a crash in between, the rest is found again."""
    *followers, pruned = runs
    verified = is_verified(pruned, [follower for follower in followers if follower.kind == "verification"])
    for run in runs:
        if not ledger.retention.begin(run, verified=verified and run is pruned):
            return  # it has changed: somebody is working with it
        ledger.leases.audit("run pruned", run="", who=who, why=run.id)
        report.runs.append(run.id)
        _remove(ledger, run.id, report, end)


def _remove(ledger: Ledger, run_id: str, report: PruneReport, end: float) -> None:
    while time.monotonic() < end:
        removed = ledger.retention.remove(run_id, ROWS)
        report.batches += removed.batches
        report.failures += removed.failures
        if not removed.incomplete:
            return
    report.more = True
