"""Reads what the strip of a run's key space shows: what is open from an index, what fails from sums of a thousand batches."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.keyspace import Grid, InHandPart, Look
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.failure_sums import KEPT, SIZE, failing_bits
from whimbrel.mongo.ledger.rows import batch_of
from whimbrel.ports.keyspace import KeyBounds, LegExtent

EXTENT: Mapping[str, Any] = {"_id": 0, "seq": 1, "upTo": 1, "through": 1, "source": 1, "last": 1}
ROWS = 100_000  # in one answer


class MongoKeySpace:
    """Implements `whimbrel.ports.KeySpace`."""

    def __init__(self, batches: Collection[Any], blocks: Collection[Any]) -> None:
        self._batches, self._blocks = batches, blocks

    def extent(self, run_id: str, leg: int) -> LegExtent | None:
        of_leg = {"run": run_id, "leg": leg}
        with translated():
            first = self._batches.find_one(of_leg, EXTENT, sort=[("leg", 1), ("seq", 1)])
            last = self._batches.find_one(of_leg, EXTENT, sort=[("leg", -1), ("seq", -1)])
        if first is None or last is None:
            return None
        return LegExtent(
            first["seq"], last.get("upTo") or last["seq"], last.get("through", 0), last.get("source"), last["last"]
        )  # fmt: skip

    def look(self, run_id: str, extent: LegExtent, grid: Grid) -> Look:
        with translated():
            open_ = self._by_cell(run_id, extent, grid)
            return Look(
                pending=open_["queued"], cancelled=open_["cancelled"], in_hand=list(self._in_hand(run_id, extent)),
                failing=self._failing(run_id, extent),
            )  # fmt: skip

    def _by_cell(self, run_id: str, extent: LegExtent, grid: Grid) -> Mapping[str, dict[int, int]]:
        """Counts queued and cancelled batches by the cell in which they begin, from the index alone."""
        number: Any = {"$subtract": ["$seq", extent.first]}
        if grid.folded:
            place = {"$subtract": [{"$multiply": [{"$add": [number, 1]}, grid.most]}, 1]}
            cell: Any = {"$floor": {"$divide": [place, grid.batches]}}
        else:
            cell = {"$multiply": [number, grid.parts]}
        open_: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": {"$in": ["queued", "cancelled"]}, "run": run_id, "seq": _between(extent)}},
            {"$group": {"_id": {"status": "$status", "cell": cell}, "n": {"$sum": 1}}},
        ]
        counts: dict[str, dict[int, int]] = {"queued": {}, "cancelled": {}}
        for row in self._batches.aggregate(open_, batchSize=ROWS):
            counts[row["_id"]["status"]][int(row["_id"]["cell"])] = int(row["n"])
        return counts

    def _in_hand(self, run_id: str, extent: LegExtent) -> Iterator[InHandPart]:
        running: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": "running", "run": run_id, "seq": _between(extent)}},
            {"$project": {
                "seq": 1, "progress": 1, "at": 1, "cuts": {"$size": "$cuts"}, "ids": {"$size": {"$ifNull": ["$ids", []]}},
            }},
        ]  # fmt: skip
        for row in self._batches.aggregate(running, batchSize=ROWS):
            stretches = row.get("progress") or []
            # The last stretch has not reached its end where it tells through which key it is done.
            complete = stretches if row.get("at") is None else stretches[:-1]
            chunks = row["cuts"] or ceil(row["ids"] / CHUNK_DOCUMENTS)
            yield InHandPart(row["seq"] - extent.first, chunks, complete[-1][0] if complete else 0)

    def _failing(self, run_id: str, extent: LegExtent) -> str:
        """Returns for each batch whether it has an unresolved failure: as the sums of blocks tell, and of blocks without one the index."""
        first, last = extent.first // SIZE, extent.last // SIZE
        blocks = {"run": run_id, "block": {"$gte": first, "$lte": last}}
        bits, unsummed = dict[int, str](), list[int]()
        fields = {"_id": 0, "block": 1, "marked": 1, "n": 1, "bits": 1}
        for row in self._blocks.find(blocks, fields, batch_size=ROWS):
            if row["marked"] or (row.get("bits") is None and row["n"]):
                unsummed.append(row["block"])
            elif row["n"]:
                bits[row["block"]] = _characters(bytes(row["bits"]))
        if unsummed:
            places = [{"seq": {"$gte": block * SIZE, "$lt": (block + 1) * SIZE}} for block in unsummed]
            rows = self._batches.find(
                {"run": run_id, "$or": places, **KEPT}, {"_id": 0, "seq": 1, "failing.n": 1}
            )
            by_block: dict[int, list[int]] = {block: [] for block in unsummed}
            for row in rows:
                if row["failing"]["n"]:
                    by_block[row["seq"] // SIZE].append(row["seq"] % SIZE)
            bits |= {block: _characters(failing_bits(places)) for block, places in by_block.items()}
        if not bits:
            return ""
        none = "0" * SIZE
        text = "".join(bits.get(block, none) for block in range(first, last + 1))
        return text[extent.first - first * SIZE : extent.last + 1 - first * SIZE]

    def bounds(self, run_id: str, first: int, last: int, part: tuple[int, int] | None) -> KeyBounds | None:
        these = {"run": run_id, "seq": {"$gte": first, "$lte": last}}
        one = None if part is not None else 1
        with translated():
            first_row = self._batches.find_one(these, _keys(one), sort=[("seq", 1)])
            last_row = self._batches.find_one(
                these, _keys(None if part is not None else -1), sort=[("seq", -1)]
            )
        if first_row is None or last_row is None:
            return None
        begin, end = batch_of(first_row), batch_of(last_row)
        if part is not None:
            return _bounds_of_part(begin, *part)
        named = begin.ids is not None
        documents = end.through - begin.through + begin.estimated if end.through else None
        return KeyBounds(
            None if named else begin.lo, begin.ids[0] if begin.ids else None, end.ids[-1] if end.ids else end.hi, documents
        )  # fmt: skip

    def states(self, run_id: str, first: int, last: int) -> Mapping[str, int]:
        statuses = ["queued", "running", "cancelled"]
        counted: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": {"$in": statuses}, "run": run_id, "seq": {"$gte": first, "$lte": last}}},
            {"$group": {"_id": "$status", "n": {"$sum": 1}}},
        ]
        with translated():
            return {row["_id"]: int(row["n"]) for row in self._batches.aggregate(counted)}


def _between(extent: LegExtent) -> dict[str, int]:
    return {"$gte": extent.first, "$lte": extent.last}


def _keys(one: int | None) -> dict[str, Any] | None:
    """Returns the projection to the first or the last of a batch's keys; None: to all of it."""
    return None if one is None else {"cuts": {"$slice": one}, "ids": {"$slice": one}}


def _bounds_of_part(batch: Batch, part: int, of: int) -> KeyBounds:
    first, end = (
        batch.chunks * part // of,
        max(batch.chunks * part // of + 1, batch.chunks * (part + 1) // of),
    )
    if not batch.chunks:
        return KeyBounds(batch.lo, None, batch.hi, 0)
    piece = batch.piece(first, min(end, batch.chunks))
    if isinstance(piece, Range):
        return KeyBounds(piece.lo, None, piece.hi, None)
    return KeyBounds(None, _first(piece), piece[-1] if piece else None, len(piece))


def _first(keys: Sequence[Key]) -> Key | None:
    return keys[0] if keys else None


def _characters(bits: bytes) -> str:
    """Returns a character for each of a block's batches."""
    return format(int.from_bytes(bits, "little"), f"0{SIZE}b")[::-1]
