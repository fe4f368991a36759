"""Numbers of failures by batch and cause: counted from the failures' own rows, and as they are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.causes import GroupCount
from whimbrel.domain.failures import FailureState

UNRESOLVED = [str(FailureState.OPEN), str(FailureState.DEAD)]
RECORDED = [*UNRESOLVED, str(FailureState.RESOLVED)]
AT_ONCE = 1000  # batches in one statement
STATES = ("open", "dead", "resolved", "conflict")
Groups = Mapping[str, GroupCount]


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents with an unresolved failure, those of them that are tried again and that are conflicts, and their batches."""

    n: int = 0
    open: int = 0
    conflict: int = 0
    batches: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.n + other.n,
            self.open + other.open,
            self.conflict + other.conflict,
            self.batches + other.batches,
        )


def tally(groups: Groups) -> Tally:
    """The numbers of one batch."""
    both = sum(groups.values(), GroupCount())
    return Tally(both.unresolved, both.open, both.conflict, int(both.unresolved > 0))


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
