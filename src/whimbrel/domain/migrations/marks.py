"""How a document shows that it is done: three strategies, one small class each.

A mark is written in the same statement as the change, and the statement selects only documents
without it; that is what makes the effect happen once. The mark's value is the batch's token,
`<run>.<seq>`, with `/u` for a document found unchanged, `/s` for one skipped, `/f` for one failed (hole H5) and
`/c` for one that is only claimed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from bson.regex import Regex

MARK_ROOT = "_whimbrel"

CHANGED, UNCHANGED, SKIPPED, FAILED, CLAIMED = "changed", "unchanged", "skipped", "failed", "claimed"
SUFFIX = {CHANGED: "", UNCHANGED: "/u", SKIPPED: "/s", FAILED: "/f", CLAIMED: "/c"}

DONE = (CHANGED, UNCHANGED, SKIPPED)  # the outcomes in the mark of a document that is done

# The statuses of documents that a phase takes. The sweep looks for what is still pending.
FROM_STATUS = {
    "pending": ["pending"],
    "processing": ["processing"],
    "failed": ["failed"],
    "sweep": ["pending"],
    "follow": ["pending"],
}


def in_status(field: str, statuses: Sequence[str], *, collated: bool) -> dict[str, Any]:
    """Returns the query for documents whose status is one of these, to the letter.

    `collated`: the collection has a collation of its own, by which "Pending" may equal "pending": then a regular expression, which no
    collation affects, is added to the comparison, which an index serves (hole H31).
    """
    query = {field: statuses[0] if len(statuses) == 1 else {"$in": list(statuses)}}
    if not collated:
        return query
    return {"$and": [query, {field: {"$in": [Regex(rf"\A{re.escape(status)}\z") for status in statuses]}}]}


def stamp(token: str, outcome: str) -> str:
    """Returns the value of the mark for one outcome of the batch with this token."""
    return token + SUFFIX[outcome]


def read_stamp(value: str) -> tuple[str, str]:
    """Returns the batch's token and the outcome in a mark's value; an unknown outcome is returned as it is written."""
    token, slash, ending = value.partition("/")
    return token, next((name for name, suffix in SUFFIX.items() if suffix == slash + ending), slash + ending)


def marker_field(migration: str, version: int) -> str:
    """Returns the field under `_whimbrel` by which one version of a migration marks documents."""
    return f"{migration}_v{version}"


class Mark(Protocol):
    """One strategy."""

    def __hash__(self) -> int: ...

    @property
    def path(self) -> str | None:
        """Where the token is stored; None where documents carry no token."""
        ...

    @property
    def reserved(self) -> frozenset[str]:
        """The paths that only Whimbrel writes."""
        ...

    def unmarked(self, phase: str, *, retry: bool = False) -> dict[str, Any]:
        """Returns the query that a document of this phase satisfies while it is not done.

        `retry`: for documents that have a failure row, whatever the failure could write to them.
        """
        ...

    def fields(self, value: str) -> dict[str, Any]:
        """Returns what an update document adds to its `$set`, by dotted path."""
        ...

    def expression(self, value: str) -> dict[str, Any]:
        """Returns what an update pipeline sets at its end. It fails on documents that could not take the mark."""
        ...

    def failed(self, value: str) -> dict[str, Any]:
        """Returns what is set on a document that failed; empty where a failure leaves no trace."""
        ...


@dataclass(frozen=True, slots=True)
class Marker:
    """A field of Whimbrel's own: `_whimbrel.<name>_v<version>`."""

    field: str

    @property
    def path(self) -> str | None:
        return f"{MARK_ROOT}.{self.field}"

    @property
    def reserved(self) -> frozenset[str]:
        return frozenset({MARK_ROOT})

    def unmarked(self, phase: str, *, retry: bool = False) -> dict[str, Any]:  # noqa: ARG002  the same in every phase
        return {f"{MARK_ROOT}.{self.field}": {"$exists": False}}

    def fields(self, value: str) -> dict[str, Any]:
        return {f"{MARK_ROOT}.{self.field}": value}

    def expression(self, value: str) -> dict[str, Any]:
        # $mergeObjects refuses an application's own `_whimbrel: "text"`, which a plain $set of the
        # dotted path would silently destroy (hole H20).
        return {MARK_ROOT: {"$mergeObjects": [f"${MARK_ROOT}", {self.field: {"$literal": value}}]}}

    def failed(self, value: str) -> dict[str, Any]:  # noqa: ARG002  the ledger alone knows
        return {}


@dataclass(frozen=True, slots=True)
class Status:
    """The collection's own status field: pending, processing, then success or failed."""

    field: str
    collated: bool = False  # whether the collection has a collation of its own

    @property
    def path(self) -> str | None:
        return "processedBy"

    @property
    def reserved(self) -> frozenset[str]:
        return frozenset({self.field, "processedBy"})

    def unmarked(self, phase: str, *, retry: bool = False) -> dict[str, Any]:
        # A validator may have refused to write `failed` on the document (hole H21).
        wanted = ["failed", "pending", "processing"] if retry else FROM_STATUS[phase]
        return in_status(self.field, wanted, collated=self.collated)

    def fields(self, value: str) -> dict[str, Any]:
        return {self.field: "success", "processedBy": value}

    def expression(self, value: str) -> dict[str, Any]:
        return {name: {"$literal": field_value} for name, field_value in self.fields(value).items()}

    def failed(self, value: str) -> dict[str, Any]:
        return {self.field: "failed", "processedBy": value}


@dataclass(frozen=True, slots=True)
class Filter:
    """No field at all: the change itself makes the filter false. Counts after a crash are inferred (hole H4)."""

    @property
    def path(self) -> str | None:
        return None

    @property
    def reserved(self) -> frozenset[str]:
        return frozenset()

    def unmarked(self, phase: str, *, retry: bool = False) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def fields(self, value: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def expression(self, value: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def failed(self, value: str) -> dict[str, Any]:  # noqa: ARG002
        return {}


@lru_cache(maxsize=256)
def mark_of(strategy: str, field: str, status_field: str, *, collated: bool = False) -> Mark:
    if strategy == "marker":
        return Marker(field)
    return Status(status_field, collated) if strategy == "status" else Filter()
