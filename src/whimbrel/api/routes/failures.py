"""Lists the failures of a run by cause or by document, exports them, accepts their causes, and tries them again."""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.api.models.runs import RUN, Run, run_model
from whimbrel.api.routes.runs import Limit, RunId, code_of
from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.failures.causes import GROUPS
from whimbrel.domain.failures.failure import Failure, FailureGroup, FailurePlace, FailureState
from whimbrel.domain.failures.known_causes import LONGEST_NOTE, KnownCause
from whimbrel.engine.operating import control
from whimbrel.engine.operating.accepted_causes import accept_causes, withdraw_causes
from whimbrel.engine.operating.failure_export import accepted_object, export_pages
from whimbrel.engine.operating.run_view import iso_time, view

router = APIRouter(prefix="/migrate", tags=["failures"])

TAIL = 2000  # characters of a traceback: its last frame and the error
GROUP = "2f1a9c3e"
OnlyGroup = Annotated[
    str | None,
    Query(
        max_length=2000, description="only this group, by its short name or its signature", examples=[GROUP]
    ),
]
NDJSON = "application/x-ndjson"


class Acceptance(Model):
    """That a person lets a run go on in spite of a cause: its failures do not count for the failure budget."""

    by: str = Field(description="who", examples=["ops"])
    at: str | None = Field(description="when: RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    note: str = Field(description="why", examples=["known, see the wiki"])


class TrendOf(Model):
    """How often attempts failed by a cause, over time: in at most 60 equal spans."""

    begins: str = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    seconds: float = Field(description="length of a span", examples=[4])
    numbers: list[int] = Field(
        description="attempts that failed in each span; a batch that was executed twice counts twice",
        examples=[[12, 40, 3]],
    )


class Group(Model):
    """Failures of one cause."""

    group: str = Field(description="short name of the group", examples=[GROUP])
    signature: str = Field(
        description="what they have in common: kind, type, place, and the message without what varies",
        examples=["code:KeyError:prices.py:7 in cents:<text>"],
    )
    kind: str = Field(description="data, code, hang, death or conflict", examples=["code"])
    type: str = Field(
        description="the error's type, or what MongoDB calls its refusal", examples=["KeyError"]
    )
    place: str = Field(
        description="file, line and function of the migration's code that raised it; empty where none did",
        examples=["prices.py:7 in cents"],
    )
    message: str = Field(description="of one of them", examples=["KeyError: 'price'"])
    open: int = Field(description="that are tried again by themselves", examples=[0])
    dead: int = Field(description="that wait for a person", examples=[2])
    resolved: int = Field(description="that are over", examples=[1])
    example: Any = Field(
        description="the `_id` of one of them, as relaxed Extended JSON",
        examples=[{"$oid": "65a1b2c3d4e5f60718293a4b"}],
    )
    accepted: Acceptance | None = Field(
        description="who lets the run go on in spite of this cause; null: nobody", examples=[None]
    )
    first_at: str | None = Field(
        description="when it was met first: RFC 3339; null: an earlier version did not keep it",
        examples=["2026-11-24T12:00:00.000Z"],
    )
    last_at: str | None = Field(
        description="when it was met last: RFC 3339", examples=["2026-11-24T12:03:00.000Z"]
    )
    trend: TrendOf | None = Field(
        description="how often it was met, over time; null: an earlier version did not keep it"
    )


class FailureOf(Model):
    """The failure of one document."""

    id: Any = Field(
        description="the document's `_id`, as relaxed Extended JSON",
        examples=[{"$oid": "65a1b2c3d4e5f60718293a4b"}],
    )
    group: str = Field(description="short name of its group", examples=[GROUP])
    kind: str = Field(description="data, code, hang, death or conflict", examples=["code"])
    type: str = Field(
        description="the error's type, or what MongoDB calls its refusal", examples=["KeyError"]
    )
    message: str = Field(description="what went wrong", examples=["KeyError: 'price'"])
    traceback: str = Field(
        description="its tail: the last frame and the error; empty where there is none",
        examples=['  File "prices.py", line 7, in cents\n    return doc["price"]\nKeyError: \'price\''],
    )
    attempt: int = Field(description="tries so far", examples=[4])
    state: str = Field(description="open, dead or resolved", examples=["dead"])
    resolution: str | None = Field(
        description="how it was resolved: changed, unchanged, skipped, gone or reset", examples=[None]
    )
    batch_id: str = Field(description="the batch that met it last", examples=[f"{RUN}.1"])
    due_at: str | None = Field(
        description="when it is tried again; null unless it is open", examples=["2026-11-24T12:00:05.000Z"]
    )
    first_at: str | None = Field(description="when it failed first", examples=["2026-11-24T12:00:00.000Z"])
    last_at: str | None = Field(
        description="when it failed last, or was resolved", examples=["2026-11-24T12:00:00.000Z"]
    )


class Rest(Model):
    """What comes after the last group of a page."""

    groups: int = Field(description="groups", examples=[0])
    open: int = Field(description="documents in them that are tried again by themselves", examples=[0])
    dead: int = Field(description="documents in them that wait for a person", examples=[0])
    resolved: int = Field(description="documents in them that are over", examples=[0])


class Failures(Answer):
    """What failed in a run, by cause or by document."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    open: int = Field(description="documents that are tried again by themselves", examples=[0])
    dead: int = Field(description="documents that wait for a person", examples=[2])
    groups: list[Group] | None = Field(
        default=None, description="by cause, most dead ones first; null with `documents=true`"
    )
    documents: list[FailureOf] | None = Field(
        default=None,
        description="dead ones first, then open ones, by cause and `_id`; null without `documents=true`",
    )
    rest: Rest | None = Field(default=None, description="what other pages show; null with `documents=true`")
    next_cursor: str | None = Field(
        default=None, description="for the next page; null on the last", examples=[None]
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


@router.get("/failures/{migrationId}", responses=failures(404, 422))
def failures_of(
    deployment: Deployment,
    _: Reader,
    migration_id: Annotated[RunId, Path(alias="migrationId")],
    documents: Annotated[bool, Query(description="each document instead of each cause")] = False,
    group: OnlyGroup = None,
    state: Annotated[
        Literal["open", "dead", "resolved"] | None,
        Query(description="only failures in this state, and groups that have such", examples=["dead"]),
    ] = None,
    limit: Limit = 100,
    cursor: Annotated[
        str | None, Query(max_length=3000, description="`nextCursor` of the page before", examples=[None])
    ] = None,
) -> Failures:
    """The failures of a run: grouped by cause, or with `documents=true` by document."""
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    chosen = None if group is None else control.group_of(ledger, run.id, group)
    only = None if state is None else FailureState(state)
    counts = ledger.failures.counts(run.id)
    answer = Failures(migration_id=run.id, open=counts["open"], dead=counts["dead"])
    if documents:
        after = None if cursor is None else FailurePlace.of(cursor)
        rows = ledger.failures.list(run.id, state=only, group=chosen, after=after, limit=limit)
        answer.documents = [failure_model(failure) for failure in rows]
        answer.next_cursor = rows[-1].place.cursor if len(rows) == limit else None
        return answer
    page = ledger.failures.groups(run.id, state=only, group=chosen, after=cursor, limit=limit)
    known = ledger.known_causes.of(run.id)
    answer.groups = [_group(failure_group, known) for failure_group in page.groups]
    answer.rest = Rest(groups=page.rest, open=page.open, dead=page.dead, resolved=page.resolved)
    answer.next_cursor = page.after
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
        migration_id=migration_id, groups=[_group(cause, known) for page in pages for cause in page.groups]
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


def _group(group: FailureGroup, known: Mapping[str, KnownCause]) -> Group:
    return Group(
        group=group.group, signature=group.signature, kind=group.kind, type=group.type, place=group.place, message=group.message,
        open=group.open, dead=group.dead, resolved=group.resolved, example=id_json(group.example),
        accepted=Acceptance.model_validate(found) if (found := accepted_object(known.get(group.group))) else None,
        first_at=iso_time(group.first_at), last_at=iso_time(group.last_at),
        trend=None if (trend := group.trend) is None else TrendOf(begins=iso_time(trend.begins) or "", seconds=trend.seconds, numbers=list(trend.numbers)),
    )  # fmt: skip


def failure_model(failure: Failure) -> FailureOf:
    tail = failure.traceback[max(failure.traceback.rfind("  File "), 0) :].rstrip()[-TAIL:]
    return FailureOf(
        id=id_json(failure.key), group=failure.group, kind=str(failure.kind), type=failure.type, message=failure.message, traceback=tail,
        attempt=failure.attempt, state=str(failure.state), resolution=failure.resolution, batch_id=failure.batch,
        due_at=iso_time(failure.due_at) if failure.state is FailureState.OPEN else None,
        first_at=iso_time(failure.first_at), last_at=iso_time(failure.last_at),
    )  # fmt: skip
