"""Answers who did what: in the whole cluster, or to one run."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.list_filters import SEVERAL, From, Several, To, span_of
from whimbrel.api.routes.runs import Cursor, Limit, RunId, place_of
from whimbrel.domain.runs.audit import Action, AuditQuery
from whimbrel.engine.operating import control
from whimbrel.engine.operating.audit_view import entry_object
from whimbrel.ports import Ledger

router = APIRouter(tags=["audit"])

Actor = Annotated[
    str | None,
    Query(
        max_length=300,
        description="only what this one did: by name, whatever it came from, or as `who` has it",
        examples=["anna"],
    ),
]
Actions = Annotated[
    list[Action] | None,
    Query(description=f"only entries of this kind{SEVERAL}", examples=[["run"]]),
    Several,
]


class Audited(Model):
    """A thing that somebody did."""

    id: str = Field(description="of the entry", examples=["6565a1b2c3d4e5f607182930"])
    at: str = Field(description="when: RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    action: Action = Field(
        description="its kind; request: a call of this API that may change something, whatever came of it",
        examples=["run"],
    )
    what: str = Field(description="what was done", examples=["run pausing"])
    actor: str = Field(
        description="the name of who did it: of a token, a user, a schedule or a part of Whimbrel",
        examples=["anna"],
    )
    who: str = Field(description="the same with where it came from", examples=["api:anna@10.0.0.7"])
    why: str = Field(description="the reason, or what came of it; empty where none is known", examples=[""])
    migration_id: str | None = Field(description="the run that it is about; null: none", examples=[RUN])


class Audit(Answer):
    """A page of the audit."""

    count: int = Field(description="of this page", examples=[1])
    entries: list[Audited] = Field(description="newest first")
    next_cursor: str | None = Field(description="for the next page; null on the last", examples=[None])


@router.get("/audit", responses=failures(422))
def audit(
    deployment: Deployment,
    _: Reader,
    *,
    actor: Actor = None,
    run: Annotated[
        str | None, Query(max_length=200, description="only what was done to this run", examples=[RUN])
    ] = None,
    action: Actions = None,
    from_: From = None,
    to: To = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Audit:
    """Who did what in the whole cluster, newest first. What is about a run is kept as long as the run is."""
    since, until = span_of(from_, to)
    query = AuditQuery(actor=actor, run=run, actions=action, since=since, until=until)
    return _page(deployment.store.ledger, query, cursor, limit)


@router.get("/migrate/audit/{migrationId}", responses=failures(404, 422))
def audit_of_run(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    *,
    actor: Actor = None,
    action: Actions = None,
    from_: From = None,
    to: To = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Audit:
    """Who did what to one run, newest first."""
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    since, until = span_of(from_, to)
    query = AuditQuery(actor=actor, run=run.id, actions=action, since=since, until=until)
    return _page(ledger, query, cursor, limit)


def _page(ledger: Ledger, query: AuditQuery, cursor: str | None, limit: int) -> Audit:
    found = ledger.audit.list(query, after=place_of(cursor), limit=limit)
    return Audit(
        count=len(found), entries=[Audited(**entry_object(entry)) for entry in found],
        next_cursor=found[-1].place.cursor if len(found) == limit else None,
    )  # fmt: skip
