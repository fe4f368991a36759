"""Stores the causes of a run's failures: a row for each, in the order in which they were first met, up to a limit.

The number of a row is part of its id, so a process that adds one states how many it has seen: if another process was
faster, it reads again. So the limits hold, however many processes meet new causes at the same time (hole H69).
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
from whimbrel.mongo.ledger.cause_trends import CauseTrends

RUNS = 16  # runs whose causes are remembered
RESERVED = len(FailureKind)  # rows that are kept free: one for all others of each kind
TOLD = 500  # characters of the first message


@dataclass(frozen=True, slots=True)
class _Known:
    """A run's rows as last read: groups by signature, and the number of groups of each family."""

    groups: Mapping[str, str]
    families: Mapping[str, int]


class FailureCauses:
    """Finds the group that each failure of a run belongs to."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._causes, self.trends = collection, CauseTrends(collection)
        self._known: dict[str, _Known] = {}

    def groups(self, run_id: str, failures: Sequence[FailedDocument]) -> Sequence[str]:
        """Returns the group of each failure, in their order, and adds new causes."""
        own_causes = [cause(failure) for failure in failures]
        known = self._known.get(run_id) or self._read(run_id)
        while True:
            choosing = _Choosing(known)
            causes = [choosing.of(own_cause) for own_cause in own_causes]
            if not choosing.fresh:
                return [chosen.id for chosen in causes]
            messages = {chosen: failure.message for chosen, failure in zip(causes, failures, strict=True)}
            self._add(run_id, len(known.groups), {fresh: messages[fresh] for fresh in choosing.fresh})
            known = self._read(run_id)

    def _add(self, run_id: str, number: int, new_causes: Mapping[Cause, str]) -> None:
        rows = cause_rows(run_id, new_causes, number=number)
        try:
            self._causes.insert_many(rows, ordered=True)
        except BulkWriteError as error:
            if any(write_error["code"] != DUPLICATE_KEY for write_error in error.details["writeErrors"]):
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

    def rows_of(self, run_id: str, groups: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        """Returns the rows of these groups of a run, by group."""
        return {
            row["group"]: row for row in self._causes.find({"run": run_id, "group": {"$in": list(groups)}})
        }

    def groups_met(self, run_id: str) -> Sequence[str]:
        """Returns the groups of a run, from an index alone."""
        rows = self._causes.find({"run": run_id}, {"_id": 0, "group": 1})
        return [str(row["group"]) for row in rows]

    def named(self, run_id: str, name: str) -> str | None:
        """Returns the group with this short name or signature."""
        either = {"run": run_id, "$or": [{"group": name}, {"signature": name}]}
        row = self._causes.find_one(either, {"group": 1})
        return None if row is None else str(row["group"])


def cause_rows(run_id: str, new_causes: Mapping[Cause, str], *, number: int = 0) -> list[dict[str, Any]]:
    """Returns rows of causes, each with a message, numbered after the `number` that the run has."""
    return [
        {
            "_id": {"r": run_id, "n": number + index}, "run": run_id, "group": new_cause.id, "signature": new_cause.signature, "kind": str(new_cause.kind),
            "type": new_cause.type, "place": new_cause.place, "template": new_cause.template, "family": new_cause.family.id, "message": message[:TOLD],
        }
        for index, (new_cause, message) in enumerate(new_causes.items())
    ]  # fmt: skip


class _Choosing:
    """Decides which causes of a page are new, and which are grouped with others because there are too many."""

    def __init__(self, known: _Known) -> None:
        self._groups, self._families = known.groups, Counter(known.families)
        self.fresh: dict[Cause, None] = {}

    def of(self, wanted: Cause) -> Cause:
        family = wanted.family
        if self._exists(wanted):
            return wanted
        if self._exists(family):
            return family
        if len(self._groups) + len(self.fresh) >= GROUPS - RESERVED:
            return self._add(wanted.others)
        return self._add(family if self._families[family.id] >= wanted.variants else wanted)

    def _exists(self, cause: Cause) -> bool:
        return cause.signature in self._groups or cause in self.fresh

    def _add(self, cause: Cause) -> Cause:
        if not self._exists(cause):
            self.fresh[cause] = None
            self._families[cause.family.id] += 1
        return cause
