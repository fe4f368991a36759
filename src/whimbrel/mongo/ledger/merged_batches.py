"""Merges old batches of a run that follows, so that its rows stay few however long it does.

The first batch of an unbroken stretch keeps the sums, and in `upTo` the number of the last; the others are deleted with it in one transaction.
Marks in documents go on naming the deleted ones: `found` tells in which row these are counted now. Batches with failures are left, as failures name them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from whimbrel.domain.migrations.marks import DONE

PAGE = 1000  # batches that are read, or merged, at a time
MERGED: Mapping[str, Any] = {"upTo": {"$gt": 0}}  # the condition of the partial index
NEVER_FAILED: Mapping[str, Any] = {"failing.n": {"$exists": False}}
SETTLED: Mapping[str, Any] = {"status": {"$in": ["done", "cancelled"]}}
FIELDS = dict.fromkeys(("seq", "upTo", "counts", "inferred", "takeovers", "estimated", "settledAt"), 1)
DURABLE = WriteConcern("majority", j=True)
Row = Mapping[str, Any]


class MergedBatches:
    """The merged batches of a ledger."""

    def __init__(self, client: MongoClient[Any], batches: Collection[Any]) -> None:
        self._client, self._batches = client, batches

    def merge(self, run_id: str, leg: int, through: int) -> None:
        """See `whimbrel.ports.Batches.merge`."""
        query: dict[str, Any] = {
            "run": run_id,
            "leg": leg,
            "ids": {"$type": "array"},
            **SETTLED,
            **NEVER_FAILED,
        }
        newest = self._batches.find_one({"run": run_id, **MERGED}, {"_id": 0, "seq": 1}, sort=[("seq", -1)])
        after = newest["seq"] - 1 if newest else 0
        while True:
            place = {"seq": {"$gt": after, "$lte": through}}
            rows = list(self._batches.find({**query, **place}, FIELDS).sort("seq", 1).limit(PAGE))
            for stretch in _stretches(rows):
                if not self._merge(stretch):
                    return
            if len(rows) < PAGE:
                return
            after = rows[-1]["seq"]

    def _merge(self, stretch: Sequence[Row]) -> bool:
        """Merges batches that follow one another. Returns False where another process has changed one of them."""
        first, others = stretch[0], stretch[1:]
        if not others and first.get("upTo"):
            return True
        fields: dict[str, Any] = {
            "upTo": _last(stretch[-1]),
            "ids": [],
            "counts": {name: sum(row["counts"][name] for row in stretch) for name in DONE},
            "estimated": sum(row["estimated"] for row in stretch),
            "takeovers": sum(row["takeovers"] for row in stretch),
            "inferred": any(row.get("inferred", False) for row in stretch),
            "settledAt": stretch[-1].get("settledAt"),
        }
        same = {"_id": first["_id"], "upTo": first.get("upTo"), **NEVER_FAILED}
        merged = {"_id": {"$in": [row["_id"] for row in others]}, "upTo": None, **NEVER_FAILED}
        with self._client.start_session() as session:
            session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=DURABLE)
            try:
                kept = self._batches.update_one(same, {"$set": fields}, session=session)
                deleted = self._batches.delete_many(merged, session=session) if others else None
                if kept.matched_count == 1 and (deleted is None or deleted.deleted_count == len(others)):
                    session.commit_transaction()
                    return True
            except OperationFailure as error:
                if not error.has_error_label("TransientTransactionError"):
                    raise
            if session.in_transaction:
                session.abort_transaction()
        return False

    def found(self, tokens: Iterable[str]) -> dict[str, str]:
        """Returns for tokens of merged batches the token of the row in which they are counted now."""
        by_run: dict[str, list[tuple[int, str]]] = {}
        for token in tokens:
            run, _, seq = token.partition(".")
            if seq.isdecimal():
                by_run.setdefault(run, []).append((int(seq), token))
        rows: dict[str, str] = {}
        for run, named in by_run.items():
            least, most = min(named)[0], max(named)[0]
            extents = self._batches.find(
                {"run": run, "seq": {"$lte": most}, "upTo": {"$gte": max(least, 1)}}, {"_id": 1, "seq": 1, "upTo": 1}
            )  # fmt: skip
            for row in extents:
                rows |= {token: row["_id"] for seq, token in named if row["seq"] <= seq <= row["upTo"]}
        return rows


def _last(row: Row) -> int:
    return int(row.get("upTo") or row["seq"])


def _stretches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Yields rows whose numbers follow one another."""
    stretch: list[Row] = []
    for row in rows:
        if stretch and row["seq"] != _last(stretch[-1]) + 1:
            yield stretch
            stretch = []
        stretch.append(row)
    if stretch:
        yield stretch
