"""Checks the ranges of a run's batches: where they end, and whether they tile the key space; in pages, a little at a time."""

import time

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.tiling import Tiling, fault_of, tile_of
from whimbrel.ports import Ledger

PAGE = 1000  # batches read at once


def bound(ledger: Ledger, run: Run) -> Key | None:
    """Returns where what a run has looked at ends: documents behind it came later. None where that is not known."""
    return next((end for leg in run.looks if (end := ledger.batches.end(run.id, leg)) is not None), None)


def check_more(ledger: Ledger, run_id: str, tiling: Tiling, *, through: int, seconds: float) -> Tiling:
    """Returns what is known of a run's batches after checking more of them, at most up to `through`, in about so many seconds."""
    end = time.monotonic() + seconds
    while tiling.fault is None and tiling.through < through:
        page = ledger.batches.outlines(
            run_id, after=tiling.through, limit=min(PAGE, through - tiling.through), bounds=True
        )
        tiling = tile_of(tiling, (outline.tile for outline in page))
        if not page or time.monotonic() > end:
            break
    return tiling


def tiling_fault(ledger: Ledger, run: Run, tiling: Tiling) -> str:
    """Returns the fault in the ranges of a run as a sentence; an empty string where they tile the key space without gap or overlap."""
    fault = fault_of(tiling, run.legs)
    if fault is None:
        return ""
    token = f"{run.id}.{fault.seq}"
    if fault.kind == "missing":
        return f"Batch {token} is not in the ledger, though later ones are: its range is a gap."
    if fault.kind == "disordered":
        return f"The bounds of batch {token} do not ascend."
    if ledger.batches.get(token) is None:
        return f"The batches end at {run.id}.{fault.seq - 1}, before the key space does."
    if fault.before is None:
        return f"Batch {token}, the first of its phase, is not open to below: there is a gap before it."
    overlap = ledger.proofs.overlaps(token, fault.before)
    return f"There is {'an overlap' if overlap else 'a gap'} before batch {token}."
