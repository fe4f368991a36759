"""What belongs to nobody: batches of runs that are not in the ledger, and documents that no batch has in hand."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from whimbrel.domain.migrations.marks import read_stamp
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run, eligible
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.engine.coordinating.cancelled_runs import FULL_BATCHES, PAGE
from whimbrel.engine.operating.preflight import warned
from whimbrel.engine.operating.start import COUNTING, Defaults, add_run, asked_through, draft_run, estimate
from whimbrel.errors import CollectionUnsuitable
from whimbrel.ports import Documents, Query, Store

SECONDS = 20.0  # after which settling says how far it came


@dataclass(frozen=True, slots=True)
class Orphan:
    """A run that is not in the ledger, but whose batches are."""

    run: str
    cancelled: int
    held: int  # under a lease that has not ended
    counts: Counts
    inferred: bool  # whether some of the counts could not be told from documents


@dataclass(frozen=True, slots=True)
class Recovery:
    """Documents left in `processing` by no batch that the ledger knows."""

    documents: int | None  # None: counting them takes too long
    run: Run | None  # that takes them up
    fresh: bool  # whether it was started for this


@dataclass(slots=True)
class Settled:
    """What came of settling. `complete`: False where time ran out; asked again, it goes on."""

    orphans: list[Orphan] = field(default_factory=list)
    complete: bool = True


def settle_orphans(
    store: Store, definitions: Iterable[Definition], *, who: str, defaults: Defaults, seconds: float = SECONDS
) -> Settled:
    """Cancel the batches of runs that are not in the ledger; what they did is counted by their tokens."""
    names, end = store.ledger.batches.orphaned(), time.monotonic() + seconds
    places = _places(store, definitions, defaults) if names else []
    found = Settled()
    for name in names:
        orphan = _settle(store, name, places, end)
        if orphan.cancelled:
            what = f"{orphan.cancelled} batches of no run cancelled"
            store.ledger.leases.audit(what, run=name, who=who)
        found.orphans.append(orphan)
        if time.monotonic() > end:
            found.complete = False
            break
    return found


def _settle(store: Store, name: str, places: Sequence[tuple[Documents, str]], end: float) -> Orphan:
    """Those that nobody has claimed together, the others one by one, until the time is over."""
    batches = store.ledger.batches
    counts, cancelled, inferred = Counts(), 0, False
    while time.monotonic() < end:
        untouched = batches.withdraw(name, PAGE)
        queued = batches.list(name, statuses=[BatchStatus.QUEUED], limit=FULL_BATCHES)
        for batch in (each for each in queued if each.claims):
            if time.monotonic() > end:
                break
            one = _evidence(places, batch)
            batches.cancel(batch, one, inferred=not one.total)
            counts, cancelled, inferred = counts + one, cancelled + 1, inferred or not one.total
        cancelled += untouched
        if untouched < PAGE and len(queued) < FULL_BATCHES:
            break
    return Orphan(name, cancelled, batches.count(name, [BatchStatus.RUNNING]), counts, inferred)


def _places(
    store: Store, definitions: Iterable[Definition], defaults: Defaults
) -> list[tuple[Documents, str]]:
    """Where the tokens of batches may stand."""
    found = []
    for it in definitions:
        if it.marking.path is not None:
            try:
                run = draft_run(store, it, defaults=defaults)
            except CollectionUnsuitable:
                continue
            found.append((store.session().documents(run), it.marking.path))
    return found


def _evidence(places: Sequence[tuple[Documents, str]], batch: Batch) -> Counts:
    where = batch.range if batch.ids is None else batch.ids
    counts = Counts()
    for documents, path in [] if batch.empty else places:
        counts += documents.evidence(where, path, batch.token)
    return counts


def recover(
    store: Store, definition: Definition, *, who: str, defaults: Defaults, route: str = ""
) -> Recovery | None:
    """A run over what is in `processing` by no batch of the ledger. None where the migration has no statuses.

    It takes up all of that phase but what live batches hold. `route`: the door through which it was asked for. Raises what `draft_run` raises.
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
    theirs = [token for token in tokens if read_stamp(token)[0] in known]
    query: Query = {"$and": [processing, {path: {"$nin": theirs}}]}
    survey = documents.survey(run.batch_size)
    if survey.exists(query, COUNTING) is False:
        return Recovery(0, None, fresh=False)
    count = survey.count(query, COUNTING)
    for other in store.ledger.runs.every(set(RunStatus) - ENDED, ns=run.ns):
        if (other.migration, other.asked, other.adopt) == (definition.name, "processing", "all"):
            return Recovery(count, other, fresh=False)
    run = warned(store, definition, run, documents=estimate(store, run))
    return Recovery(count, add_run(store, definition, run, who), fresh=True)
