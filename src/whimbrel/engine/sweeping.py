"""Planning the sweep from the ranges that the phase pending had: nothing is asked of the collection for it.

Several of those batches make one of the sweep, for little is left to do in them; a chunk of it is as large as one of them was.
What was inserted behind the last range is found by hops, as for any phase.
"""

from collections.abc import Iterator, Sequence

from whimbrel.domain.batches import Batch, planned
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run
from whimbrel.ports import Batches

TOGETHER = 10  # batches of the phase pending in one of the sweep
CHUNK = 5000  # documents that one statement of the sweep looks at, about


def batches(ledger: Batches, run: Run, last: Batch | None, room: int) -> list[Batch] | None:
    """The next batches of the sweep, none of them the last; None where the ranges of the phase pending are through."""
    if last is None or "pending" not in run.legs:
        return None
    begun = last.leg == run.leg
    if begun and last.source is None:  # by hops already
        return None
    source, after = (last.source or 0, last.hi) if begun else (0, None)
    rows = _pending(run, ledger.list(run.id, after=source, limit=min(room, 100) * TOGETHER))
    made: list[Batch] = []
    for at in range(0, len(rows), TOGETHER):
        part = rows[at : at + TOGETHER]
        made.append(
            planned(
                run, last.seq + 1 + len(made), lo=after, cuts=tuple(_cuts(part)), source=part[-1].seq,
                estimated=sum(each.estimated for each in part),
            )
        )  # fmt: skip
        after = made[-1].hi
    return made or None


def _pending(run: Run, rows: Sequence[Batch]) -> list[Batch]:
    """Those that are ranges of the phase pending, from the first on."""
    leg = run.legs.index("pending")
    found: list[Batch] = []
    for each in rows:
        if each.leg != leg or each.ids is not None or each.empty:
            break
        found.append(each)
    return found


def _cuts(rows: Sequence[Batch]) -> Iterator[Key]:
    """The ends of the sweep's chunks: those of whole batches, and for large batches places between."""
    for each in rows:
        chunks = -(-each.estimated // CHUNK) or 1
        step = -(-len(each.cuts) // chunks)
        yield from each.cuts[step - 1 : -1 : step]
        yield each.cuts[-1]
