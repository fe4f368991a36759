"""Planning a later phase from the ranges that an earlier one had: nothing is asked of the collection for it.

Several batches of the phase pending make one of the sweep, or of the phase processing, for little is left to do in them; a chunk
of it is as large as one of them was. What was inserted behind the last range is found by hops, as for any phase.

Where no index tells the statuses apart, the phase processing counts in passing what it leaves to the phases behind it
(`Batch.left`): these then look only at the ranges that hold something.
"""

from collections.abc import Iterator, Sequence

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, estimated_documents
from whimbrel.domain.runs.run import Run
from whimbrel.ports import Batches

TOGETHER = 10  # batches of the phase pending in one of the sweep
CHUNK = 5000  # documents that one statement of the sweep looks at, about
LEFT = {"failed": "failed", "sweep": "pending"}  # the status of what such a phase takes


def merged_ranges(ledger: Batches, run: Run, last: Batch | None, room: int) -> list[Batch] | None:
    """The next batches over the ranges of the phase pending, none of them the last; None where those are through."""
    if last is None or "pending" not in run.legs:
        return None
    begun = last.leg == run.leg
    if begun and last.source is None:  # by hops already
        return None
    source, after = (last.source or 0, last.hi) if begun else (0, None)
    leg = run.legs.index("pending")
    rows = _ranges(ledger.list(run.id, after=source, leg=leg, limit=min(room, 100) * TOGETHER))
    made: list[Batch] = []
    for at in range(0, len(rows), TOGETHER):
        part = rows[at : at + TOGETHER]
        made.append(
            estimated_documents(
                run, last.seq + 1 + len(made), lo=after, cuts=tuple(_cuts(part)), source=part[-1].seq,
                estimated=sum(each.estimated for each in part),
            )
        )  # fmt: skip
        after = made[-1].hi
    return made or None


def counts_what_is_left(ledger: Batches, run: Run) -> bool:
    """Whether the phase processing has counted what is left to this one."""
    if run.phase not in LEFT or "processing" not in run.legs:
        return False
    leg = run.legs.index("processing")
    first = ledger.list(run.id, leg=leg, limit=1) if leg < run.leg else []
    return bool(first) and first[0].left is not None and first[0].ids is None


def ranges_with_leftovers(ledger: Batches, run: Run, last: Batch | None, room: int) -> list[Batch]:
    """The next ranges in which the phase processing has seen something of this one's; the last of all says so."""
    begun = last is not None and last.leg == run.leg
    seq, source = last.seq if last else 0, (last.source or 0) if last and begun else 0
    leg, most = run.legs.index("processing"), min(room, 100)
    rows = ledger.list(run.id, after=source, leg=leg, left=LEFT[run.phase], limit=most)
    made = [
        estimated_documents(
            run, seq + 1 + at, lo=each.lo, cuts=each.cuts, found=True, source=each.seq, estimated=(each.left or {})[LEFT[run.phase]]
        )
        for at, each in enumerate(rows)
    ]  # fmt: skip
    return made if len(made) == most else [*made, estimated_documents(run, seq + 1 + len(made), last=True)]


def _ranges(rows: Sequence[Batch]) -> list[Batch]:
    """Those from the first on that are ranges with documents."""
    found: list[Batch] = []
    for each in rows:
        if each.ids is not None or each.empty:
            break
        found.append(each)
    return found


def _cuts(rows: Sequence[Batch]) -> Iterator[Key]:
    """The ends of the chunks: those of whole batches, and for large batches places between."""
    for each in rows:
        chunks = -(-each.estimated // CHUNK) or 1
        step = -(-len(each.cuts) // chunks)
        yield from each.cuts[step - 1 : -1 : step]
        yield each.cuts[-1]
