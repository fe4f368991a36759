"""Finds failures of a run by more than their cause and state. What no index serves is looked for among a limited number of rows a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import Failure, FailurePlace, FailureState
from whimbrel.domain.failures.failure_query import CauseSeen, FailurePage, FailureQuery
from whimbrel.domain.runs.batches import Range
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.cause_trends import trend_of
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.rows import failure_of
from whimbrel.mongo.ranges import within

# Also the alphabetical order of the names, and so of an index.
ORDER = (FailureState.DEAD, FailureState.OPEN, FailureState.RESOLVED)
BY_CAUSE = [("run", 1), ("state", 1), ("group", 1), ("key._id", 1)]
LOOKED_AT = 5_000  # rows of a state
ADDED = 1_000  # more of them, which may be added while they are looked at

Order = Sequence[tuple[str, int]]


class FailureSearch:
    """Implements the search of `whimbrel.ports.Failures`."""

    def __init__(self, collection: Collection[Any], causes: FailureCauses) -> None:
        self._failures, self._causes = collection, causes

    def causes_seen(self, run_id: str) -> Mapping[str, CauseSeen]:
        with translated():
            rows = self._causes.of_run(run_id)
        return {
            group: CauseSeen(
                group=group, kind=row["kind"], type=row["type"], code=row.get("code"), code_known="code" in row, trend=trend_of(row.get("seen")),
            )
            for group, row in rows.items()
        }  # fmt: skip

    def search(
        self,
        run_id: str,
        query: FailureQuery,
        *,
        after: FailurePlace | None = None,
        limit: int = 100,
        slim: bool = False,
    ) -> FailurePage:
        rest, found = _residual(query), list[Failure]()
        with translated():
            for match, order in _ranges(run_id, query, after):
                wanted = limit - len(found)
                stages: list[Mapping[str, Any]] = [{"$match": match}, {"$sort": dict(order)}]
                last = None
                if rest:
                    # Read first: rows that leave the state meanwhile move others to the front, which would not be looked at.
                    last = self._place_of(match, order, LOOKED_AT - 1)
                    stages += [{"$limit": LOOKED_AT + ADDED}, {"$match": {**rest, **_through(last)}}]
                stages += [{"$limit": wanted}, *([{"$unset": "traceback"}] if slim else [])]
                rows = list(self._failures.aggregate(stages, hint=dict(BY_CAUSE)))
                found += map(failure_of, rows)
                if len(found) == limit:
                    return FailurePage(found, found[-1].place)
                if last is not None:
                    return FailurePage(found, last)
        return FailurePage(found, None)

    def _place_of(self, match: Mapping[str, Any], order: Order, number: int) -> FailurePlace | None:
        """Returns the place of the row with this number, if there are so many."""
        fields = {"_id": 0, "state": 1, "group": 1, "key": 1}
        rows = self._failures.find(match, fields).sort(order).hint(BY_CAUSE).skip(number).limit(1)
        return next(
            (FailurePlace(FailureState(row["state"]), row["group"], Key(row["key"].raw)) for row in rows),
            None,
        )


def _through(last: FailurePlace | None) -> dict[str, Any]:
    """Selects rows of a state up to a place."""
    if last is None:
        return {}
    of_group = {"group": last.group, **within({}, Range(None, last.key), field="key._id")}
    return {"$or": [{"group": {"$lt": last.group}}, of_group]}


def _residual(query: FailureQuery) -> dict[str, Any]:
    """Returns the conditions that no index serves."""
    rest: dict[str, Any] = {} if query.code is None else {"code": query.code}
    times = {"$gte": query.since, "$lt": query.until}
    bounds = {name: moment for name, moment in times.items() if moment is not None}
    return {**rest, **({"lastAt": bounds} if bounds else {})}


def _ranges(
    run_id: str, query: FailureQuery, after: FailurePlace | None
) -> Iterator[tuple[Mapping[str, Any], Order]]:
    """Yields the queries whose results, one after the other, are the list after that place."""
    begins = ORDER.index(after.state) if after is not None else 0
    in_order: Order = [("group", 1), ("key._id", 1)]
    for state in ORDER[begins:]:
        if query.states is not None and state not in query.states:
            continue
        of_state: dict[str, Any] = {"run": run_id, "state": str(state)}
        if after is None or state is not after.state:
            yield {**of_state, **_among(query)}, in_order
            continue
        if query.groups is None or after.group in query.groups:
            keys = within({}, Range(after.key, None), field="key._id")
            yield {**of_state, "group": after.group, **keys}, [("key._id", 1)]
        yield {**of_state, **_among(query, behind=after.group)}, in_order


def _among(query: FailureQuery, *, behind: str = "") -> dict[str, Any]:
    if query.groups is not None:
        return {"group": {"$in": sorted(group for group in query.groups if group > behind)}}
    return {"group": {"$gt": behind}} if behind else {}
