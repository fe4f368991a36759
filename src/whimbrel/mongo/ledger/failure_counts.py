"""Counts failures by batch and cause from their own rows, and converts these numbers to what rows keep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pymongo.collection import Collection

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.failures.failure import FailureState

UNRESOLVED = [str(FailureState.OPEN), str(FailureState.DEAD)]
RECORDED = [*UNRESOLVED, str(FailureState.RESOLVED)]
AT_ONCE = 1000  # batches in one statement
STATES = ("open", "dead", "resolved", "conflict")
LOOKS = 3  # reads of kept numbers that change while rows are counted
Groups = Mapping[str, GroupCount]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FailureTally:
    """Counts of documents with an unresolved failure, of those to be tried again, of conflicts, and of their batches."""

    n: int = 0
    open: int = 0
    conflict: int = 0
    batches: int = 0

    def __add__(self, other: "FailureTally") -> "FailureTally":
        return FailureTally(
            self.n + other.n,
            self.open + other.open,
            self.conflict + other.conflict,
            self.batches + other.batches,
        )


def tally(groups: Groups) -> FailureTally:
    """Returns the numbers of one batch."""
    total = sum(groups.values(), GroupCount())
    return FailureTally(total.unresolved, total.open, total.conflict, int(total.unresolved > 0))


def counted(failures: Collection[Any], tokens: Sequence[str]) -> dict[str, dict[str, GroupCount]]:
    """Counts the rows by batch and group, from an index alone."""
    groups_by_batch: dict[str, dict[str, GroupCount]] = {}
    for start in range(0, len(tokens), AT_ONCE):
        rows = failures.aggregate([
            {"$match": {"batch": {"$in": list(tokens[start : start + AT_ONCE])}, "state": {"$in": RECORDED}}},
            {"$group": {"_id": {"b": "$batch", "g": "$group", "s": "$state", "o": "$outcome"}, "n": {"$sum": 1}}},
        ])  # fmt: skip
        for row in rows:
            key, number = row["_id"], int(row["n"])
            conflict = number if key["o"] == "conflict" and key["s"] in UNRESOLVED else 0
            count = GroupCount(**{key["s"]: number, "conflict": conflict})
            groups = groups_by_batch.setdefault(key["b"], {})
            groups[key["g"]] = groups.get(key["g"], GroupCount()) + count
    return groups_by_batch


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """What is kept, the batches whose number is not known, and whether anything is marked, so that numbers may change while they are read."""

    kept: T
    unclear: list[str]
    moving: bool


def kept_and_counted(
    failures: Collection[Any], look: Callable[[], Look[T]]
) -> tuple[T, dict[str, dict[str, GroupCount]]]:
    """Returns the kept numbers that `look` reads, and the counted numbers of the batches that it names.

    A row that moves from a batch with a kept number to a counted batch would be counted twice, and a batch that is kept meanwhile
    may be met twice or missed. All these are marked before, so a second read with the same result shows that none has moved; the
    result of the third is taken as it is.
    """
    latest = look()
    for _ in range(LOOKS):
        rows = counted(failures, latest.unclear)
        before, latest = latest, look() if latest.moving else latest
        if latest == before:
            break
    return before.kept, rows


def added(parts: Sequence[Groups]) -> dict[str, GroupCount]:
    total: dict[str, GroupCount] = {}
    for part in parts:
        for group, count in part.items():
            total[group] = total.get(group, GroupCount()) + count
    return total


def groups_rows(groups: Groups) -> list[dict[str, Any]]:
    """Returns groups as they are kept in a row."""
    return [
        {
            "group": group,
            "open": count.open,
            "dead": count.dead,
            "resolved": count.resolved,
            "conflict": count.conflict,
        }
        for group, count in groups.items()
    ]


def summed(rows: Collection[Any], query: Mapping[str, Any], path: str) -> dict[str, GroupCount]:
    """Returns the sum over what rows keep at a path."""
    sums = {state: {"$sum": f"${path}.{state}"} for state in STATES}
    sums_by_group = rows.aggregate([
        {"$match": query}, {"$unwind": f"${path}"}, {"$group": {"_id": f"${path}.group", **sums}},
    ])  # fmt: skip
    return {row["_id"]: GroupCount(*(int(row[state]) for state in STATES)) for row in sums_by_group}
