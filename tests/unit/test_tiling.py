"""Whether ranges tile the key space: by hand, batch by batch."""

from typing import Any

import pytest

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.tiling import Tile, Tiling, TilingFault, fault_of, tile_of

PHASES = ("pending", "failed", "sweep", "failed")


def tile(seq: int, lo: int | None, hi: int | None, **rest: Any) -> Tile:
    known: dict[str, Any] = {"leg": 0, **rest}
    return Tile(
        seq=seq, lo=None if lo is None else Key.of(lo), hi=None if hi is None else Key.of(hi), **known
    )


WHOLE = [
    tile(1, None, 10),
    tile(2, 10, 20),
    tile(3, 20, None, last=True),  # nothing above: planning of the phase has ended
    tile(4, None, None, leg=1, ranged=False),
    tile(5, None, 20, leg=2, last=True),
]


def test_ranges_that_tile_have_no_fault_in_whatever_pieces_they_are_looked_at() -> None:
    for size in (1, 2, 5):
        tiling = Tiling()
        for at in range(0, len(WHOLE), size):
            tiling = tile_of(tiling, WHOLE[at : at + size])
        assert tiling.through == 5
        assert fault_of(tiling, PHASES) is None


FAULTS = {
    "a gap": (2, tile(2, 11, 20), TilingFault(2, "break", Key.of(10))),
    "an overlap": (2, tile(2, 9, 20), TilingFault(2, "break", Key.of(10))),
    "not open to below": (1, tile(1, 5, 10), TilingFault(1, "break", None)),
    "a second beginning": (2, tile(2, None, 20), TilingFault(2, "break", Key.of(10))),
    "bounds that do not ascend": (2, tile(2, 10, 20, ascending=False), TilingFault(2, "disordered")),
    "a later phase that begins in the middle": (
        5,
        tile(5, 20, 30, leg=2, last=True),
        TilingFault(5, "break"),
    ),
    "planning that did not end": (3, tile(3, 20, 30), TilingFault(6, "break", Key.of(20))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name: str) -> None:
    seq, wrong, fault = FAULTS[name]
    tiles = [wrong if each.seq == seq else each for each in WHOLE]
    assert fault_of(tile_of(Tiling(), tiles), PHASES) == fault


def test_a_batch_that_is_not_there_is_found() -> None:
    tiles = [each for each in WHOLE if each.seq != 4]
    assert fault_of(tile_of(Tiling(), tiles), PHASES) == TilingFault(4, "missing")
