"""Lists the runs for people: in pages, newest first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from pymongo.collection import Collection

from whimbrel.domain.runs.run import Run, RunKind
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.run_query import RunQuery
from whimbrel.domain.runs.states import RunStatus
from whimbrel.errors import RunUnknown
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.run_rows import run_of

PAGE = 200  # runs that are read at once
NEWEST = {"createdAt": -1, "_id": -1}
KINDS: Sequence[RunKind] = get_args(RunKind)
LONGEST = 2000  # bytes of a filter in a brief row
LEFT_OUT = (
    "warnings",
    "report",
    "update",
    "tiling",
    "checked",
    "unsent",
    "forgiven",
)  # long fields that lists do not show


def _too_long(path: str) -> dict[str, Any]:
    return {"$gt": [{"$binarySize": {"$ifNull": [path, ""]}}, LONGEST]}


BRIEF: Sequence[Mapping[str, Any]] = (
    {"$unset": list(LEFT_OUT)},
    {
        "$set": {
            "abridged": _too_long("$filter"),
            "filter": {"$cond": [_too_long("$filter"), "{}", "$filter"]},
            "request": {
                "$cond": [
                    _too_long("$request.filter"),
                    {"$mergeObjects": ["$request", {"filter": None, "abridged": True}]},
                    "$request",
                ]
            },
        }
    },
)


def _selecting(query: RunQuery) -> dict[str, Any]:
    """Returns the query so that one of the indexes yields its runs, and no others, in their order.

    Where a kind, a migration or a collection is asked for, all that comes before the time in that index is named:
    MongoDB then merges a few ranges that are in order already.
    """
    narrow = query.kinds is not None or query.collections is not None
    if query.migration is not None and query.statuses is not None:
        narrow = True
    selected: dict[str, Any] = {}
    if query.migration is not None:
        selected["migration"] = query.migration
    if query.collections is not None:
        selected["ns"] = {"$in": list(query.collections)}
    if narrow:
        kinds = KINDS if query.kinds is None else query.kinds
        # Rows of earlier versions have no kind: they are migrations.
        selected["kind"] = {"$in": [*kinds, *([None] if "migration" in kinds else [])]}
    if narrow or query.statuses is not None:
        statuses = list(RunStatus) if query.statuses is None else query.statuses
        selected["status"] = {"$in": [str(status) for status in statuses]}
    times = {"$gte": query.since, "$lt": query.until}
    if bounds := {name: moment for name, moment in times.items() if moment is not None}:
        selected["createdAt"] = bounds
    return selected


class RunLists:
    """Implements the lists of `whimbrel.ports.Runs`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._runs = collection

    def list(
        self,
        *,
        statuses: Iterable[RunStatus] | None = None,
        migration: str | None = None,
        of: str | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        after: RunPlace | str | None = None,
        limit: int = 100,
        brief: bool = False,
    ) -> list[Run]:
        query: dict[str, Any] = {} if since is None else {"createdAt": {"$gte": since}}
        if statuses is not None:
            query["status"] = {"$in": [str(status) for status in statuses]}
        equal = {"migration": migration, "of": of, "kind": kind}
        query |= {name: value for name, value in equal.items() if value is not None}
        if isinstance(after, str):
            after = self._place(after)
        return list(self._page(query, after, limit, brief=brief))

    def page(self, query: RunQuery, *, after: RunPlace | None = None, limit: int = 100) -> Sequence[Run]:
        return tuple(self._page(_selecting(query), after, limit, brief=True))

    def of_version(
        self,
        migration: str,
        version: int,
        ns: str | None,
        *,
        kind: RunKind | None = None,
        since: datetime | None = None,
        after: RunPlace | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        equal = {"migration": migration, "version": version, "ns": ns, "kind": kind}
        query = {name: value for name, value in equal.items() if value is not None}
        if since is not None:
            query["createdAt"] = {"$gte": since}
        return tuple(self._page(query, after, limit, brief=True))

    def versions(self, migration: str, *, least: int) -> Sequence[int]:
        newer: Sequence[Mapping[str, Any]] = [
            {"$match": {"migration": migration, "kind": "migration", "version": {"$gte": least}}},
            {"$group": {"_id": "$version"}},
        ]
        with translated():
            return [int(row["_id"]) for row in self._runs.aggregate(newer)]

    def _page(
        self, query: dict[str, Any], after: RunPlace | None, limit: int, *, brief: bool
    ) -> Iterator[Run]:
        if after is not None:
            # In addition to $or, so that an index serves.
            query["createdAt"] = query.get("createdAt", {}) | {"$lte": after.created_at}
            query["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
        stages: list[Mapping[str, Any]] = [{"$match": query}, {"$sort": NEWEST}, {"$limit": limit}]
        with translated():
            # All in one answer, as far as 16 MB go.
            rows = self._runs.aggregate([*stages, *(BRIEF if brief else ())], batchSize=limit + 1)
            yield from map(run_of, rows)

    def _place(self, run_id: str) -> RunPlace:
        with translated():
            row = self._runs.find_one({"_id": run_id}, {"createdAt": 1})
        if row is None:
            raise RunUnknown(f"There is no run {run_id!r}.")
        return RunPlace(row["createdAt"], run_id)

    def followers(self, run_id: str, *, kind: RunKind | None = None) -> Iterator[Run]:
        after: RunPlace | None = None
        while page := self.list(of=run_id, kind=kind, after=after, limit=PAGE):
            yield from page
            after = page[-1].place

    def just_ended(self, seconds: float, *, limit: int) -> Sequence[Run]:
        recent = {"$gte": ["$endedAt", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}
        with translated():
            rows = self._runs.find({"endedAt": {"$type": "date"}, "$expr": recent})
            return [run_of(row) for row in rows.sort([("endedAt", -1), ("_id", -1)]).limit(limit)]

    def failed_since(self, moment: datetime, *, most: int) -> int:
        query = {"status": str(RunStatus.FAILED), "endedAt": {"$gte": moment}}
        with translated():
            return self._runs.count_documents(query, limit=most)

    def holders(self, collections: Iterable[str]) -> Mapping[str, str]:
        namespaces = sorted(set(collections))
        if not namespaces:
            return {}
        holding = {"active": True, "ns": {"$in": namespaces}}
        with translated():
            rows = self._runs.find(holding, {"ns": 1}, batch_size=len(namespaces) + 1)
            return {row["ns"]: str(row["_id"]) for row in rows}
