"""Checks whether the ranges of a run's batches tile the key space, once, batch by batch in order.

The result so far is kept in a few values, so that nothing is checked twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from whimbrel.domain.bson.raw_bson import Key

FaultKind = Literal["missing", "disordered", "break"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A batch as far as tiling needs it. `ranged`: it is one of the ranges that must tile, not named documents, nor a range that is known to hold something. `hi` None: it holds nothing."""

    seq: int
    leg: int
    lo: Key | None
    hi: Key | None
    ranged: bool = True
    last: bool = False
    ascending: bool = True
    through: int = 0  # the last of the batches that were merged into it; 0: it is one batch


@dataclass(frozen=True, slots=True)
class TilingFault:
    """Where the ranges do not tile. `before`: the end of the range before this batch's, None at the beginning."""

    seq: int
    kind: FaultKind
    before: Key | None = None


@dataclass(frozen=True, slots=True)
class Tiling:
    """What is known after the batches up to `through`: where the last range ended, in which leg, and which legs were planned to their end."""

    through: int = 0
    leg: int = -1
    after: Key | None = None
    ended: tuple[int, ...] = ()
    fault: TilingFault | None = None


def tile_of(tiling: Tiling, tiles: Iterable[Tile]) -> Tiling:
    """Returns what is known after these batches, which follow the earlier ones; unchanged once there is a fault."""
    for tile in tiles:
        if tiling.fault is not None:
            return tiling
        tiling = _add_tile(tiling, tile)
    return tiling


def _add_tile(tiling: Tiling, tile: Tile) -> Tiling:
    if tile.seq != tiling.through + 1:
        return replace(tiling, fault=TilingFault(tiling.through + 1, "missing"))
    tiling = replace(tiling, through=max(tile.seq, tile.through))
    if not tile.ranged:
        return replace(tiling, ended=(*tiling.ended, tile.leg)) if tile.last else tiling
    if not tile.ascending:
        return replace(tiling, fault=TilingFault(tile.seq, "disordered"))
    after = tiling.after if tile.leg == tiling.leg else None
    if tile.lo != after:
        return replace(tiling, fault=TilingFault(tile.seq, "break", after))
    ended = (*tiling.ended, tile.leg) if tile.last else tiling.ended
    return replace(tiling, leg=tile.leg, after=after if tile.hi is None else tile.hi, ended=ended)


def fault_of(tiling: Tiling, phases: Sequence[str]) -> TilingFault | None:
    """Returns the fault after all batches of a run with these phases: where they do not tile, or a leg's planning did not end."""
    if tiling.fault is not None:
        return tiling.fault
    ranges = {leg for leg, phase in enumerate(phases) if phase not in ("failed", "follow")}
    return TilingFault(tiling.through + 1, "break", tiling.after) if ranges - set(tiling.ended) else None
