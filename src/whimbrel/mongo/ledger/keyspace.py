"""Reads what the strip of a run's key space shows: what is open from an index, what fails from sums of a thousand batches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.keyspace import Grid, InHandPart, Look
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.failure_sums import KEPT, SIZE, blocks_between, failed_bits, failing_bits
from whimbrel.mongo.ledger.rows import batch_of, progress_of
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
            failing, failed = self._failures(run_id, extent)
            return Look(
                pending=open_["queued"], cancelled=open_["cancelled"], in_hand=list(self._in_hand(run_id, extent)),
                failing=failing, failed=failed,
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
            {"$project": {"seq": 1, "estimated": 1, "progress": 1}},
        ]  # fmt: skip
        for row in self._batches.aggregate(running, batchSize=ROWS):
            progress = progress_of(row)
            yield InHandPart(
                row["seq"] - extent.first, row["estimated"], progress.counts.total + progress.failed
            )

    def _failures(self, run_id: str, extent: LegExtent) -> tuple[str, str]:
        """Returns for each batch whether it has an unresolved failure, and whether it ever had one.

        That is kept by blocks; of blocks whose sums are not kept at present, the index tells what fails.
        """
        first, last = extent.first // SIZE, extent.last // SIZE
        blocks = blocks_between(run_id, first, last)
        failing, failed, unsummed = dict[int, bytes](), dict[int, bytes](), list[int]()
        fields = {"_id": 0, "block": 1, "marked": 1, "n": 1, "bits": 1, "failed": 1}
        for row in self._blocks.find(blocks, fields, batch_size=ROWS):
            failed[row["block"]] = failed_bits(dict(row.get("failed", {})))
            if row["marked"] or (row.get("bits") is None and row["n"]):
                unsummed.append(row["block"])
            elif row["n"]:
                failing[row["block"]] = bytes(row["bits"])
        failing |= self._by_index(run_id, unsummed)
        return _characters(failing, extent), _characters(failed, extent)

    def _by_index(self, run_id: str, blocks: Sequence[int]) -> dict[int, bytes]:
        if not blocks:
            return {}
        places = [{"seq": {"$gte": block * SIZE, "$lt": (block + 1) * SIZE}} for block in blocks]
        rows = self._batches.find(
            {"run": run_id, "$or": places, **KEPT}, {"_id": 0, "seq": 1, "failing.n": 1}
        )
        by_block: dict[int, list[int]] = {block: [] for block in blocks}
        for row in rows:
            if row["failing"]["n"]:
                by_block[row["seq"] // SIZE].append(row["seq"] % SIZE)
        return {block: failing_bits(failing) for block, failing in by_block.items()}

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


def _characters(blocks: Mapping[int, bytes], extent: LegExtent) -> str:
    """Returns a character for each batch of a leg, as the bits of its blocks have it; nothing where no bit is set."""
    if not any(map(any, blocks.values())):
        return ""
    first, last = extent.first // SIZE, extent.last // SIZE
    texts = [
        format(int.from_bytes(blocks.get(block, b""), "little"), f"0{SIZE}b")[::-1]
        for block in range(first, last + 1)
    ]
    return "".join(texts)[extent.first - first * SIZE : extent.last + 1 - first * SIZE]
