"""S1 and S2: planning a run's batches a window ahead, each from the one before it as stored (hole H25).

There is no cursor that could be lost: a batch's range begins where the range of the last stored batch
ends. Batches are inserted in order under `<run>.<seq>`; a second coordinator stops at the first that is there.
Which documents of a phase are where is found in one of three ways: by hops over an index in `_id` order, by the keys that
another index yields (`engine/gathering.py`), and for the sweep from the ranges of the phase pending (`engine/sweeping.py`).
"""

from collections.abc import Collection, Iterator, Sequence
from math import ceil

from whimbrel.domain.batches import Batch, planned
from whimbrel.domain.failures import Due, Kind
from whimbrel.domain.runs import Run, eligible
from whimbrel.domain.states import BatchStatus
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.engine import sweeping
from whimbrel.engine.announce import Announcer
from whimbrel.engine.gathering import Gathering, Gatherings
from whimbrel.engine.steps import Step
from whimbrel.errors import Systemic, TooSlow, WhimbrelError
from whimbrel.ports import Documents, Ledger

OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)
SMALLEST_WINDOW = 16  # batches
HOPS = 256  # chunks planned in one go
RETRIED = 1000  # documents in a batch of retries


class Planner:
    """Plans for every run that one process coordinates."""

    def __init__(self, ledger: Ledger, announcer: Announcer, step: Step) -> None:
        self._ledger, self._announcer, self._step = ledger, announcer, step
        self._gatherings = Gatherings(ledger)

    def plan(self, run: Run, documents: Documents, *, slots: int) -> bool:
        """Plan the next batches of the run's leg. True when the leg is planned to its end and drained.

        While the broker takes no pointers, nothing is planned.
        """
        if self._announcer.trouble:
            return False
        open_ = self._ledger.batches.count(run.id, OPEN)
        last = self._ledger.batches.last(run.id)
        if _has_ranges(run) and not _ranges_planned(run, last):
            room = max(SMALLEST_WINDOW, 4 * slots) - open_
            batches = self._next(run, documents, last, room) if room > 0 else []
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
        self._announcer.announce(run, [each for each in batches[:added] if each.status is BatchStatus.QUEUED])
        if added < len(batches):  # somebody else plans too: what was gathered here is theirs now
            self._gatherings.forget(run.id)
        return added

    def _next(self, run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch]:
        if run.scope.kind == "ids":  # its batches are all there before it starts (engine/bulk.py)
            raise Systemic(
                f"Not all ids of run {run.id} were stored: whoever sent them was cut off. Cancel the run, and send them again."
            )
        gathering = self._gatherings.of(run, documents, last)
        if gathering is not None:
            return self._gathered(gathering, run, last, room)
        if sweeping.counted(self._ledger.batches, run):
            return sweeping.leftover(self._ledger.batches, run, last, room)
        if run.phase == "sweep" or (
            run.phase == "processing" and not documents.served(eligible(run, run.phase))
        ):
            found = sweeping.merged(self._ledger.batches, run, last, room)
            if found is not None:
                return found
        return ranges(run, documents, last, room)

    def _gathered(self, gathering: Gathering, run: Run, last: Batch | None, room: int) -> list[Batch]:
        try:
            return gathering.batches(run, last, room)
        except TooSlow as error:
            self._gatherings.broke(run, error)
            return []
        except WhimbrelError:  # what yields the keys is over with it
            self._gatherings.forget(run.id)
            raise

    def _plan_retries(self, run: Run, last: Batch | None) -> bool:
        due = self._ledger.failures.due(run.id, SMALLEST_WINDOW * RETRIED)
        if due:
            self._add(run, list(_retries(run, due, last.seq if last else 0)))
            return False
        return self._ledger.failures.counts(run.id)["open"] == 0


def _has_ranges(run: Run) -> bool:
    return run.phase != "failed" or run.takes_failed


def _ranges_planned(run: Run, last: Batch | None) -> bool:
    return last is not None and last.leg == run.leg and (last.last or last.retry)


def ranges(run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch]:
    """The next batches by hops over an index in `_id` order; the last one says so."""
    seq, after = 0, None
    if last is not None:
        seq, after = last.seq, last.hi if last.leg == run.leg else None
    per_batch = ceil(run.batch_size / CHUNK_DOCUMENTS)
    size = ceil(run.batch_size / per_batch)
    most = min(room * per_batch, max(HOPS, per_batch))
    found = documents.cuts(after, eligible(run, run.phase), size, most)
    pages = [found.keys[at : at + per_batch] for at in range(0, len(found.keys), per_batch)]
    if not pages and found.end:
        return [planned(run, seq + 1, lo=after, last=True)]
    rest = found.estimated
    batches = []
    for page in pages:
        seq += 1
        count = min(rest, len(page) * size)
        rest -= count
        last_ = found.end and page is pages[-1]
        batches.append(planned(run, seq, lo=after, cuts=page, estimated=count, last=last_))
        after = page[-1]
    return batches


def _retries(run: Run, due: Sequence[Due], seq: int) -> Iterator[Batch]:
    deadly = [row for row in due if row.kind in (Kind.DEATH, Kind.HANG)]
    for rows, solo in (([row for row in due if row not in deadly], False), (deadly, True)):
        for at in range(0, len(rows), RETRIED):
            seq += 1
            ids = tuple(row.key for row in rows[at : at + RETRIED])
            yield Batch(
                run=run.id, seq=seq, leg=run.leg, phase="failed", ids=ids, solo=solo, estimated=len(ids)
            )
