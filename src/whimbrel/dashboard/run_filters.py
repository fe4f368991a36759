"""The filters of the list of runs, as they stand in its address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query
from pydantic import BeforeValidator, Field

from whimbrel.api.deployment import Deployment
from whimbrel.api.models.list_filters import Moment, span_of
from whimbrel.domain.runs.run import RunKind
from whimbrel.domain.runs.run_query import RunQuery
from whimbrel.domain.runs.states import RunStatus

Given = Mapping[str, Sequence[str]]
NOT_COMPLETED = tuple(status for status in RunStatus if status is not RunStatus.COMPLETED)
FAILED = (RunStatus.FAILED, RunStatus.COMPLETED_WITH_FAILURES)
LONGEST = 300  # characters of a name


def _given(value: Any) -> Any:
    """A field of a form that nobody has filled in says nothing."""
    if isinstance(value, list):
        parts = [part for each in value for part in (each.split(",") if isinstance(each, str) else [each])]
        return [part for part in parts if part != ""] or None
    return None if isinstance(value, str) and not value.strip() else value


_Given = BeforeValidator(_given)
Name = Annotated[Annotated[str, Field(max_length=LONGEST)] | None, _Given, Query()]


@dataclass(frozen=True, slots=True)
class RunFilters:
    """What is asked for, and as it is written in the address."""

    query: RunQuery
    given: Given = field(default_factory=dict)

    @property
    def any(self) -> bool:
        return bool(self.given)

    @property
    def detailed(self) -> bool:
        """Whether there is more than a choice of states."""
        return any(name != "status" for name in self.given)

    def has(self, name: str, value: str) -> bool:
        return value in self.given.get(name, ())

    def one(self, name: str) -> str:
        return next(iter(self.given.get(name, ())), "")

    def is_choice(self, statuses: Sequence[str]) -> bool:
        """Whether exactly these states are chosen."""
        return set(self.given.get("status", ())) == set(map(str, statuses))

    def address(self, *, cursor: str | None = None, status: Sequence[str] | None = None) -> str:
        """Returns the address of the list with these filters, but others of these."""
        given = {name: ",".join(values) for name, values in self.given.items()}
        if status is not None:
            given["status"] = ",".join(map(str, status))
        if cursor is not None:
            given["cursor"] = cursor
        text = urlencode({name: value for name, value in given.items() if value}, safe=",:")
        return f"/?{text}" if text else "/"


def _filters(
    deployment: Deployment,
    status: Annotated[list[RunStatus] | None, Query(), _Given] = None,
    kind: Annotated[list[RunKind] | None, Query(), _Given] = None,
    migration: Name = None,
    collection: Name = None,
    from_: Annotated[Moment | None, _Given, Query(alias="from")] = None,
    to: Annotated[Moment | None, _Given, Query()] = None,
) -> RunFilters:  # fmt: skip
    since, until = span_of(from_, to)
    named = None if collection is None else [collection, f"{deployment.store.database}.{collection}"]
    query = RunQuery(
        statuses=status, kinds=kind, migration=migration, collections=named, since=since, until=until
    )
    given: dict[str, Sequence[str]] = {
        "status": [str(each) for each in status or ()],
        "kind": list(kind or ()),
        **{name: [value] if value else [] for name, value in (("migration", migration), ("collection", collection), ("from", from_), ("to", to))},
    }  # fmt: skip
    return RunFilters(query, {name: values for name, values in given.items() if values})


Filters = Annotated[RunFilters, Depends(_filters)]
