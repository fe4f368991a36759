"""Lists the failures of a run by cause or by document, exports them, accepts their causes, and tries them again."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.models.envelope import Answer, Model, WholeNumberText, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.failures import (
    GROUP,
    FailureLine,
    FailureOf,
    Group,
    Rest,
    failure_model,
    group_model,
    line_model,
)
from whimbrel.api.models.list_filters import SEVERAL, From, Several, To, span_of
from whimbrel.api.models.runs import Run, run_model
from whimbrel.api.routes.runs import Limit, RunId, code_of
from whimbrel.domain.failures.causes import GROUPS
from whimbrel.domain.failures.failure import (
    FailureKind,
    FailurePlace,
    FailureState,
)
from whimbrel.domain.failures.failure_query import CauseQuery
from whimbrel.domain.failures.known_causes import LONGEST_NOTE
from whimbrel.engine.operating import control
from whimbrel.engine.operating.accepted_causes import accept_causes, withdraw_causes
from whimbrel.engine.operating.failure_export import export_pages
from whimbrel.engine.operating.failure_pages import failure_page, group_page
from whimbrel.engine.operating.run_view import view

router = APIRouter(prefix="/migrate", tags=["failures"])

OnlyGroup = Annotated[
    str | None,
    Query(
        max_length=2000, description="only this group, by its short name or its signature", examples=[GROUP]
    ),
]
NDJSON = "application/x-ndjson"
States = Annotated[
    list[Literal["open", "dead", "resolved"]] | None,
    Query(
        description=f"only failures in this state, and groups that have such{SEVERAL}", examples=[["dead"]]
    ),
    Several,
]


class Failures(Answer):
    """What failed in a run, by cause or by document."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    open: int = Field(description="documents that are tried again by themselves", examples=[0])
    dead: int = Field(description="documents that wait for a person", examples=[2])
    groups: list[Group] | None = Field(
        default=None, description="by cause, most dead ones first; null with `documents=true`"
    )
    documents: list[FailureOf | FailureLine] | None = Field(
        default=None,
        description="dead ones first, then open ones, by cause and `_id`, with `slim` each in short; null without `documents=true`",
    )
    rest: Rest | None = Field(default=None, description="what other pages show; null with `documents=true`")
    next_cursor: str | None = Field(
        default=None,
        description="for the next page; null on the last. By `code` or time a page of documents may be short, or empty, though another comes: so many were looked at",
        examples=[None],
    )


class Retry(Model):
    """What to try again."""

    group: str | None = Field(
        default=None,
        max_length=2000,
        description="only this group, by its short name or its signature",
        examples=[GROUP],
    )


class Accept(Model):
    """Which causes to accept, or no longer."""

    groups: list[Annotated[str, Field(max_length=2000)]] = Field(
        min_length=1,
        max_length=GROUPS,
        description="the causes, by the short names or signatures of their groups",
        examples=[[GROUP]],
    )
    note: str = Field(
        default="",
        max_length=LONGEST_NOTE,
        description="why, for the audit",
        examples=["known, see the wiki"],
    )
    withdraw: Annotated[
        bool, Field(strict=True, description="true: accept them no longer; their failures count again")
    ] = False


