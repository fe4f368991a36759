"""Starts a run: everything that can be refused is refused here, before anything is written."""

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.uuids import stored, writing
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.filters import check_filter, split_status
from whimbrel.domain.runs.failure_budget import FailureBudget
from whimbrel.domain.runs.following import Following
from whimbrel.domain.runs.preflight_findings import refuse
from whimbrel.domain.runs.requests import requested, with_route
from whimbrel.domain.runs.run import Phase, Run, Scope, code_fields, eligible, first_phases, legs_of
from whimbrel.domain.runs.sizing import FIRST_BATCH, Sizing, largest_batch
from whimbrel.domain.runs.stages import Stages
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.terms import ANY_TIME, Terms
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import check_dependencies
from whimbrel.engine.operating.stages import in_stages
from whimbrel.errors import FilterRefused, Refused, TooSlow
from whimbrel.ports import Store

COUNTING = 0.5  # seconds that an exact count may take, where a person waits for it
LOOKING = 0.5  # seconds that looking for one document may take

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What a run uses where neither its migration nor its caller says otherwise.

    `largest_batch`: up to which batches may get larger than `batch_size`, and smaller, by what they take; 0: all have `batch_size`.
    `budget`: how many failures have a run pause.
    """

    batch_size: int = 5000
    largest_batch: int = 0
    max_attempts: int = 4
    retry_delay: float = 5.0
    budget: FailureBudget = field(default_factory=FailureBudget)

    def batch_size_of(self, *, declarative: bool, documents: int) -> int:
        """Returns the size of a run's first batches, in a collection of so many documents.

        What a batch costs besides its documents is a tenth of the work of a declared update of 5,000. Of a function's documents nobody
        knows yet what they cost.
        """
        if not self.largest_batch:
            return self.batch_size
        if not declarative:
            return min(self.batch_size, FIRST_BATCH)
        return largest_batch(documents, small=self.batch_size, largest=self.largest_batch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a run would do: evaluate `total` documents if they could be counted in time, else about `estimated`."""

    total: int | None
    estimated: int
    batches: int


def compose_run(
    store: Store,
    definition: Definition,
    *,
    defaults: Defaults,
    filter_: dict[str, Any] | None = None,
    batch_size: int | None = None,
    limit: int | None = None,
    priority: int = 0,
    rate: int | None = None,
    adopt: str | None = None,
) -> Run:
    """Composes a run of a migration that is not in the ledger, and is not checked. Raises FilterRefused.

    `filter_` narrows the migration's own.
    """
    query, asked = _query(definition, filter_)
    request = requested(None if filter_ is None else stored(filter_, writing(store.uuids)), limit=limit)
    query = stored(query, writing(store.uuids))
    scope = Scope("all") if limit is None else Scope("first", limit)
    database = definition.database or store.database
    identity = store.identity(database, definition.collection)
    size, sizing = batch_size or definition.batch_size, Sizing()
    if size is None:
        sizing = Sizing(measured=bool(defaults.largest_batch))
        count = 0 if identity.view else store.estimate(database, definition.collection)
        size = defaults.batch_size_of(declarative=definition.declarative, documents=count)
    return Run(
        id=new_id(), migration=definition.name, version=definition.version, database=database, collection=definition.collection,
        filter=encoded(query), mark=definition.mark, status_field=definition.status_field, collection_uuid=identity.uuid, collated=identity.collated, declarative=definition.declarative, claim=definition.claim,
        adopt="all" if adopt == "all" else definition.adopt,
        scope=scope, asked=asked, request=request, legs=legs_of(mark=definition.mark, scope=scope, first=asked), status=RunStatus.QUEUED,
        priority=priority, rate=rate, batch_size=size, sizing=sizing, document_bytes=0 if identity.view else store.document_bytes(database, definition.collection),
        max_attempts=definition.max_attempts or defaults.max_attempts, retry_delay=defaults.retry_delay,
        undo=definition.undo, uuids=store.uuids, **code_fields(definition, store.uuids), created_at=datetime.now(UTC), updated_at=datetime.now(UTC),
        budget=_default_budget(defaults, asked),
    )  # fmt: skip


def _default_budget(defaults: Defaults, asked: Phase | None) -> FailureBudget:
    """Returns the budget of a run where nothing else is said. Of documents that are failed already, any number may fail again."""
    return replace(defaults.budget, rate=None) if asked == "failed" else defaults.budget


