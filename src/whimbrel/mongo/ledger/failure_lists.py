"""The failures of a run as people look at them: by cause, and by document, those first that wait for somebody."""

import re
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
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.rows import failure_of
from whimbrel.mongo.ranges import within

# Their names are in this order in an index too.
ORDER = (FailureState.DEAD, FailureState.OPEN, FailureState.RESOLVED)
BY_CAUSE = [("run", 1), ("state", 1), ("group", 1), ("key._id", 1)]
_CURSOR = re.compile(r"(\d{1,18})-(\d{1,18})-(\d{1,18})-([0-9a-f]{8})")
Rank = tuple[int, int, int, str]


class FailureLists:
    """What of `whimbrel.ports.Failures` lists them."""

    def __init__(self, collection: Collection[Any], blocks: FailureSums, causes: FailureCauses) -> None:
        self._failures, self._blocks, self._causes = collection, blocks, causes

    def group_of(self, run_id: str, name: str) -> str | None:
        with translated():
            return self._causes.named(run_id, name)

    def groups(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> GroupPage:
        begin = _rank_of(after)
        with translated():
            counts = self._blocks.groups_of(run_id)
            ranked = sorted(
                (rank, it)
                for name, it in counts.items()
                if _shown(it, state) and group in (None, name) and (rank := _rank(name, it)) > begin
            )
            rows = self._causes.of_run(run_id)
            shown, left = ranked[:limit], [it for _, it in ranked[limit:]]
            found = [self._group(run_id, rows[rank[3]], it) for rank, it in shown if rank[3] in rows]
            rest = sum(left, GroupCount())
        return GroupPage(
            groups=tuple(each for each in found if each is not None),
            after=_cursor(shown[-1][0]) if left else None,
            rest=len(left), open=rest.open, dead=rest.dead, resolved=rest.resolved,
        )  # fmt: skip

    def _group(self, run_id: str, row: Mapping[str, Any], count: GroupCount) -> FailureGroup | None:
        for state in sorted(ORDER, key=lambda each: not _number(count, each)):  # those that there are, first
            query = {"run": run_id, "state": str(state), "group": row["group"]}
            example = self._failures.find_one(query, sort=[("key._id", 1)], hint=BY_CAUSE)
            if example is not None:
                it = failure_of(example)
                return FailureGroup(
                    group=row["group"], signature=row["signature"], kind=row["kind"], type=it.type, place=row["place"],
                    message=it.message, open=count.open, dead=count.dead, resolved=count.resolved, example=it.key,
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
        found: list[Failure] = []
        with translated():
            for query, order in _parts(run_id, state, group, after):
                rows = self._failures.find(query).sort(order).hint(BY_CAUSE).limit(limit - len(found))
                found += map(failure_of, rows)
                if len(found) >= limit:
                    break
        return found


def _parts(
    run_id: str, state: FailureState | None, group: str | None, after: FailurePlace | None
) -> Iterator[tuple[Mapping[str, Any], Sequence[tuple[str, int]]]]:
    """The questions whose answers, one after the other, are the list from there on."""
    by_key, by_group = [("key._id", 1)], [("group", 1), ("key._id", 1)]
    for each in ORDER:
        of = {"run": run_id, "state": str(each)}
        begins = ORDER.index(after.state) if after is not None else 0
        if state not in (None, each) or ORDER.index(each) < begins:
            continue
        if after is None or each is not after.state:
            yield (of, by_group) if group is None else ({**of, "group": group}, by_key)
            continue
        if group in (None, after.group):
            yield {**of, "group": after.group, **within({}, Range(after.key, None), field="key._id")}, by_key
        if group is None:
            yield {**of, "group": {"$gt": after.group}}, by_group


def _number(count: GroupCount, state: FailureState) -> int:
    return {FailureState.DEAD: count.dead, FailureState.OPEN: count.open}.get(state, count.resolved)


def _shown(count: GroupCount, state: FailureState | None) -> bool:
    return any(_number(count, each) for each in (ORDER if state is None else (state,)))


def _rank(group: str, count: GroupCount) -> Rank:
    """Most dead first, then most open, then most resolved."""
    return -count.dead, -count.open, -count.resolved, group


def _cursor(rank: Rank) -> str:
    return f"{-rank[0]}-{-rank[1]}-{-rank[2]}-{rank[3]}"


def _rank_of(cursor: str | None) -> Rank | tuple[()]:
    if cursor is None:
        return ()
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise CursorInvalid(NO_CURSOR)
    dead, open_, resolved, group = found.groups()
    return -int(dead), -int(open_), -int(resolved), group
