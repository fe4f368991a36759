"""Whether the ranges of a run's batches tile the key space: from the ledger, in pages, so that memory stays bounded."""

from dataclasses import dataclass

from whimbrel.domain.batches import Batch
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run
from whimbrel.ports import Batches, Ledger


@dataclass(frozen=True, slots=True)
class Break:
    """A place where they do not. `before`: the end of the range that came before this batch's, None at the beginning."""

    seq: int
    before: Key | None = None


def first_gap(batches: Batches, run: Run) -> Break | None:
    """Where a batch's range does not begin where the one before it in its leg ended, or a leg's planning did not end."""
    seq, leg = 0, -1
    after: Key | None = None
    unfinished = {leg for leg, phase in enumerate(run.legs) if phase != "failed"}
    while page := batches.list(run.id, after=seq):
        for batch in page:
            if batch.ids is not None or batch.found:
                if batch.last:
                    unfinished.discard(batch.leg)
                continue
            after = after if batch.leg == leg else None
            if batch.lo != after:
                return Break(batch.seq, after)
            leg, after = batch.leg, after if batch.empty else batch.hi
            if batch.last:
                unfinished.discard(leg)
        seq = page[-1].seq
    return Break(seq + 1, after) if unfinished else None


def missing_row(batches: Batches, run: Run) -> int | None:
    """The `seq` of the first batch that is not in the ledger though a later one is."""
    wanted = 1
    while page := batches.list(run.id, after=wanted - 1):
        for batch in page:
            if batch.seq != wanted:
                return wanted
            wanted += 1
    return None


def what_breaks(ledger: Ledger, run: Run) -> str:
    """A fault in the ranges of a run, as a sentence; empty where they tile the key space without gap or overlap."""
    if (seq := missing_row(ledger.batches, run)) is not None:
        return f"Batch {run.id}.{seq} is not in the ledger, though later ones are: its range is a gap."
    if (seq := ledger.proofs.disordered(run.id)) is not None:
        return f"The bounds of batch {run.id}.{seq} do not ascend."
    found = first_gap(ledger.batches, run)
    if found is None:
        return ""
    batch: Batch | None = ledger.batches.get(f"{run.id}.{found.seq}")
    if batch is None:
        return f"The batches end at {run.id}.{found.seq - 1}, before the key space does."
    if found.before is None:
        return f"Batch {batch.token}, the first of its phase, is not open to below: there is a gap before it."
    overlap = ledger.proofs.overlaps(batch.token, found.before)
    return f"There is {'an overlap' if overlap else 'a gap'} before batch {batch.token}."