def draft_run(
    store: Store,
    definition: Definition,
    *,
    defaults: Defaults,
    terms: Terms = ANY_TIME,
    follow: bool = False,
    stages: Stages | None = None,
    **options: Any,
) -> Run:
    """Composes and checks a run of a migration that is not in the ledger: nothing is written.

    `follow`: it goes on with what changes after its sweep, until a person ends that. `options` are those of `compose_run`. Raises what
    it raises, SettingsInvalid for windows that cannot be, and CollectionUnsuitable, FilterRefused or DefinitionInvalid where the run
    could not keep its promises; StagesRefused where it cannot go in stages.
    """
    run = terms.of(in_stages(compose_run(store, definition, defaults=defaults, **options), stages))
    if follow:
        legs = legs_of(mark=run.mark, scope=run.scope, first=run.asked, follow=True, stages=stages)
        run = replace(run, follow=Following(), legs=legs)
    refuse(store.errors(run, definition))
    return run


def asked_through(run: Run, route: str) -> Run:
    """Returns a run that was requested through this route, such as `POST /migrate` or `whimbrel run`."""
    return replace(run, request=with_route(run.request, route))


def start_run(
    store: Store, definition: Definition, *, who: str, defaults: Defaults, route: str = "", **options: Any
) -> Run:
    """Adds a run of a migration, `queued`, with its warnings. A coordinator starts it as soon as its collection is free.

    `route`: where the request came in. `options` and errors are those of `draft_run`. Raises DependencyIncomplete too.
    """
    run = asked_through(draft_run(store, definition, defaults=defaults, **options), route)
    check_dependencies(store, definition)
    return add_run(
        store, definition, with_warnings(store, definition, run, documents=estimate(store, run)), who
    )


def add_run(store: Store, definition: Definition, run: Run, who: str, *, holding: bool = False) -> Run:
    """Adds a run that may begin, and stores which files its code consists of."""
    store.prepare()  # the code's row may be the first of a ledger
    store.ledger.codes.keep(definition.code_hash, definition.code)
    return store.ledger.runs.add(run, who, holding=holding)


def preview(store: Store, run: Run, *, seconds: float = 0.0) -> Preview:
    """Returns how many documents a run would evaluate, and in how many batches. Nothing is written.

    `seconds`: how long counting them may take. Raises FilterRefused where MongoDB fails on a document.
    """
    survey, estimated, exact = store.survey(run), 0, True
    try:
        for phase in first_phases(run):
            query = eligible(run, phase)
            about, about_exact = survey.about(query)
            counted = survey.count(query, seconds) if seconds and not about_exact else None
            exact = exact and (about_exact or counted is not None)
            estimated += about if counted is None else counted
    except Refused as error:
        raise FilterRefused(f"The filter cannot be evaluated on every document: {error}") from error
    except TooSlow:
        exact, estimated = False, survey.size()
    estimated = capped(run, estimated)
    return Preview(
        total=estimated if exact else None, estimated=estimated, batches=ceil(estimated / run.batch_size)
    )


def has_documents(store: Store, run: Run) -> bool:
    """Whether a run would find any document. True where that takes too long to find out: the run will."""
    survey = store.survey(run)
    try:
        return any(survey.exists(eligible(run, phase), LOOKING) is not False for phase in first_phases(run))
    except TooSlow:
        return True


def estimate(store: Store, run: Run) -> int:
    """Estimates how many documents a run will evaluate, by a few short statements."""
    return preview(store, run).estimated


def capped(run: Run, count: int) -> int:
    """Returns a count of documents, limited to the run's scope."""
    return min(count, run.scope.limit) if run.scope.limit else count


def _query(definition: Definition, narrower: dict[str, Any] | None) -> tuple[dict[str, Any], Phase | None]:
    check_filter(narrower or {})
    asked: str | None = None
    parts = []
    for part in (definition.filter, narrower or {}):
        remaining = dict(part)
        if definition.mark == "status":
            remaining, phase = split_status(part, definition.status_field)
            asked = phase or asked
        if remaining:
            parts.append(remaining)
    query = {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}
    return query, asked  # type: ignore[return-value]  # split_status returns a phase


def new_id() -> str:
    """Returns a new run id: the day and six random characters, short enough to stand in every document's mark."""
    return f"{datetime.now(UTC):%Y%m%d}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"
