"""S1 and S2: planning a run's batches a window ahead, each from the one before it as stored (hole H25).

There is no cursor that could be lost: a batch's range begins where the range of the last stored batch
ends. Batches are inserted in order under `<run>.<seq>`; a second coordinator stops at the first that is there.
"""

from collections.abc import Iterator, Sequence
from math import ceil

from whimbrel.domain.batches import Batch
from whimbrel.domain.failures import Due, Kind
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run, eligible
from whimbrel.domain.states import BatchStatus
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.engine.announce import Announcer
from whimbrel.engine.work import Step
from whimbrel.errors import Systemic
from whimbrel.ports import Documents, Ledger

OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)
SMALLEST_WINDOW = 16  # batches
HOPS = 256  # chunks planned in one go
RETRIED = 1000  # documents in a batch of retries


def plan(
    run: Run, ledger: Ledger, documents: Documents, announcer: Announcer, *, slots: int, step: Step
) -> bool:
    """Plan the next batches of the run's leg. True when the leg is planned to its end and drained.

    While the broker takes no pointers, nothing is planned.
    """
    if announcer.trouble:
        return False
    open_ = ledger.batches.count(run.id, OPEN)
    last = ledger.batches.last(run.id)
    if _has_ranges(run) and not _ranges_planned(run, last):
        room = max(SMALLEST_WINDOW, 4 * slots) - open_
        batches = _ranges(run, ledger, documents, last, room) if room > 0 else []
        added = _add(run, ledger, announcer, batches, step)
        if open_ or not added or any(not each.empty for each in batches):
            return False
        last = batches[-1]  # nothing to do in this phase
    if open_:
        return False
    if run.phase != "failed":
        return True
    return _plan_retries(run, ledger, announcer, last, step)


def _has_ranges(run: Run) -> bool:
    return run.phase != "failed" or run.takes_failed


def _ranges_planned(run: Run, last: Batch | None) -> bool:
    return last is not None and last.leg == run.leg and (last.last or last.retry)


def _add(run: Run, ledger: Ledger, announcer: Announcer, batches: list[Batch], step: Step) -> int:
    if not batches:
        return 0
    step("S1")
    added = ledger.batches.add(batches)
    step("S2")
    announcer.announce(run, [each for each in batches[:added] if each.status is BatchStatus.QUEUED])
    return added


def _ranges(run: Run, ledger: Ledger, documents: Documents, last: Batch | None, room: int) -> list[Batch]:
    if run.scope.kind == "ids":  # its batches are all there before it starts (engine/bulk.py)
        raise Systemic(
            f"Not all ids of run {run.id} were stored: whoever sent them was cut off. Cancel the run, and send them again."
        )
    seq, after, left = 0, None, run.scope.limit
    if last is not None:
        seq = last.seq
        after = last.hi if last.leg == run.leg else None
        left = left - ledger.batches.planned(run.id, run.leg) if left is not None else None
    per_batch = ceil(run.batch_size / CHUNK_DOCUMENTS)
    size = ceil(run.batch_size / per_batch)
    most = min(room * per_batch, max(HOPS, per_batch))
    if left is not None:
        return _first(run, documents, after, seq, left)
    found = documents.cuts(after, eligible(run, run.phase), size, most)
    pages = [found.keys[at : at + per_batch] for at in range(0, len(found.keys), per_batch)]
    if not pages and found.end:
        return [_range(run, seq + 1, after, (), 0, last=True)]
    rest = found.estimated
    batches = []
    for page in pages:
        seq += 1
        count = min(rest, len(page) * size)
        rest -= count
        batches.append(_range(run, seq, after, page, count, last=found.end and page is pages[-1]))
        after = page[-1]
    return batches


def _first(run: Run, documents: Documents, after: Key | None, seq: int, left: int) -> list[Batch]:
    """The next batch of a run over the first N documents: counted exactly, whatever that takes."""
    size = min(run.batch_size, left)
    found = documents.cuts(after, eligible(run, run.phase), size, 1, exact=True)
    count = found.estimated
    return [_range(run, seq + 1, after, found.keys, count, last=found.end or left <= count)]


def _range(run: Run, seq: int, lo: Key | None, cuts: tuple[Key, ...], count: int, *, last: bool) -> Batch:
    """A planned batch; without documents it is done as soon as it is there, and only says that planning has ended."""
    status = BatchStatus.QUEUED if cuts else BatchStatus.DONE
    return Batch(
        run=run.id,
        seq=seq,
        leg=run.leg,
        phase=run.phase,
        lo=lo,
        cuts=cuts,
        last=last,
        estimated=count,
        status=status,
    )


def _plan_retries(run: Run, ledger: Ledger, announcer: Announcer, last: Batch | None, step: Step) -> bool:
    due = ledger.failures.due(run.id, SMALLEST_WINDOW * RETRIED)
    if due:
        _add(run, ledger, announcer, list(_retries(run, due, last.seq if last else 0)), step)
        return False
    return ledger.failures.counts(run.id)["open"] == 0


def _retries(run: Run, due: Sequence[Due], seq: int) -> Iterator[Batch]:
    deadly = [row for row in due if row.kind in (Kind.DEATH, Kind.HANG)]
    for rows, solo in (([row for row in due if row not in deadly], False), (deadly, True)):
        for at in range(0, len(rows), RETRIED):
            seq += 1
            ids = tuple(row.key for row in rows[at : at + RETRIED])
            yield Batch(
                run=run.id, seq=seq, leg=run.leg, phase="failed", ids=ids, solo=solo, estimated=len(ids)
            )
