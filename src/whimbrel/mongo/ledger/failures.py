"""Failures: one row for each run and document; the truth about a document that failed (hole H21).

Rows in state "passed" are no failures: they remember what was skipped or unchanged under the mark
"filter", where documents cannot say so themselves (hole H2).
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import (
    Due,
    Failure,
    FailureGroup,
    FailureState,
    Kind,
    Trouble,
    Unresolved,
)
from whimbrel.domain.raw import Key, keys_under
from whimbrel.domain.runs import Counts, Run
from whimbrel.mongo.codec import UNRESOLVED_FIELDS, failure_of, unresolved_of
from whimbrel.mongo.errors import DUPLICATE_KEY, translated
from whimbrel.mongo.ledger.attempts import first_row, one_more
from whimbrel.mongo.ledger.tallies import UNRESOLVED, Tallies
from whimbrel.mongo.ranges import within

PASSED = [str(FailureState.PASSED)]
EXCLUDED = [*UNRESOLVED, *PASSED]
RECORDED = [*UNRESOLVED, str(FailureState.RESOLVED)]
PAGE = 1000  # rows that are read or written at once
BY_CAUSE = [("run", 1), ("signature", 1), ("state", 1), ("key._id", 1)]
_CHAIN = ("ns", "migration", "version", "createdAt")


class MongoFailures:
    """See `whimbrel.ports.Failures`."""

    def __init__(self, collection: Collection[Any], runs: Collection[Any], tallies: Tallies) -> None:
        self._failures, self._runs, self._tallies = collection, runs, tallies
        self._marked: dict[str, str | None] = {}  # batch -> the claim under which it was marked here

    def create_indexes(self) -> None:
        self._failures.create_index([("run", 1), ("key._id", 1)])
        self._failures.create_index([
            ("ns", 1), ("migration", 1), ("version", 1), ("run", 1), ("key._id", 1)
        ])  # fmt: skip
        self._failures.create_index([("run", 1), ("state", 1), ("dueAt", 1)])
        self._failures.create_index(BY_CAUSE)
        self._failures.create_index([("batch", 1), ("state", 1), ("outcome", 1)])

    def record(self, run: Run, batch: Batch, troubles: Sequence[Trouble]) -> None:
        for at in range(0, len(troubles), PAGE):
            page = troubles[at : at + PAGE]
            with translated():
                ids = [{"r": run.id, "d": each.key.document} for each in page]
                known = {
                    Key(row["key"].raw): row["batch"]
                    for row in self._failures.find({"_id": {"$in": ids}}, {"_id": 0, "key": 1, "batch": 1})
                }
                before = set(known.values()) - {batch.token}
                self._mark(batch)
                self._tallies.mark(before)
                older = self._older(run, [each.key for each in page], UNRESOLVED)
                self._write(run, batch, page, known, _since(run, older))
                self._tallies.keep(before)
                self._tallies.late(batch.token)
                self._supersede(older)

    def _write(
        self,
        run: Run,
        batch: Batch,
        troubles: Sequence[Trouble],
        known: Container[Key],
        since: Mapping[Key, datetime],
    ) -> None:
        """A document's first row is inserted, which is several times as fast; the others have one attempt more."""
        fresh = [each for each in troubles if each.key not in known]
        rest = [each for each in troubles if each.key in known]
        if fresh:
            now: datetime = self._failures.database.command("hello")["localTime"]  # the server's
            try:
                self._failures.insert_many(
                    [first_row(run, batch, each, now, since[each.key]) for each in fresh], ordered=False
                )
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if any(each["code"] != DUPLICATE_KEY for each in failed):
                    raise
                rest += [fresh[each["index"]] for each in failed]
        if rest:
            self._failures.bulk_write([one_more(run, batch, each) for each in rest], ordered=False)

    def _mark(self, batch: Batch) -> None:
        """Once a claim: nobody keeps the number of a batch that is worked on, so the mark stays until it ends."""
        if self._marked.get(batch.token, "") == batch.owner:
            return
        if len(self._marked) >= PAGE:
            self._marked = {}
        self._tallies.mark([batch.token])
        self._marked[batch.token] = batch.owner

    def _older(self, run: Run, keys: Sequence[Key], states: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """What earlier runs of the migration have recorded of these documents. Only they: a verification takes over nothing."""
        if run.kind != "migration":
            return []
        of_others = {
            **_same(run),
            "run": {"$ne": run.id},
            "job": "migration",
            "state": {"$in": list(states)},
            **_within(keys),
        }
        return list(self._failures.find(of_others, {"batch": 1, "key": 1, "since": 1}))

    def _supersede(self, older: Sequence[Mapping[str, Any]]) -> None:
        """These rows go: the newest tells since when its document fails."""
        if not older:
            return
        tokens = {row["batch"] for row in older}
        self._tallies.mark(tokens)
        self._failures.delete_many({"_id": {"$in": [row["_id"] for row in older]}})
        self._tallies.keep(tokens)

    def pass_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        keys = list(outcomes)
        for at in range(0, len(keys), PAGE):
            page = keys[at : at + PAGE]
            with translated():
                older = self._older(run, page, PASSED)
                since = _since(run, older)
                rows = [
                    UpdateOne(
                        {"_id": {"r": run.id, "d": key.document}},
                        {
                            "$set": {
                                "run": run.id, "job": run.kind, **_same(run), "key": key.document, "batch": batch.token, "state": "passed",
                                "outcome": outcomes[key],
                            },
                            "$setOnInsert": {"since": since[key]},
                        },
                        upsert=True,
                    )
                    for key in page
                ]  # fmt: skip
                self._failures.bulk_write(rows, ordered=False)
                self._supersede(older)

    def passed(self, run_id: str, token: str) -> Counts:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "batch": token, "state": "passed"}},
            {"$group": {"_id": "$outcome", "n": {"$sum": 1}}},
        ]
        with translated():
            found = {row["_id"]: int(row["n"]) for row in self._failures.aggregate(pipeline)}
        return Counts(unchanged=found.get("unchanged", 0), skipped=found.get("skipped", 0))

    def excluded(self, run_id: str, where: Range | Sequence[Key]) -> Sequence[Key]:
        with translated():
            return [key for page in self._excluded(run_id, where) for key in page]

    def excluded_pages(self, run_id: str) -> Iterator[Sequence[Key]]:
        with translated():
            yield from self._excluded(run_id, Range(None, None))

    def _excluded(self, run_id: str, where: Range | Sequence[Key]) -> Iterator[Sequence[Key]]:
        excluded = {"state": {"$in": EXCLUDED}, **_within(where)}
        yield from self._keys({"run": run_id, **excluded})
        run = self._runs.find_one({"_id": run_id, "endedAt": {"$ne": None}}, _CHAIN)
        if run is not None:  # a later run may have met its failures again, and have taken them over
            later = {name: run[name] for name in ("ns", "migration", "version")}
            since = {"run": {"$ne": run_id}, "job": "migration", "since": {"$lte": run["createdAt"]}}
            yield from self._keys({**later, **since, **excluded})

    def _keys(self, query: Mapping[str, Any]) -> Iterator[Sequence[Key]]:
        found = self._failures.find(query, {"_id": 0, "key": 1}).sort("key._id", 1).batch_size(PAGE)
        while page := [Key(row["key"].raw) for row in islice(found, PAGE)]:
            yield page

    def unresolved(self, run: Run, keys: Sequence[Key]) -> Sequence[Unresolved]:
        query = {**_same(run), "state": {"$in": UNRESOLVED}, **_within(keys)}
        with translated():
            return [unresolved_of(row) for row in self._failures.find(query, UNRESOLVED_FIELDS)]

    def of_others(self, run: Run, where: Range) -> Iterator[Sequence[Unresolved]]:
        others = {**_same(run), "run": {"$ne": run.id}, "state": {"$in": UNRESOLVED}}
        with translated():
            if self._failures.find_one(others, {"_id": 1}) is None:
                return
            found = self._failures.find({**others, **_within(where)}, UNRESOLVED_FIELDS).batch_size(PAGE)
            while page := [unresolved_of(row) for row in islice(found, PAGE)]:
                yield page

    def resolve(self, failures: Sequence[Unresolved], resolution: str) -> None:
        if failures:
            tokens = {each.batch for each in failures}
            with translated():
                self._tallies.mark(tokens)
                self._failures.update_many(
                    {"_id": {"$in": [{"r": each.run, "d": each.key.document} for each in failures]}},
                    {
                        "$set": {"state": "resolved", "resolution": resolution},
                        "$currentDate": {"lastAt": True},
                    },
                )
                self._tallies.keep(tokens)

    def within(self, run_id: str, where: Range) -> Sequence[Failure]:
        query = {"run": run_id, "state": {"$ne": str(FailureState.PASSED)}, **_within(where)}
        with translated():
            return [failure_of(row) for row in self._failures.find(query)]

    def withdraw(self, run_id: str, type_: str, *, message: str | None = None) -> None:
        query = {"run": run_id, "type": type_} | ({"message": message} if message is not None else {})
        with translated():
            tokens = self._tallies.mark_all(run_id)
            self._failures.delete_many(query)
            self._tallies.keep(tokens)

    def any_open(self, run_id: str) -> bool:
        with translated():
            return (
                self._failures.find_one({"run": run_id, "state": str(FailureState.OPEN)}, {"_id": 1})
                is not None
            )

    def due(self, run_id: str, limit: int) -> Sequence[Due]:
        query = {"run": run_id, "state": "open", "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
        with translated():
            found = self._failures.find(query, {"_id": 0, "key": 1, "kind": 1}).sort("dueAt", 1).limit(limit)
            due = [Due(Key(row["key"].raw), Kind(row["kind"])) for row in found]
        return sorted(due, key=lambda each: each.key.raw)

    def of(self, run_id: str, keys: Sequence[Key]) -> Sequence[Failure]:
        query = {"run": run_id, "state": "open", **_within(keys)}
        with translated():
            return [failure_of(row) for row in self._failures.find(query)]

    def counts(self, run_id: str) -> dict[str, int]:
        with translated():
            it = self._tallies.of_run(run_id)
        return {
            "open": it.open,
            "dead": it.n - it.open,
            "failed": it.n - it.conflict,
            "conflict": it.conflict,
        }

    def failed_batches(self, run_id: str) -> int:
        with translated():
            return self._tallies.of_run(run_id).batches

    def add_up(self, run_id: str) -> None:
        with translated():
            self._tallies.keep_all(run_id)

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        with translated():
            return self._tallies.by_worker(workers)

    def groups(self, run_id: str, limit: int = 50) -> Sequence[FailureGroup]:
        def having(state: str) -> dict[str, Any]:
            return {"$sum": {"$cond": [{"$eq": ["$state", state]}, 1, 0]}}

        states = {each: having(each) for each in ("open", "dead", "resolved")}
        pipeline: list[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "state": {"$in": RECORDED}}},
            {"$group": {"_id": "$signature", **states, "n": {"$sum": 1}}},
            {"$sort": {"n": -1, "_id": 1}},
            {"$limit": limit},
        ]
        found = []
        with translated():
            for row in self._failures.aggregate(pipeline, hint=dict(BY_CAUSE)):
                example = self._failures.find_one(
                    {"run": run_id, "signature": row["_id"], "state": {"$in": RECORDED}},
                    sort=[("key._id", 1)],
                )
                if example is not None:
                    it = failure_of(example)
                    found.append(
                        FailureGroup(
                            row["_id"],
                            str(it.kind),
                            it.type,
                            it.message,
                            row["open"],
                            row["dead"],
                            row["resolved"],
                            it.key,
                        )
                    )
        return found

    def list(self, run_id: str, *, signature: str | None = None, limit: int = 100) -> list[Failure]:
        query: dict[str, Any] = {"run": run_id, "state": {"$in": RECORDED}}
        if signature is not None:
            query["signature"] = signature
        with translated():
            return [failure_of(row) for row in self._failures.find(query).sort("key._id", 1).limit(limit)]

    def reopen(self, run_id: str, *, signature: str | None = None) -> int:
        query = {"run": run_id, "state": "dead", **({"signature": signature} if signature else {})}
        with translated():
            tokens = self._tallies.mark_all(run_id)
            found = self._failures.update_many(
                query, [{"$set": {"state": "open", "attempt": 0, "dueAt": "$$NOW"}}]
            )
            self._tallies.keep(tokens)
        return found.modified_count


def _since(run: Run, older: Sequence[Mapping[str, Any]]) -> Mapping[Key, datetime]:
    """When the first run began that has met each document's failure, one run after the other."""
    found: dict[Key, datetime] = defaultdict(lambda: run.created_at)
    for row in older:
        key = Key(row["key"].raw)
        found[key] = min(found[key], row.get("since") or run.created_at)
    return found


def _same(run: Run) -> dict[str, Any]:
    return {"ns": run.ns, "migration": run.migration, "version": run.version}


def _within(where: Range | Sequence[Key]) -> dict[str, Any]:
    if not isinstance(where, Range):
        return {"key._id": keys_under("$in", where)}
    return within({}, where, field="key._id")
