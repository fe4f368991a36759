"""S1 and S2: plans a run's batches a window ahead, each from the stored batch before it (hole H25).

There is no cursor that could be lost: a batch's range begins where the range of the last stored batch
ends. Batches are inserted in order under `<run>.<seq>`; a second coordinator stops at the first that exists.
The run's kind decides how the documents of a phase are located, in one of three ways: by hops over an index in `_id` order
(`engine/planning/range_planning.py`), by the keys that another index yields (`engine/planning/key_planning.py`), and for later phases from the ranges of an earlier
one (`engine/planning/replanning.py`).
"""

from collections.abc import Collection, Iterator, Sequence

from whimbrel.domain.failures.failure import DueRetry
from whimbrel.domain.failures.retry_policy import DOCUMENTS
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.coordinating.batch_sizing import BatchSizing
from whimbrel.engine.coordinating.fold_counts import check_last
from whimbrel.engine.coordinating.following import Following
from whimbrel.engine.kinds.all_kinds import kind_of
from whimbrel.engine.kinds.kind import PlanningContext
from whimbrel.engine.planning.key_planning import KeyPlans
from whimbrel.engine.planning.stage_planning import StagePlans
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.ports import Documents, Ledger

OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)
SMALLEST_WINDOW = 16  # batches
RETRY_DOCUMENTS = 1000  # in a batch of retries


class Planner:
    """Plans for every run that one process coordinates."""

    def __init__(self, ledger: Ledger, announcer: Announcer, step: Step, following: Following) -> None:
        self._ledger, self._announcer, self._step = ledger, announcer, step
        self._following = following
        self._key_plans = KeyPlans(ledger)
        self._sizing = BatchSizing(ledger)
        self._stage_plans = StagePlans(ledger)

    def plan(self, run: Run, documents: Documents, *, slots: int) -> bool:
        """Plans the next batches of the run's leg. Returns True when the leg is planned to its end and drained.

        While the broker takes no pointers, nothing is planned.
        """
        self._following.read_ahead(run)
        if self._announcer.trouble:
            return False
        window = max(SMALLEST_WINDOW, 4 * slots)
        open_ = self._ledger.batches.count(run.id, OPEN, most=window)
        last = self._ledger.batches.last(run.id)
        # Lost batches must not be planned once more, as if they had never existed.
        check_last(run, last.seq if last else 0)
        if run.phase == "follow":
            return self._follow(run, documents, last.seq if last else 0, room=window - open_) and not open_
        if _has_ranges(run) and not _ranges_planned(run, last):
            room = window - open_
            run = self._sizing.resized(run) if room > 0 else run
            context = PlanningContext(
                run=run, documents=documents, ledger=self._ledger, key_plans=self._key_plans, last=last,
                stage_plans=self._stage_plans,
            )  # fmt: skip
            batches = kind_of(run).plan(context, room) if room > 0 else []
            added = self._add(run, batches)
            if open_ or not added or not batches[-1].last or any(not batch.empty for batch in batches):
                return False
            last = batches[-1]  # this phase has nothing to do
        if open_:
            return False
        if run.phase != "failed":
            return True
        return self._plan_retries(run, last)

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._key_plans.keep(runs)
        self._sizing.keep(runs)
        self._following.keep(runs)
        self._stage_plans.keep(runs)

    def _add(self, run: Run, batches: list[Batch]) -> int:
        if not batches:
            return 0
        self._step("S1")
        added = self._ledger.batches.add(batches)
        self._step("S2")
        if added:
            self._ledger.runs.note_planned(run.id, batches[added - 1].seq)
        self._announcer.announce(
            run, [batch for batch in batches[:added] if batch.status is BatchStatus.QUEUED]
        )
        if added < len(batches):  # somebody else plans too, and has stored what was gathered here
            self._key_plans.forget(run.id)
            self._stage_plans.forget(run.id)
        return added

    def _follow(self, run: Run, documents: Documents, seq: int, *, room: int) -> bool:
        """Plans what has changed, and retries that are due. Returns True when a person has ended that."""
        if run.follow is None or not run.follow.wanted:
            self._following.forget(run.id)
            return True
        self._following.merge(run)
        if room <= 0:
            return False
        try:
            self._plan_changes(run, documents, seq, room)
        except Exception:  # what was read may not be stored: it is read again
            self._following.forget(run.id)
            raise
        return False

    def _plan_changes(self, run: Run, documents: Documents, seq: int, room: int) -> None:
        seq += self._add(run, self._due_retries(run, seq))
        step = self._following.next_step(run, documents, seq, room)
        if step is None:
            return
        if self._add(run, list(step.batches)) < len(step.batches):
            self._following.forget(run.id)  # another process has read these changes too, and stored them
        else:
            self._following.planned(run, step)

    def _due_retries(self, run: Run, seq: int) -> list[Batch]:
        """Returns batches of the failures that are due, unless some are being tried again already: those would be planned once more."""
        # Asked before, as a batch that settles after it may have closed what was due.
        if not self._ledger.failures.any_open(run.id) or self._ledger.batches.any_retried(run.id):
            return []
        return list(_retries(run, self._ledger.failures.due(run.id, RETRY_DOCUMENTS), seq))

    def _plan_retries(self, run: Run, last: Batch | None) -> bool:
        due = self._ledger.failures.due(run.id, SMALLEST_WINDOW * RETRY_DOCUMENTS)
        if due:
            self._add(run, list(_retries(run, due, last.seq if last else 0)))
            return False
        return not self._ledger.failures.any_open(run.id)


def _has_ranges(run: Run) -> bool:
    return run.phase != "failed" or run.takes_failed


def _ranges_planned(run: Run, last: Batch | None) -> bool:
    return last is not None and last.leg == run.leg and (last.last or last.retry)


def _retries(run: Run, due: Sequence[DueRetry], seq: int) -> Iterator[Batch]:
    deadly = [row for row in due if DOCUMENTS[row.kind].alone]
    for rows, solo in (([row for row in due if row not in deadly], False), (deadly, True)):
        for start in range(0, len(rows), RETRY_DOCUMENTS):
            seq += 1
            ids = tuple(row.key for row in rows[start : start + RETRY_DOCUMENTS])
            yield Batch(
                run=run.id, seq=seq, leg=run.leg, phase="failed", ids=ids, solo=solo, estimated=len(ids)
            )
