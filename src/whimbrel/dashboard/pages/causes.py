"""Why documents of a run failed: by cause, and one cause with an example, its stack, and its documents."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.shown_values import Shown, shown
from whimbrel.domain.bson.document_ids import canonical, id_json
from whimbrel.domain.failures.failure import FailurePlace, FailureState
from whimbrel.engine.operating import control
from whimbrel.engine.operating.failed_document import SHOWN, shown_document
from whimbrel.engine.operating.failure_export import accepted_object
from whimbrel.engine.operating.run_actions import possible_actions

router = APIRouter(prefix="/dashboard/runs/{migrationId}/causes", include_in_schema=False)

PAGE = 25  # causes of a page
ROWS = 50  # documents of a page

RunId = Annotated[str, Path(alias="migrationId", max_length=200)]
State = Annotated[Literal["open", "dead", "resolved"] | None, Query()]
Cursor = Annotated[str | None, Query(max_length=3000)]


def _whole(fields: dict[str, Any]) -> Shown:
    """Returns the fields of a document, of which the largest were left out already."""
    return shown(fields, longest=4 * SHOWN)


@router.get("")
def causes(
    request: Request,
    deployment: Deployment,
    _: Reader,
    migration_id: RunId,
    state: State = None,
    cursor: Cursor = None,
) -> Response:
    """The causes of a run, those first that wait for a person."""
    ledger = deployment.store.ledger
    run = control.find_run(ledger, migration_id)
    only = None if state is None else FailureState(state)
    counts = ledger.failures.counts(run.id)
    page = ledger.failures.groups(run.id, state=only, after=cursor, limit=PAGE)
    known = ledger.known_causes.of(run.id)
    return render(
        request, "causes.html", run=run, groups=page.groups, rest=page, counts=counts, state=state, cursor=cursor,
        accepted={group.group: accepted_object(known.get(group.group)) for group in page.groups},
        actions=possible_actions(run, dead=counts["dead"]),
    )  # fmt: skip


@router.get("/{cause}")
def one_cause(
    request: Request,
    deployment: Deployment,
    caller: Reader,
    migration_id: RunId,
    cause: Annotated[str, Path(max_length=2000)],
    state: State = None,
    cursor: Cursor = None,
) -> Response:
    """One cause: what is common to its failures, an example with its values and stack, and the documents."""
    store = deployment.store
    ledger = store.ledger
    run = control.find_run(ledger, migration_id)
    name = control.group_of(ledger, run.id, cause)
    group = next(iter(ledger.failures.groups(run.id, group=name, limit=1).groups), None)
    example = next(iter(ledger.failures.list(run.id, group=name, limit=1)), None)
    only = None if state is None else FailureState(state)
    after = None if cursor is None else FailurePlace.of(cursor)
    rows = ledger.failures.list(run.id, state=only, group=name, after=after, limit=ROWS + 1)
    # Canonical: which type a number has may be why the document failed.
    document = (
        shown_document(store, run, example.key, canonical) if example and caller.may("operate") else None
    )
    return render(
        request, "cause.html", run=run, name=name, group=group, example=example, document=document, text=_whole, id_json=id_json,
        rows=rows[:ROWS], next_cursor=rows[ROWS - 1].place.cursor if len(rows) > ROWS else None, state=state, cursor=cursor,
        accepted=accepted_object(ledger.known_causes.of(run.id).get(name)), actions=possible_actions(run, dead=group.dead if group else 0),
    )  # fmt: skip
