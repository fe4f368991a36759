"""Plans by hops over an index, in `_id` order: without knowing where the documents of a phase are."""

from math import ceil

from whimbrel.domain.runs.batches import Batch, batch_of_leg
from whimbrel.domain.runs.chunk_size import by_bytes
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.ports import Documents

HOPS = 256  # chunks planned in one go
SECONDS = 0.5  # of a tick that hopping may take, not counting the last hop


def plan_ranges(run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch]:
    """Returns the next batches; the last one of the leg says so."""
    seq, after, through = 0, None, 0
    if last is not None:
        seq = last.seq
        after, through = (last.hi, last.through) if last.leg == run.leg else (None, 0)
    per_batch = ceil(run.batch_size / by_bytes(run.document_bytes))
    size = ceil(run.batch_size / per_batch)
    most_cuts = min(room * per_batch, max(HOPS, per_batch))
    cuts = documents.cuts(after, eligible(run, run.phase), size, most_cuts, SECONDS)
    pages = [cuts.keys[start : start + per_batch] for start in range(0, len(cuts.keys), per_batch)]
    if not pages and cuts.end:
        return [batch_of_leg(run, seq + 1, lo=after, through=through, last=True)]
    uncounted = cuts.estimated
    batches = []
    for page in pages:
        seq += 1
        count = min(uncounted, len(page) * size)
        uncounted, through = uncounted - count, through + count
        last_ = cuts.end and page is pages[-1]
        batches.append(
            batch_of_leg(run, seq, lo=after, cuts=page, estimated=count, through=through, last=last_)
        )
        after = page[-1]
    return batches
