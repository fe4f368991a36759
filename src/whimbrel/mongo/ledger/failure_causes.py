"""The causes of a run's failures: a row for each, in the order in which they were met first, and never more than so many.

The number of a row is part of its id. Who wants to add one states by that how many he has seen: where somebody else was
faster, he looks again. So the bounds hold, however many processes meet new causes at the same time (hole H69).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from whimbrel.domain.failures.causes import GROUPS, Cause, cause
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.mongo.driver_errors import DUPLICATE_KEY

RUNS = 16  # whose causes are remembered
RESERVED = len(FailureKind)  # rows that are kept free: one for all others of each kind
TOLD = 500  # characters of the first message


@dataclass(frozen=True, slots=True)
class _Known:
    """What a run's rows said when they were read: groups by signature, and how many there are of each family."""

    groups: Mapping[str, str]
    families: Mapping[str, int]


class FailureCauses:
    """Which group each failure of a run belongs to."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._causes = collection
        self._known: dict[str, _Known] = {}

    def create_indexes(self) -> None:
        self._causes.create_index([("run", 1), ("group", 1)])

    def groups(self, run_id: str, troubles: Sequence[FailedDocument]) -> Sequence[str]:
        """The group of each of these, in their order. Where one has none yet, it is added."""
        wanted = [cause(each) for each in troubles]
        known = self._known.get(run_id) or self._read(run_id)
        while True:
            chosen = _Choosing(known)
            found = [chosen.of(each) for each in wanted]
            if not chosen.fresh:
                return [each.id for each in found]
            messages = {each: trouble.message for each, trouble in zip(found, troubles, strict=True)}
            self._add(run_id, len(known.groups), {each: messages[each] for each in chosen.fresh})
            known = self._read(run_id)

    def _add(self, run_id: str, number: int, fresh: Mapping[Cause, str]) -> None:
        rows = cause_rows(run_id, fresh, number=number)
        try:
            self._causes.insert_many(rows, ordered=True)
        except BulkWriteError as error:
            if any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
                raise

    def _read(self, run_id: str) -> _Known:
        rows = list(self._causes.find({"run": run_id}, {"_id": 0, "group": 1, "signature": 1, "family": 1}))
        known = _Known(
            {row["signature"]: row["group"] for row in rows}, Counter(row["family"] for row in rows)
        )
        if len(self._known) >= RUNS:
            self._known = {}
        self._known[run_id] = known
        return known

    def of_run(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """The rows of a run by group: `GROUPS` at most."""
        return {row["group"]: row for row in self._causes.find({"run": run_id})}

    def named(self, run_id: str, name: str) -> str | None:
        """The group of this short name or signature."""
        either = {"run": run_id, "$or": [{"group": name}, {"signature": name}]}
        row = self._causes.find_one(either, {"group": 1})
        return None if row is None else str(row["group"])


def cause_rows(run_id: str, fresh: Mapping[Cause, str], *, number: int = 0) -> list[dict[str, Any]]:
    """Rows of causes, each with a message of it, behind so many that the run has."""
    return [
        {
            "_id": {"r": run_id, "n": number + at}, "run": run_id, "group": each.id, "signature": each.signature, "kind": str(each.kind),
            "type": each.type, "place": each.place, "template": each.template, "family": each.family.id, "message": message[:TOLD],
        }
        for at, (each, message) in enumerate(fresh.items())
    ]  # fmt: skip


class _Choosing:
    """Which causes of a page are new, and which are one with others because there are too many."""

    def __init__(self, known: _Known) -> None:
        self._groups, self._families = known.groups, Counter(known.families)
        self.fresh: dict[Cause, None] = {}

    def of(self, wanted: Cause) -> Cause:
        family = wanted.family
        if self._there(wanted):
            return wanted
        if self._there(family):
            return family
        if len(self._groups) + len(self.fresh) >= GROUPS - RESERVED:
            return self._add(wanted.others)
        return self._add(family if self._families[family.id] >= wanted.variants else wanted)

    def _there(self, cause: Cause) -> bool:
        return cause.signature in self._groups or cause in self.fresh

    def _add(self, cause: Cause) -> Cause:
        if not self._there(cause):
            self.fresh[cause] = None
            self._families[cause.family.id] += 1
        return cause
