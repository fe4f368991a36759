"""Lists the failures of a run for people: by cause and by document, those that wait for a person first."""

import re
from collections.abc import Collection as Collection_
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.failures.failure import (
    NO_CURSOR,
    Failure,
    FailureGroup,
    FailurePlace,
    FailureState,
    GroupPage,
)
from whimbrel.domain.runs.batches import Range
from whimbrel.errors import CursorInvalid
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.cause_trends import trend_of
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_search import BY_CAUSE, ORDER, FailureSearch
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.rows import failure_of
from whimbrel.mongo.ranges import within

_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,18})-([0-9a-f]{8})")
Rank = tuple[int, int, int, str]


class FailureLists(FailureSearch):
    """Implements the lists of `whimbrel.ports.Failures`."""

    def __init__(self, collection: Collection[Any], blocks: FailureSums, causes: FailureCauses) -> None:
        super().__init__(collection, causes)
        self._blocks = blocks

    def group_of(self, run_id: str, name: str) -> str | None:
        with translated():
            return self._causes.named(run_id, name)

    def by_cause(self, run_id: str) -> Mapping[str, GroupCount]:
        with translated():
            return self._blocks.groups_of(run_id)

    def causes(self, run_id: str) -> Sequence[str]:
        with translated():
            return self._causes.groups_met(run_id)

    def groups(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: str | None = None,
        limit: int = 50,
        among: Collection_[str] | None = None,
    ) -> GroupPage:
        start_rank = _rank_of(after)
        with translated():
            counts = self._blocks.groups_of(run_id)
            ranked = sorted(
                (rank, failure_count)
                for name, failure_count in counts.items()
                if _has_failures_in(failure_count, state)
                and group in (None, name)
                and (among is None or name in among)
                and (rank := _rank(name, failure_count)) > start_rank
            )
            listed_groups, remaining = ranked[:limit], [count for _, count in ranked[limit:]]
            rows = self._causes.rows_of(run_id, [rank[3] for rank, _ in listed_groups])
            groups = [
                self._group(run_id, rows[rank[3]], count) for rank, count in listed_groups if rank[3] in rows
            ]
            total = sum(remaining, GroupCount())
        return GroupPage(
            groups=tuple(page_group for page_group in groups if page_group is not None),
            after=_cursor(listed_groups[-1][0]) if remaining else None,
            rest=len(remaining), open=total.open, dead=total.dead, resolved=total.resolved,
        )  # fmt: skip

    def _group(self, run_id: str, row: Mapping[str, Any], count: GroupCount) -> FailureGroup | None:
        for state in sorted(
            ORDER, key=lambda state: not _count_in_state(count, state)
        ):  # states with failures first
            query = {"run": run_id, "state": str(state), "group": row["group"]}
            example = self._failures.find_one(query, sort=[("key._id", 1)], hint=BY_CAUSE)
            if example is not None:
                failure = failure_of(example)
                return FailureGroup(
                    group=row["group"], signature=row["signature"], kind=row["kind"], type=failure.type, place=row["place"],
                    message=failure.message, open=count.open, dead=count.dead, resolved=count.resolved, example=failure.key,
                    code=row.get("code"), trend=trend_of(row.get("seen")),
                )  # fmt: skip
        return None

    def list(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: FailurePlace | None = None,
        limit: int = 100,
    ) -> list[Failure]:
        failures: list[Failure] = []
        with translated():
            for query, order in _queries(run_id, state, group, after):
                rows = self._failures.find(query).sort(order).hint(BY_CAUSE).limit(limit - len(failures))
                failures += map(failure_of, rows)
                if len(failures) >= limit:
                    break
        return failures


def _queries(
    run_id: str, state: FailureState | None, group: str | None, after: FailurePlace | None
) -> Iterator[tuple[Mapping[str, Any], Sequence[tuple[str, int]]]]:
    """Yields the queries whose results, one after the other, are the list after that place."""
    by_key, by_group = [("key._id", 1)], [("group", 1), ("key._id", 1)]
    for listed_state in ORDER:
        query = {"run": run_id, "state": str(listed_state)}
        begins = ORDER.index(after.state) if after is not None else 0
        if state not in (None, listed_state) or ORDER.index(listed_state) < begins:
            continue
        if after is None or listed_state is not after.state:
            yield (query, by_group) if group is None else ({**query, "group": group}, by_key)
            continue
        if group in (None, after.group):
            yield (
                {**query, "group": after.group, **within({}, Range(after.key, None), field="key._id")},
                by_key,
            )
        if group is None:
            yield {**query, "group": {"$gt": after.group}}, by_group


def _count_in_state(count: GroupCount, state: FailureState) -> int:
    return {FailureState.DEAD: count.dead, FailureState.OPEN: count.open}.get(state, count.resolved)


def _has_failures_in(count: GroupCount, state: FailureState | None) -> bool:
    return any(
        _count_in_state(count, listed_state) for listed_state in (ORDER if state is None else (state,))
    )


def _rank(group: str, count: GroupCount) -> Rank:
    """Orders groups: most dead first, then most open, then most resolved."""
    return -count.dead, -count.open, -count.resolved, group


def _cursor(rank: Rank) -> str:
    return f"{-rank[0]}-{-rank[1]}-{-rank[2]}-{rank[3]}"


def _rank_of(cursor: str | None) -> Rank | tuple[()]:
    if cursor is None:
        return ()
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise CursorInvalid(NO_CURSOR)
    dead, open_, resolved, group = match.groups()
    return -int(dead), -int(open_), -int(resolved), group