class CausesAccepted(Answer):
    """The causes, and who has accepted them."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    groups: list[Group] = Field(description="the causes that were named, as they are now")


class FailuresRetried(Answer):
    """The run goes on with the failures that were opened again."""

    migration: Run = Field(description="the run, which goes on")
    reopened: int = Field(description="dead failures that are open again", examples=[2])


@dataclass(frozen=True, slots=True)
class Paging:
    """Which part of a list."""

    limit: int
    cursor: str | None


async def _paging(
    *,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, Query(max_length=3000, description="`nextCursor` of the page before", examples=[None])
    ] = None,
) -> Paging:
    return Paging(limit, cursor)


async def _query_of(
    *,
    kind: Annotated[
        list[FailureKind] | None,
        Query(description=f"only failures of this kind{SEVERAL}", examples=[["data"]]),
        Several,
    ] = None,
    code: Annotated[
        int | None,
        Query(
            ge=1,
            le=2**31 - 1,
            description="only failures with this number of MongoDB's error",
            examples=[121],
        ),
        WholeNumberText,
    ] = None,
    accepted: Annotated[
        bool | None,
        Query(
            description="only failures of causes that somebody has accepted, or that nobody has",
            examples=[False],
        ),
    ] = None,
    from_: From = None,
    to: To = None,
) -> CauseQuery:
    since, until = span_of(from_, to)
    kinds = None if kind is None else [str(each) for each in kind]
    return CauseQuery(kinds=kinds, code=code, accepted=accepted, since=since, until=until)


@router.get("/failures/{migrationId}", responses=failures(404, 422))
def failures_of(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    query: Annotated[CauseQuery, Depends(_query_of)],
    page: Annotated[Paging, Depends(_paging)],
    documents: Annotated[bool, Query(description="each document instead of each cause")] = False,
    slim: Annotated[bool, Query(description="each document in short, without its traceback")] = False,
    group: OnlyGroup = None,
    state: States = None,
) -> Failures:
    """The failures of a run: grouped by cause, or with `documents=true` by document.

    `from` and `to`: of causes, failures of which were met in that time, about; of documents, when they failed last, or were resolved.
    """
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    chosen = query if group is None else replace(query, group=control.group_of(ledger, run.id, group))
    only = None if state is None else [FailureState(each) for each in state]
    counts = ledger.failures.counts(run.id)
    answer = Failures(migration_id=run.id, open=counts["open"], dead=counts["dead"])
    if documents:
        after = None if page.cursor is None else FailurePlace.of(page.cursor)
        found = failure_page(ledger, run.id, chosen, states=only, after=after, limit=page.limit, slim=slim)
        answer.documents = [(line_model if slim else failure_model)(failure) for failure in found.failures]
        answer.next_cursor = None if found.after is None else found.after.cursor
        return answer
    known = ledger.known_causes.of(run.id)
    groups = group_page(ledger, run.id, chosen, known=known, states=only, after=page.cursor, limit=page.limit)
    answer.groups = [group_model(failure_group, known) for failure_group in groups.groups]
    answer.rest = Rest(groups=groups.rest, open=groups.open, dead=groups.dead, resolved=groups.resolved)
    answer.next_cursor = groups.after
    return answer


@router.post(
    "/failures/{migrationId}/retry", status_code=202, responses=failures(400, 404, 409, 413, 415, 422)
)
def retry(
    system: ThisSystem,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Retry, Body(default_factory=Retry)],
) -> FailuresRetried:
    """Open the dead failures of a run again, all or those of one group, and go on with it, by the code loaded now."""
    ledger = system.deployment.store.ledger
    old = control.find_run(ledger, migration_id)
    code = code_of(system, old)
    group = None if body.group is None else control.group_of(ledger, migration_id, body.group)
    run, opened = control.retry(ledger, migration_id, who=caller.who, group=group, code=code)
    return FailuresRetried(migration=run_model(view(ledger, run)), reopened=opened)


@router.post("/failures/{migrationId}/accept", responses=failures(400, 404, 409, 413, 415, 422))
def accept(
    deployment: Deployment,
    caller: Operator,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    body: Annotated[Accept, Body()],
) -> CausesAccepted:
    """Accept causes: their failures do not count for the failure budget any more, and a run that paused for them can be resumed. Audited."""
    ledger = deployment.store.ledger
    judge = withdraw_causes if body.withdraw else accept_causes
    groups = judge(ledger, migration_id, body.groups, who=caller.who, note=body.note)
    known = ledger.known_causes.of(migration_id)
    pages = [ledger.failures.groups(migration_id, group=group, limit=1) for group in groups]
    return CausesAccepted(
        migration_id=migration_id,
        groups=[group_model(cause, known) for page in pages for cause in page.groups],
    )


@router.get(
    "/failures/{migrationId}/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {NDJSON: {"schema": {"type": "string"}}},
            "description": "a JSON object a line: the fields of `documents` above, and `code`, `outcome`, `phase`, `migrationId`, `migration`, `collection`, `accepted`",
        },
        **failures(404, 422),
    },
)
def export(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    group: OnlyGroup = None,
    state: Annotated[
        Literal["open", "dead", "resolved"] | None,
        Query(description="only failures in this state", examples=["dead"]),
    ] = None,
) -> StreamingResponse:
    """All failures of a run as JSON lines, however many there are. An answer that breaks off is not complete: its last chunk is missing."""
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    chosen = None if group is None else control.group_of(ledger, run.id, group)
    only = None if state is None else FailureState(state)
    pages = export_pages(ledger, run, state=only, group=chosen)
    first = next(pages, "")  # what cannot be read is answered with an error, not with half an answer
    headers = {"Content-Disposition": f'attachment; filename="failures-{run.id}.jsonl"'}
    return StreamingResponse(chain((first,), pages), media_type=NDJSON, headers=headers)
