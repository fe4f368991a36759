"""Settles what belongs to nobody: batches of runs that are not in the ledger, and documents that no batch works on."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import read_stamp
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run, eligible
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.engine.coordinating.cancelled_runs import FULL_BATCHES, PAGE
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.start import COUNTING, Defaults, add_run, asked_through, draft_run, estimate
from whimbrel.errors import CollectionUnsuitable
from whimbrel.ports import Documents, Query, Store

SECONDS = 20.0  # after which settling reports how far it came


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run that is missing in the ledger although its batches are there."""

    run: str
    cancelled: int
    held: int  # under a lease that has not ended
    counts: Counts
    inferred: bool  # whether some of the counts could not be told from documents


@dataclass(frozen=True, slots=True)
class Recovery:
    """Documents that were left in `processing` by no batch of the ledger."""

    documents: int | None  # None: counting them takes too long
    run: Run | None  # the run that processes them
    fresh: bool  # whether the run was started for this


@dataclass(slots=True)
class Settled:
    """The result of settling. `complete`: False where time ran out; the next call continues."""

    orphans: list[Orphan] = field(default_factory=list)
    complete: bool = True


def settle_orphans(
    store: Store, definitions: Iterable[Definition], *, who: str, defaults: Defaults, seconds: float = SECONDS
) -> Settled:
    """Cancels the batches of runs that are not in the ledger; what they did is counted by their tokens."""
    names, end = store.ledger.batches.orphaned(), time.monotonic() + seconds
    places = _places(store, definitions, defaults) if names else []
    result = Settled()
    for name in names:
        orphan = _settle_run(store, name, places, end)
        if orphan.cancelled:
            action = f"{orphan.cancelled} batches of no run cancelled"
            store.ledger.leases.audit(action, run=name, who=who)
        result.orphans.append(orphan)
        if time.monotonic() > end:
            result.complete = False
            break
    return result


def _settle_run(store: Store, name: str, places: Sequence[tuple[Documents, str]], end: float) -> Orphan:
    """Settles batches that nobody has claimed together, the others one by one, until the time is over."""
    batches = store.ledger.batches
    counts, cancelled, inferred = Counts(), 0, False
    while time.monotonic() < end:
        untouched = batches.withdraw(name, PAGE)
        queued = batches.list(name, statuses=[BatchStatus.QUEUED], limit=FULL_BATCHES)
        for batch in (batch for batch in queued if batch.claims):
            if time.monotonic() > end:
                break
            evidence = _evidence(places, batch)
            batches.cancel(batch, evidence, inferred=not evidence.total)
            counts, cancelled, inferred = counts + evidence, cancelled + 1, inferred or not evidence.total
        cancelled += untouched
        if untouched < PAGE and len(queued) < FULL_BATCHES:
            break
    return Orphan(name, cancelled, batches.count(name, [BatchStatus.RUNNING]), counts, inferred)


def _places(
    store: Store, definitions: Iterable[Definition], defaults: Defaults
) -> list[tuple[Documents, str]]:
    """Returns where the tokens of batches may stand."""
    places = []
    for definition in definitions:
        if definition.marking.path is not None:
            try:
                run = draft_run(store, definition, defaults=defaults)
            except CollectionUnsuitable:
                continue
            places.append((store.session().documents(run), definition.marking.path))
    return places


def _evidence(places: Sequence[tuple[Documents, str]], batch: Batch) -> Counts:
    where = batch.range if batch.ids is None else batch.ids
    counts = Counts()
    for documents, path in [] if batch.empty else places:
        counts += documents.evidence(where, path, batch.token)
    return counts


def recover(
    store: Store, definition: Definition, *, who: str, defaults: Defaults, route: str = ""
) -> Recovery | None:
    """Starts a run over what no batch of the ledger has in `processing`. Returns None where the migration has no statuses.

    The run processes all of that phase except what live batches hold. `route`: where the request came in. Raises what `draft_run` raises.
    """
    if definition.mark != "status":
        return None
    run = draft_run(
        store, definition, defaults=defaults, filter_={definition.status_field: "processing"}, adopt="all"
    )
    run = asked_through(run, route)
    documents = store.session().documents(run)
    processing, path = eligible(run, "processing"), run.marking.path or ""
    slices = documents.survey(run.batch_size).slices(processing)
    tokens = {
        token
        for where in slices
        for _, token in documents.holders(where, processing, definition.status_field, path)
        if token is not None
    }
    known, _ = store.ledger.batches.live([read_stamp(token)[0] for token in tokens])
    known_tokens = [token for token in tokens if read_stamp(token)[0] in known]
    query: Query = {"$and": [processing, {path: {"$nin": known_tokens}}]}
    survey = documents.survey(run.batch_size)
    if survey.exists(query, COUNTING) is False:
        return Recovery(0, None, fresh=False)
    count = survey.count(query, COUNTING)
    for other in store.ledger.runs.every(set(RunStatus) - ENDED, ns=run.ns):
        if (other.migration, other.asked, other.adopt) == (definition.name, "processing", "all"):
            return Recovery(count, other, fresh=False)
    run = with_warnings(store, definition, run, documents=estimate(store, run))
    return Recovery(count, add_run(store, definition, run, who), fresh=True)
