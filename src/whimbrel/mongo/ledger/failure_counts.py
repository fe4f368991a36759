"""Numbers of failures by batch and cause: counted from the failures' own rows, and as they are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.collection import Collection

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.failures.failure import FailureState

UNRESOLVED = [str(FailureState.OPEN), str(FailureState.DEAD)]
RECORDED = [*UNRESOLVED, str(FailureState.RESOLVED)]
AT_ONCE = 1000  # batches in one statement
STATES = ("open", "dead", "resolved", "conflict")
LOOKS = 3  # at kept numbers that change while rows are counted beside them
Groups = Mapping[str, GroupCount]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FailureTally:
    """Documents with an unresolved failure, those of them that are tried again and that are conflicts, and their batches."""

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
    """The numbers of one batch."""
    both = sum(groups.values(), GroupCount())
    return FailureTally(both.unresolved, both.open, both.conflict, int(both.unresolved > 0))


def counted(failures: Collection[Any], tokens: Sequence[str]) -> dict[str, dict[str, GroupCount]]:
    """What the rows say, by batch and group. From an index alone."""
    found: dict[str, dict[str, GroupCount]] = {}
    for at in range(0, len(tokens), AT_ONCE):
        rows = failures.aggregate([
            {"$match": {"batch": {"$in": list(tokens[at : at + AT_ONCE])}, "state": {"$in": RECORDED}}},
            {"$group": {"_id": {"b": "$batch", "g": "$group", "s": "$state", "o": "$outcome"}, "n": {"$sum": 1}}},
        ])  # fmt: skip
        for row in rows:
            of, number = row["_id"], int(row["n"])
            conflict = number if of["o"] == "conflict" and of["s"] in UNRESOLVED else 0
            count = GroupCount(**{of["s"]: number, "conflict": conflict})
            groups = found.setdefault(of["b"], {})
            groups[of["g"]] = groups.get(of["g"], GroupCount()) + count
    return found


def kept_and_counted(
    failures: Collection[Any], look: Callable[[], tuple[T, list[str]]]
) -> tuple[T, dict[str, dict[str, GroupCount]]]:
    """What a look finds: the numbers that are kept, and by their rows those of the batches that it names.

    A row that moves from a batch whose number is kept to one whose rows are counted would be there twice. That batch is marked
    before the row moves, so a second look that finds the same shows that none has; in the third, what changes all the time is taken as it is.
    """
    found = look()
    for _ in range(LOOKS):
        rows = counted(failures, found[1])
        before, found = found, look() if found[1] else found
        if found == before:
            break
    return before[0], rows


def added(parts: Sequence[Groups]) -> dict[str, GroupCount]:
    found: dict[str, GroupCount] = {}
    for part in parts:
        for group, count in part.items():
            found[group] = found.get(group, GroupCount()) + count
    return found


def groups_rows(groups: Groups) -> list[dict[str, Any]]:
    """As they are kept in a row."""
    return [
        {"group": group, "open": it.open, "dead": it.dead, "resolved": it.resolved, "conflict": it.conflict}
        for group, it in groups.items()
    ]


def summed(rows: Collection[Any], query: Mapping[str, Any], path: str) -> dict[str, GroupCount]:
    """The sum over what rows keep at a path."""
    sums = {state: {"$sum": f"${path}.{state}"} for state in STATES}
    found = rows.aggregate([
        {"$match": query}, {"$unwind": f"${path}"}, {"$group": {"_id": f"${path}.group", **sums}},
    ])  # fmt: skip
    return {row["_id"]: GroupCount(*(int(row[state]) for state in STATES)) for row in found}
