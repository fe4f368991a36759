"""Starts runs: over what is requested, over one phase, or over all."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Response
from pydantic import Field

from whimbrel.api.authorization import Caller, Operator
from whimbrel.api.deployment import System, ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.json_bodies import ParsedRoute
from whimbrel.api.middleware.audit import DRY
from whimbrel.api.models.budgets import Budgeted
from whimbrel.api.models.dry_run import Plan
from whimbrel.api.models.envelope import Answer, WholeNumber, WholeNumberText, failures
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.run_parts import Warned, warned_models
from whimbrel.api.models.seen import HOST, NS, Seen, seen_of
from whimbrel.api.models.terms import HOLD, STAGES, Approve, Follow, HoldSeconds, Nice, StagesAsked, Windows
from whimbrel.domain.failures.causes import GROUPS
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.migrations.filters import read_filter
from whimbrel.domain.runs.preflight_findings import refuse_all
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.stages import stages_asked
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating.already_done import done_by
from whimbrel.engine.operating.expectations import check_seen
from whimbrel.engine.operating.failure_budget import note_seen, with_budget
from whimbrel.engine.operating.following_runs import note_for_others
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.start import (
    COUNTING,
    add_run,
    asked_through,
    draft_run,
    has_documents,
    preview,
)
from whimbrel.engine.rehearsing.dry_run import dry_run
from whimbrel.engine.rehearsing.dry_run_view import dry_run_object
from whimbrel.engine.rehearsing.trial_call import try_function
from whimbrel.errors import CollectionBusy
from whimbrel.ports import Ledger
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.workers.function_caller import callers
from whimbrel.workers.worker_pool import cores

REHEARSING = 20.0  # seconds that a dry run may take, as a client waits for the answer

router = APIRouter(prefix="/migrate", tags=["migration"], route_class=ParsedRoute)

Size = Annotated[int, Field(strict=True, ge=1, le=100_000), WholeNumber]
Rate = Annotated[int, Field(strict=True, ge=1, le=10_000_000), WholeNumber]

Strict = Annotated[
    bool, Field(strict=True, description="warnings of preflight count as errors: 409, and nothing is started")
]


class Phased(Budgeted):
    """What to start over one phase, or all."""

    migration: str = Field(default=SOME_MODEL.name, max_length=200, description="name of the migration")
    batch_size: Size | None = Field(
        default=None,
        description="documents in a batch; null: the migration's, else the setting's",
        examples=[5000],
    )
    dry_run: Annotated[
        bool,
        Field(
            strict=True,
            description="only show what a run would do, on a sample of documents: nothing is written",
        ),
    ] = False
    undo: Annotated[
        bool,
        Field(
            strict=True,
            description="keep in each document what is overwritten, so that the run can be rolled back",
        ),
    ] = False
    strict: Strict = False
    force: Annotated[
        bool,
        Field(
            strict=True,
            description="start also where no answer of the function can be used; else it is called for a few documents first, and that is 422",
        ),
    ] = False
    seen_causes: list[Annotated[str, Field(max_length=40)]] = Field(
        default=[],
        max_length=GROUPS,
        description="causes of failures that are not new to the run, such as `plan.failures[].group` of a dry run",
        examples=[["2d39b3ed"]],
    )
    windows: Windows = Field(default_factory=list)
    nice: Nice = 0
    seen: Seen | None = Field(default=None, description="what the caller has seen; null: start in any case")


class Whole(Phased):
    """What to start over all that is pending, or over all phases."""

    follow: Follow = False
    stages: StagesAsked | None = STAGES
    hold_seconds: HoldSeconds | None = HOLD
    approve: Approve = False


class Start(Whole):
    """What to start."""

    filters: dict[str, Any] | None = Field(
        default=None,
        description='an Extended-JSON query; where the migration marks by status, `{"status": "pending"}` unless said otherwise',
        examples=[{"status": "pending"}],
    )
    priority: Annotated[
        int, Field(strict=True, ge=0, le=10, description="above 5 it goes before others"), WholeNumber
    ] = 0
    max_docs_per_second: Rate | None = Field(
        default=None,
        description="documents a second that all workers together may evaluate; null: as fast as they can",
        examples=[2000],
    )
    exclusive: Annotated[bool, Field(strict=True, description="409 instead of waiting for another run")] = (
        False
    )


PhasedBody = Annotated[Phased, Body(default_factory=Phased)]
WholeBody = Annotated[Whole, Body(default_factory=Whole)]


class Started(Answer):
    """A run was started; or, by `dryRun` or because nothing matches, what it would be."""

    migration_id: str | None = Field(description="id of the run; null where none was started", examples=[RUN])
    message: str = Field(description="what happened", examples=["Started."])
    total_documents: int | None = Field(description="exact if it took up to half a second", examples=[1000])
    estimated_documents: int = Field(description="about how many", examples=[1000])
    estimated_batches: int = Field(description="in about how many batches it takes them", examples=[1])
    dry_run: bool = Field(description="whether it was one", examples=[False])
    plan: Plan | None = Field(default=None, description="of a dry run: what a run would do")
    warnings: list[Warned] = Field(
        description="what preflight found; also kept in the run. Empty where nothing matches", examples=[[]]
    )
    collection: str = Field(description="database and collection", examples=[NS])
    host: str = Field(description="hosts of MongoDB, or `embedded`: as `seen` wants it", examples=[HOST])


STARTED: dict[int | str, dict[str, Any]] = {
    200: {"model": Started, "description": "nothing was started: a dry run, or nothing matches"},
    **failures(400, 404, 409, 413, 415, 422),
}


def start_or_try(
    system: System,
    caller: Caller,
    response: Response,
    definition: Definition,
    body: Phased,
    *,
    route: str,
    exclusive: bool = False,
    **options: Any,
) -> Started:
    """Starts a run, or shows what it would do. Raises what is refused."""
    store = system.deployment.store
    definition = with_undo(definition) if body.undo else definition
    options = {"batch_size": body.batch_size, "terms": Terms(body.windows, body.nice), **options}
    if isinstance(body, Whole):
        options["stages"] = stages_asked(body.stages, hold=body.hold_seconds, approve=body.approve)
        options["follow"] = body.follow
    run = asked_through(draft_run(store, definition, defaults=system.settings.defaults, **options), route)
    run = with_budget(run, body.budget)
    expected = preview(store, run, seconds=COUNTING)
    answer = Started(
        migration_id=None, message="Nothing was written.", total_documents=expected.total,
        estimated_documents=expected.estimated, estimated_batches=expected.batches, dry_run=body.dry_run, warnings=[],
        collection=run.ns, host=system.deployment.host,
    )  # fmt: skip
    response.status_code = 200
    if body.dry_run:
        response.headers[DRY] = "true"
        plan = _plan(system, definition, run, strict=body.strict)
        return answer.model_copy(update={"plan": plan, "warnings": plan.warnings})
    check_dependencies(store, definition)
    check_seen(
        seen_of(body.seen), documents=expected.estimated, exact=expected.total is not None, collection=run.ns, host=answer.host
    )  # fmt: skip
    if not expected.total and run.follow is None and not has_documents(store, run):
        before = done_by(store.ledger, run)
        why = f"Already done by {before.id}, 0 left" if before else "Nothing matches"
        return answer.model_copy(update={"message": f"{why}: no run was started."})
    run = with_warnings(store, definition, run, documents=expected.estimated, strict=body.strict)
    answer.warnings = warned_models(run.warnings)
    ahead = store.ledger.runs.ahead(run.ns)
    if exclusive and ahead is not None:
        raise CollectionBusy(
            f"Run {ahead} works on {run.ns}, or waits for it. Wait for its end, or start without `exclusive`."
        )
    if not body.force:
        run = try_function(
            store, definition, run, callers(system.pool.source, system.pool.left_out), strict=body.strict
        )
        answer.warnings = warned_models(run.warnings)
    started = add_run(store, definition, run, caller.who, holding=exclusive)
    note_seen(store.ledger, started.id, body.seen_causes, who=caller.who)
    response.status_code = 202
    message = start_message(ahead, run.ns) + note_for_waiting(store.ledger, ahead)
    return answer.model_copy(update={"migration_id": started.id, "message": message})


def _plan(system: System, definition: Definition, run: Run, *, strict: bool) -> Plan:
    pool = system.pool
    result = dry_run(
        system.deployment.store,
        definition,
        run,
        callers(pool.source, pool.left_out),
        workers=pool.workers or cores(),
        seconds=REHEARSING,
    )
    if strict:
        refuse_all(result.warnings)
    return Plan.model_validate(dry_run_object(result))


def start_message(ahead: str | None, ns: str) -> str:
    """Returns the message for a started run: whether it waits for another one on its collection."""
    return f"Waits for run {ahead}, which comes before it on {ns}." if ahead else "Started."


def note_for_waiting(ledger: Ledger, ahead: str | None) -> str:
    """Returns what must be known of the run that is waited for, if that does not end by itself."""
    run = ledger.runs.get(ahead) if ahead else None
    return note_for_others(run) if run else ""


def waiting_message(ledger: Ledger, run: Run) -> str:
    """Returns the same message for a run that is in the ledger already."""
    holder = ledger.runs.holder(run.ns)
    ahead = None if holder == run.id else holder
    return start_message(ahead, run.ns) + note_for_waiting(ledger, ahead)


def _phase_filter(definition: Definition, phase: str) -> dict[str, Any]:
    """Returns the filter for one phase. Raises ApiError where the migration has no statuses."""
    if definition.mark != "status":
        raise ApiError(
            409,
            "no_phases",
            f"Migration {definition.name!r} marks by {definition.mark}, not by a status: start it with POST /migrate.",
        )
    return {definition.status_field: phase}


@router.post("", status_code=202, responses=STARTED)
def start(
    system: ThisSystem,
    caller: Operator,
    response: Response,
    body: Annotated[Start, Body(default_factory=Start)],
) -> Started:
    """Start a run. It is accepted also where another one works on the collection, and waits for that."""
    return start_requested(system, caller, response, body)


def start_requested(system: System, caller: Caller, response: Response, body: Start) -> Started:
    """Starts what was requested, or shows what it would do. Raises what is refused."""
    definition = system.evaluated(body.migration)
    filters = body.filters
    if filters is None and definition.mark == "status":
        filters = {definition.status_field: "pending"}
    return start_or_try(
        system, caller, response, definition, body, route="POST /migrate", exclusive=body.exclusive,
        filter_=read_filter(filters or {}), priority=body.priority, rate=body.max_docs_per_second,
    )  # fmt: skip


@router.post("/retry-failed", status_code=202, responses=STARTED)
def retry_failed(system: ThisSystem, caller: Operator, response: Response, body: PhasedBody) -> Started:
    """A run over the documents that are `failed`."""
    definition = system.evaluated(body.migration)
    filters = _phase_filter(definition, "failed")
    return start_or_try(
        system, caller, response, definition, body, route="POST /migrate/retry-failed", filter_=filters
    )


@router.post("/complete-processing", status_code=202, responses=STARTED)
def complete_processing(
    system: ThisSystem, caller: Operator, response: Response, body: PhasedBody
) -> Started:
    """A run over the documents that were left in `processing`; never those that a live worker holds."""
    definition = system.evaluated(body.migration)
    filters = _phase_filter(definition, "processing")
    return start_or_try(
        system, caller, response, definition, body, route="POST /migrate/complete-processing", filter_=filters
    )


@router.post("/process-all", status_code=202, responses=STARTED)
def process_all(system: ThisSystem, caller: Operator, response: Response, body: WholeBody) -> Started:
    """A run over all phases, in order: pending, processing, failed, and the sweep."""
    definition = system.evaluated(body.migration)
    return start_or_try(system, caller, response, definition, body, route="POST /migrate/process-all")


@router.post("/batch/{batch}", status_code=202, responses=STARTED)
def one_batch(
    system: ThisSystem,
    caller: Operator,
    response: Response,
    batch_size: Annotated[
        int,
        Path(alias="batch", ge=1, le=100_000, description="how many documents", examples=[100]),
        WholeNumberText,
    ],
    body: PhasedBody,
) -> Started:
    """One batch of the next eligible documents."""
    definition = system.evaluated(body.migration)
    pending = _phase_filter(definition, "pending") if definition.mark == "status" else None
    return start_or_try(
        system, caller, response, definition, body, route="POST /migrate/batch/{batchSize}", batch_size=batch_size,
        limit=batch_size, filter_=pending,
    )  # fmt: skip
