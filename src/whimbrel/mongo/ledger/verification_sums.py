"""Answers a verification's questions about the ledger. MongoDB computes the sums, so batches need not fit into memory."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.marks import DONE
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.verification import Proof, UnaccountedDocuments
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.merged_batches import MergedBatches
from whimbrel.mongo.ledger.retention import Remains
from whimbrel.mongo.ledger.run_rows import proof_row

TOKENS = 500  # marks that are asked about at once
EXAMPLES = 5  # batches that are named
_LAST = {"$getField": {"field": "_id", "input": {"$arrayElemAt": ["$cuts", -1]}}}
_OPEN_BELOW = {"$eq": [{"$ifNull": ["$lo", None]}, None]}


class MongoProofs:
    """Implements `whimbrel.ports.Proofs`."""

    def __init__(
        self, batches: Collection[Any], runs: Collection[Any], remains: Remains, merged: MergedBatches
    ) -> None:
        self._batches, self._runs, self._remains, self._merged = batches, runs, remains, merged

    def placed(self, extents: Mapping[str, tuple[str, Key, Key]]) -> tuple[set[str], set[str]]:
        known_tokens: set[str] = set()
        values_inside: set[str] = set()
        extents_listed = list(extents.items())
        for page in (
            extents_listed[start : start + TOKENS] for start in range(0, len(extents_listed), TOKENS)
        ):
            holds = [
                {
                    "$cond": [
                        {"$and": [{"$eq": ["$_id", token]}, _holds(low, high)]},
                        [{"$literal": value}],
                        [],
                    ]
                }
                for value, (token, low, high) in page
            ]
            rows = self._aggregate([
                {"$match": {"_id": {"$in": [token for _, (token, _, _) in page]}}},
                {"$project": {"inside": {"$setUnion": holds}}},
            ])  # fmt: skip
            known_tokens |= {row["_id"] for row in rows}
            values_inside |= {value for row in rows for value in row["inside"]}
        with translated():
            known_tokens |= self._remains.known(
                token for token, _, _ in extents.values() if token not in known_tokens
            )
        return known_tokens, values_inside

    def merged(self, tokens: Iterable[str]) -> Mapping[str, str]:
        listed, found = list(tokens), dict[str, str]()
        with translated():
            for start in range(0, len(listed), TOKENS):
                found |= self._merged.found(listed[start : start + TOKENS])
        return found

    def began(self, run_id: str, leg: int) -> datetime | None:
        with translated():
            row = self._batches.find_one(
                {"run": run_id, "leg": leg, "claimedAt": {"$type": "date"}},
                {"claimedAt": 1},
                sort=[("seq", 1)],
            )
        return row["claimedAt"] if row else None

    def summed(self, run_id: str) -> tuple[Counts, int, int]:
        counts = {name: {"$sum": f"$counts.{name}"} for name in DONE}
        settled = {"$sum": {"$cond": [{"$in": ["$status", ["done", "cancelled"]]}, 1, 0]}}
        rows = self._aggregate([
            {"$match": {"run": run_id}},
            {"$group": {"_id": None, "batches": {"$sum": 1}, "settled": settled, **counts}},
        ])  # fmt: skip
        if not rows:
            return Counts(), 0, 0
        row = rows[0]
        return Counts(*(int(row[name]) for name in DONE)), int(row["batches"]), int(row["settled"])

    def overlaps(self, token: str, end: Key) -> bool:
        before = {"$or": [_OPEN_BELOW, {"$lt": ["$lo._id", end.literal()]}]}
        return bool(self._aggregate([{"$match": {"_id": token, "$expr": before}}, {"$project": {"_id": 1}}]))

    def tallied(self, verification_id: str) -> Mapping[str, int]:
        rows = self._aggregate([
            {"$match": {"run": verification_id, "tally": {"$type": "object"}}},
            {"$project": {"pair": {"$objectToArray": "$tally.numbers"}}},
            {"$unwind": "$pair"},
            {"$group": {"_id": "$pair.k", "n": {"$sum": "$pair.v"}}},
        ])  # fmt: skip
        return {row["_id"]: int(row["n"]) for row in rows}

    def marked(self, verification_id: str, token: str) -> int:
        rows = self._aggregate([
            {"$match": {"run": verification_id, "tally.marks.batch": token}},
            {"$unwind": "$tally.marks"},
            {"$match": {"tally.marks.batch": token}},
            {"$group": {"_id": None, "n": {"$sum": "$tally.marks.n"}}},
        ])  # fmt: skip
        return int(rows[0]["n"]) if rows else 0

    def unaccounted(self, run_id: str, verification_id: str) -> UnaccountedDocuments:
        marked = {
            name: {
                "$multiply": [-1, {"$cond": [{"$eq": ["$tally.marks.outcome", name]}, "$tally.marks.n", 0]}]
            }
            for name in DONE
        }
        tallies: list[Mapping[str, Any]] = [
            {"$match": {"run": verification_id, "tally": {"$type": "object"}}},
            {"$unwind": "$tally.marks"},
            {"$project": {"_id": "$tally.marks.batch", **marked}},
        ]
        counted = {name: f"$counts.{name}" for name in DONE}
        missing = {"$add": [{"$max": [0, f"${name}"]} for name in DONE]}
        surplus = {"$add": [{"$max": [0, {"$multiply": [-1, f"${name}"]}]} for name in DONE]}
        rows = self._aggregate([
            {"$match": {"run": run_id}},
            {"$project": counted},
            {"$unionWith": {"coll": self._batches.name, "pipeline": tallies}},
            {"$group": {"_id": "$_id", **{name: {"$sum": f"${name}"} for name in DONE}}},
            {"$match": {"$or": [{name: {"$ne": 0}} for name in DONE]}},
            {"$sort": {"_id": 1}},
            {
                "$group": {
                    "_id": None, "n": {"$sum": 1}, "missing": {"$sum": missing}, "surplus": {"$sum": surplus},
                    "examples": {"$firstN": {"input": "$_id", "n": EXAMPLES}},
                }
            },
        ])  # fmt: skip
        if not rows:
            return UnaccountedDocuments(0, 0, 0, ())
        row = rows[0]
        return UnaccountedDocuments(
            int(row["n"]), int(row["missing"]), int(row["surplus"]), tuple(row["examples"])
        )

    def keep(self, verification_id: str, report: Sequence[Proof], unchanged: int) -> None:
        fields = {"report": [proof_row(proof) for proof in report], "counts.unchanged": unchanged}
        with translated():
            self._runs.update_one({"_id": verification_id}, {"$set": fields})

    def _aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> list[Any]:
        with translated():
            return list(self._batches.aggregate(pipeline))


def _holds(low: Key, high: Key) -> dict[str, Any]:
    above = {"$or": [_OPEN_BELOW, {"$gt": [low.literal(), "$lo._id"]}]}
    below = {"$and": [{"$gt": [{"$size": "$cuts"}, 0]}, {"$lte": [high.literal(), _LAST]}]}
    return {"$or": [{"$isArray": "$ids"}, {"$and": [above, below]}]}
