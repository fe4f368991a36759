"""S1 and S2: planning a run's batches a window ahead, each from the one before it as stored (hole H25).

There is no cursor that could be lost: a batch's range begins where the range of the last stored batch
ends. Batches are inserted in order under `<run>.<seq>`; a second coordinator stops at the first that is there.
Which documents of a phase are where says the job of the run's kind, in one of three ways: by hops over an index in `_id` order
(`engine/planning/range_planning.py`), by the keys that another index yields (`engine/planning/key_planning.py`), and for later phases from the ranges of an earlier
one (`engine/planning/replanning.py`).
"""

from collections.abc import Collection, Iterator, Sequence

from whimbrel.domain.failures.failure import DueRetry, FailureKind
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.coordinating.fold_counts import check_last
from whimbrel.engine.kinds.all_kinds import kind_of
from whimbrel.engine.kinds.kind import PlanningContext
from whimbrel.engine.planning.key_planning import KeyPlans
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.ports import Documents, Ledger

OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)
SMALLEST_WINDOW = 16  # batches
RETRIES = 1000  # documents in a batch of them


class Planner:
    """Plans for every run that one process coordinates."""

    def __init__(self, ledger: Ledger, announcer: Announcer, step: Step) -> None:
        self._ledger, self._announcer, self._step = ledger, announcer, step
        self._gatherings = KeyPlans(ledger)

    def plan(self, run: Run, documents: Documents, *, slots: int) -> bool:
        """Plan the next batches of the run's leg. True when the leg is planned to its end and drained.

        While the broker takes no pointers, nothing is planned.
        """
        if self._announcer.trouble:
            return False
        window = max(SMALLEST_WINDOW, 4 * slots)
        open_ = self._ledger.batches.count(run.id, OPEN, most=window)
        last = self._ledger.batches.last(run.id)
        check_last(
            run, last.seq if last else 0
        )  # what is lost must not be planned once more, as if it had never been
        if _has_ranges(run) and not _ranges_planned(run, last):
            room, at = (
                window - open_,
                PlanningContext(
                    run=run, documents=documents, ledger=self._ledger, gatherings=self._gatherings, last=last
                ),
            )
            batches = kind_of(run).plan(at, room) if room > 0 else []
            added = self._add(run, batches)
            if open_ or not added or not batches[-1].last or any(not each.empty for each in batches):
                return False
            last = batches[-1]  # nothing to do in this phase
        if open_:
            return False
        if run.phase != "failed":
            return True
        return self._plan_retries(run, last)

    def keep(self, runs: Collection[str]) -> None:
        """Forget what is not among these runs."""
        self._gatherings.keep(runs)

    def _add(self, run: Run, batches: list[Batch]) -> int:
        if not batches:
            return 0
        self._step("S1")
        added = self._ledger.batches.add(batches)
        self._step("S2")
        if added:
            self._ledger.runs.note_planned(run.id, batches[added - 1].seq)
        self._announcer.announce(run, [each for each in batches[:added] if each.status is BatchStatus.QUEUED])
        if added < len(batches):  # somebody else plans too: what was gathered here is theirs now
            self._gatherings.forget(run.id)
        return added

    def _plan_retries(self, run: Run, last: Batch | None) -> bool:
        due = self._ledger.failures.due(run.id, SMALLEST_WINDOW * RETRIES)
        if due:
            self._add(run, list(_retries(run, due, last.seq if last else 0)))
            return False
        return not self._ledger.failures.any_open(run.id)


def _has_ranges(run: Run) -> bool:
    return run.phase != "failed" or run.takes_failed


def _ranges_planned(run: Run, last: Batch | None) -> bool:
    return last is not None and last.leg == run.leg and (last.last or last.retry)


def _retries(run: Run, due: Sequence[DueRetry], seq: int) -> Iterator[Batch]:
    deadly = [row for row in due if row.kind in (FailureKind.DEATH, FailureKind.HANG)]
    for rows, solo in (([row for row in due if row not in deadly], False), (deadly, True)):
        for at in range(0, len(rows), RETRIES):
            seq += 1
            ids = tuple(row.key for row in rows[at : at + RETRIES])
            yield Batch(
                run=run.id, seq=seq, leg=run.leg, phase="failed", ids=ids, solo=solo, estimated=len(ids)
            )
