"""The key space of a run as a strip of cells: what is settled, in hand, pending, failing, and not planned yet."""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Any

from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.keyspace import Grid, Look, painted, run_lengths
from whimbrel.domain.runs.run import UNRANGED, Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.errors import CellUnknown
from whimbrel.ports import Ledger
from whimbrel.ports.keyspace import LegExtent

FINDING = ("pending", "processing")  # phases that go through the keys for the first time


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """The cells of one leg. `extent` None: it has no batches."""

    run: Run
    leg: int
    extent: LegExtent | None
    grid: Grid
    look: Look


def strip_of(ledger: Ledger, run: Run, *, cells: int, leg: int | None = None) -> Strip:
    """Returns the strip of a leg: of the one that tells most, where none is said. Raises CellUnknown."""
    leg = _leg_to_show(run) if leg is None else leg
    if leg >= len(run.legs):
        raise CellUnknown(f"Run {run.id} has no leg {leg}: its legs are 0 to {len(run.legs) - 1}.")
    extent = ledger.keyspace.extent(run.id, leg)
    planned = 0 if extent is None else extent.last - extent.first + 1
    grid = Grid(planned, _unplanned(ledger, run, leg, extent), cells)
    look = Look() if extent is None else ledger.keyspace.look(run.id, extent, grid)
    return Strip(run=run, leg=leg, extent=extent, grid=grid, look=look)


def _leg_to_show(run: Run) -> int:
    """Returns the leg that tells most: of a run at work the latest that takes documents as it finds them, of one that is over the first of the whole."""
    begun = [leg for leg in run.looks if leg <= run.leg and run.legs[leg] in FINDING]
    return begun[0] if begun and run.status not in ENDED else min(run.main_leg, run.leg)


def _unplanned(ledger: Ledger, run: Run, leg: int, extent: LegExtent | None) -> int:
    """Estimates how many batches of a leg are still to be planned; 0 where it has not begun."""
    over = run.leg != leg or run.status in ENDED or run.legs[leg] in UNRANGED
    if over or (extent is not None and extent.ended):
        return 0
    if extent is not None and extent.source is not None:
        source = ledger.keyspace.extent(run.id, run.legs.index("pending", run.main_leg))
        if source is not None and extent.source >= source.first:
            covered = extent.source - source.first + 1
            return ceil((source.last - extent.source) * (extent.last - extent.first + 1) / covered)
    before = 0 if extent is None else extent.through
    return max(
        0, ceil((run.estimated - run.counts.total * (extent is None) - before) / max(1, run.batch_size))
    )


def strip_object(strip: Strip) -> dict[str, Any]:
    """Returns the strip as JSON has it."""
    run, grid, look = strip.run, strip.grid, strip.look
    cancelled, pending = sum(look.cancelled.values()), sum(look.pending.values())
    working = len(list(look.in_hand))
    return {
        "migrationId": run.id, "leg": strip.leg, "phase": run.legs[strip.leg],
        "legs": [{"leg": leg, "phase": phase, "begun": leg <= run.leg} for leg, phase in enumerate(run.legs)],
        "count": grid.cells, "cells": run_lengths(painted(grid, look)),
        "batches": {
            # What was claimed between two reads is in both.
            "settled": max(0, grid.planned - cancelled - pending - working), "working": working, "pending": pending, "cancelled": cancelled,
            "notPlanned": grid.unplanned, "withFailures": look.failing.count("1"),
        },
    }  # fmt: skip


def cell_object(ledger: Ledger, strip: Strip, cell: int) -> dict[str, Any]:
    """Returns what one cell is about. Raises CellUnknown."""
    grid, run = strip.grid, strip.run
    if cell >= grid.cells:
        raise CellUnknown(
            f"There is no cell {cell}: " + (f"there are 0 to {grid.cells - 1}." if grid.cells else "nothing is planned yet.")
        )  # fmt: skip
    letter, batches = painted(grid, strip.look)[cell], grid.batches_of(cell)
    known = {"cell": cell, "state": letter, "parts": grid.parts, "part": cell % grid.parts}
    if strip.extent is None or batches.start >= grid.planned:
        empty = dict.fromkeys(("firstBatch", "lastBatch", "documents", "after", "first", "through"))
        return {**known, **empty, "batches": len(batches), "states": None, "withFailures": 0}
    first, last = (
        strip.extent.first + batches.start,
        min(strip.extent.first + batches.stop - 1, strip.extent.last),
    )
    part = (cell % grid.parts, grid.parts) if grid.parts > 1 else None
    bounds = ledger.keyspace.bounds(run.id, first, last, part)
    open_ = Counter(ledger.keyspace.states(run.id, first, last))
    settled = last - first + 1 - sum(open_.values())
    return {
        **known, "firstBatch": f"{run.id}.{first}", "lastBatch": f"{run.id}.{last}", "batches": last - first + 1,
        "documents": None if bounds is None else bounds.documents,
        "after": None if bounds is None else _shown(bounds.after), "first": None if bounds is None else _shown(bounds.first),
        "through": None if bounds is None else _shown(bounds.through),
        "states": {"settled": settled, "working": open_["running"], "pending": open_["queued"], "cancelled": open_["cancelled"]},
        "withFailures": strip.look.failing[batches.start : batches.stop].count("1"),
    }  # fmt: skip


def _shown(key: Key | None) -> Any:
    return None if key is None else id_json(key)
