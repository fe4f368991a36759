"""Plans a later phase from the ranges that an earlier one had, without querying the collection.

Several batches of the phase pending make one batch of the sweep, or of the phase processing, for little is left to do in them; a chunk
of it is as large as one of them was. What was inserted behind the last range is found by hops, as for any phase.

Where no index tells the statuses apart, the phase processing also counts what it leaves to the phases behind it
(`Batch.left`): these then look only at the ranges that hold something.
"""

from collections.abc import Iterator, Sequence

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, batch_of_leg
from whimbrel.domain.runs.run import Run
from whimbrel.ports import Batches

TOGETHER = 10  # batches of the phase pending that make one of the sweep
CHUNK = 5000  # documents that one statement of the sweep looks at, roughly
LEFT = {"failed": "failed", "sweep": "pending"}  # the status of what such a phase takes


def merged_ranges(ledger: Batches, run: Run, last: Batch | None, room: int) -> list[Batch] | None:
    """Returns the next batches over the ranges of the phase pending, none of them the last; None where those are exhausted."""
    if last is None or "pending" not in run.legs:
        return None
    begun = last.leg == run.leg
    if begun and last.source is None:  # planned by hops already
        return None
    source, after = (last.source or 0, last.hi) if begun else (0, None)
    leg = run.legs.index("pending", run.main_leg)
    rows = _ranges(ledger.list(run.id, after=source, leg=leg, limit=min(room, 100) * TOGETHER))
    batches: list[Batch] = []
    for start in range(0, len(rows), TOGETHER):
        part = rows[start : start + TOGETHER]
        batches.append(
            batch_of_leg(
                run, last.seq + 1 + len(batches), lo=after, cuts=tuple(_cuts(part)), source=part[-1].seq,
                estimated=sum(batch.estimated for batch in part),
            )
        )  # fmt: skip
        after = batches[-1].hi
    return batches or None


def counts_what_is_left(ledger: Batches, run: Run) -> bool:
    """Whether the phase processing has counted what is left to this phase."""
    if run.phase not in LEFT or "processing" not in run.legs:
        return False
    leg = run.legs.index("processing")
    first = ledger.list(run.id, leg=leg, limit=1) if leg < run.leg else []
    return bool(first) and first[0].left is not None and first[0].ids is None


def ranges_with_leftovers(ledger: Batches, run: Run, last: Batch | None, room: int) -> list[Batch]:
    """Returns the next ranges in which the phase processing has seen something for this phase; the last of all says so."""
    begun = last is not None and last.leg == run.leg
    seq, source = last.seq if last else 0, (last.source or 0) if last and begun else 0
    leg, limit = run.legs.index("processing"), min(room, 100)
    rows = ledger.list(run.id, after=source, leg=leg, left=LEFT[run.phase], limit=limit)
    batches = [
        batch_of_leg(
            run, seq + 1 + position, lo=row.lo, cuts=row.cuts, located=True, source=row.seq, estimated=(row.left or {})[LEFT[run.phase]]
        )
        for position, row in enumerate(rows)
    ]  # fmt: skip
    return (
        batches if len(batches) == limit else [*batches, batch_of_leg(run, seq + 1 + len(batches), last=True)]
    )


def _ranges(rows: Sequence[Batch]) -> list[Batch]:
    """Returns the leading batches that are ranges with documents."""
    ranges: list[Batch] = []
    for row in rows:
        if row.ids is not None or row.empty:
            break
        ranges.append(row)
    return ranges


def _cuts(rows: Sequence[Batch]) -> Iterator[Key]:
    """Yields the ends of the chunks: those of whole batches, and for large batches places in between."""
    for batch in rows:
        chunks = -(-batch.estimated // CHUNK) or 1
        step = -(-len(batch.cuts) // chunks)
        yield from batch.cuts[step - 1 : -1 : step]
        yield batch.cuts[-1]
