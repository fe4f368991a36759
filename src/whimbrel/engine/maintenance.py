"""What a person does to documents and to the ledger when something was left lying, from evidence alone.

Resetting goes page by page, and needs no lock. A page is read with the tokens of its documents; then
one looks whether a run holds the collection; then each document is changed only while it bears the token
that was read. A run that begins after that look writes tokens of its own, so nothing that it has done is
ever taken back, whatever this process does meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.domain.batches import Batch
from whimbrel.domain.filters import all_of
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Run, eligible, in_status
from whimbrel.domain.states import ENDED, BatchStatus, RunStatus
from whimbrel.engine.announce import Announcer
from whimbrel.engine.coordinate import WORKERS_SEEN
from whimbrel.engine.preflight import warned
from whimbrel.engine.start import COUNTING, Defaults, add_run, draft_run, estimate
from whimbrel.errors import CollectionBusy, CollectionUnsuitable, FilterRefused, StateForbids
from whimbrel.ports import Documents, Query, Store

PAGE = 1000  # documents
PATIENCE = 20.0  # seconds after which a reset says how far it came
PROBE = "probe"  # holds no role: it asks whether somebody does

Page = Sequence[tuple[Key, str | None]]


# documents back to pending


@dataclass(slots=True)
class Reset:
    """What came of a reset."""

    by_status: Counter[str] = field(default_factory=Counter)
    left: int = 0  # somebody may be working on them
    refused: int = 0  # MongoDB refused them, or they changed at the same moment
    resolved: int = 0  # failures that are over by it
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Resetting:
    """One status of one collection."""

    store: Store
    documents: Documents
    run: Run  # never in the ledger: what is to be done, and where
    status: str

    @property
    def path(self) -> str:
        return self.run.marking.path or ""

    @property
    def query(self) -> Query:
        return all_of(self.run.query, in_status(self.run, self.status))


def reset(
    store: Store,
    it: Definition,
    statuses: Iterable[str],
    *,
    who: str,
    defaults: Defaults,
    filter_: dict[str, Any] | None = None,
    patience: float = PATIENCE,
) -> Reset:
    """Set documents of these statuses back to `pending`, without their token, and resolve their failures.

    Raises StateForbids where the migration has no statuses, CollectionBusy while a run holds the
    collection, and what `draft_run` raises.
    """
    if it.mark != "status":
        raise StateForbids(
            f"Migration {it.name!r} marks by {it.mark}: its documents have no status to reset."
        )
    if filter_ and it.status_field in filter_:
        raise FilterRefused(f"Say with `from` which {it.status_field!r} shall be reset, not in the filter.")
    run = draft_run(store, it, defaults=defaults, filter_=filter_)
    _refuse_while_held(store, run)
    documents, end, found = store.session().documents(run), time.monotonic() + patience, Reset()
    try:
        for status in dict.fromkeys(statuses):
            _reset_all(_Resetting(store, documents, run, status), found, end)
    finally:
        if found.by_status:
            said = ", ".join(f"{status} {count}" for status, count in found.by_status.items())
            store.ledger.leases.audit("documents reset to pending", run="", who=who, why=f"{run.ns}: {said}")
    return found


def _refuse_while_held(store: Store, run: Run) -> None:
    holder = store.ledger.runs.holder(run.ns)
    if holder is not None:
        raise CollectionBusy(f"Run {holder} holds {run.ns}. Wait for its end, or cancel it, then reset.")


def _reset_all(it: _Resetting, found: Reset, end: float) -> None:
    for page in _bearing(it):
        if time.monotonic() > end:
            found.complete = False
            return
        taken = _takeable(it, page)
        found.left += len(page) - sum(map(len, taken.values()))
        _refuse_while_held(it.store, it.run)
        if taken:
            _reset_page(it, taken, found)


def _bearing(it: _Resetting) -> Iterator[Page]:
    """The documents of the status with their tokens, slice by slice of the collection."""
    for where in it.documents.survey(PAGE).slices(it.query):
        if page := it.documents.bearing(where, it.query, it.path, 2 * PAGE):
            yield page


def _takeable(it: _Resetting, page: Page) -> Mapping[str | None, Sequence[Key]]:
    """The documents by their tokens, without those that somebody may be working on (hole H23)."""
    known, live = it.store.ledger.batches.live(sorted({_batch(token) for _, token in page if token}))
    guarded = it.status == "processing" and it.run.adopt == "ours"
    found: dict[str | None, list[Key]] = {}
    for key, token in page:
        batch = _batch(token) if token else None
        if batch not in live and (batch in known or not guarded):
            found.setdefault(token, []).append(key)
    return found


def _batch(token: str) -> str:
    return token.partition("/")[0]


def _reset_page(it: _Resetting, taken: Mapping[str | None, Sequence[Key]], found: Reset) -> None:
    keys = [key for group in taken.values() for key in group]
    pending = {"$set": {it.run.status_field: "pending"}, "$unset": {it.path: ""}}
    if it.documents.reset(taken, it.query, it.path, pending) < len(keys):
        wanted = {it.run.status_field: "pending", it.path: {"$exists": False}}
        done = [Key.of_document(each) for each in it.documents.read_keys(keys, wanted)]
        found.refused += len(keys) - len(done)
        keys = done
    found.by_status[it.status] += len(keys)
    rows = it.store.ledger.failures.unresolved(it.run, keys) if keys else []
    it.store.ledger.failures.resolve(rows, "reset")
    found.resolved += len(rows)


# what hangs


@dataclass(frozen=True, slots=True)
class Stuck:
    """A run that does not move, and why."""

    run: Run
    reasons: tuple[str, ...]


def fix(store: Store, announcer: Announcer, *, who: str) -> tuple[Sequence[Batch], list[Stuck]]:
    """Queue again what lost leases hold, now; and say which runs do not move, and why. Audited."""
    taken = store.ledger.batches.take_over()
    announcer.released(taken)
    for run_id, count in Counter(batch.run for batch in taken).items():
        store.ledger.leases.audit(f"{count} lost batches queued again", run=run_id, who=who)
    found = []
    ledger = store.ledger
    for run_id in [each.id for each in ledger.runs.at_work()] + list(ledger.runs.in_line()):
        run = ledger.runs.get(run_id)
        if run is not None and (reasons := tuple(_reasons(store, run))):
            found.append(Stuck(run, reasons))
    for run_id, more in ledger.runs.waiting():
        run = ledger.runs.get(run_id)
        if run is not None and run.status is RunStatus.QUEUED:
            behind = f" Behind it wait {more:,} more." if more else ""
            holder = ledger.runs.holder(run.ns)
            found.append(Stuck(run, (f"It waits for run {holder}, which holds {run.ns}.{behind}",)))
    return taken, found


def _reasons(store: Store, run: Run) -> Iterable[str]:
    ledger = store.ledger
    if ledger.leases.lead(f"coordinator:{run.id}", PROBE, 0):
        yield "Nobody coordinated it; a process that can does so from now on."
    if run.status is RunStatus.QUEUED:
        return
    if run.status is RunStatus.RUNNING:
        if not ledger.leases.slots(WORKERS_SEEN, run=run):
            yield "No live worker has its migration's code: start some, or resume it with the code that they have."
    elif held := ledger.batches.count(run.id, [BatchStatus.RUNNING]):
        yield f"{held} of its batches are still held under a lease; it ends when they are given back."


# what belongs to nobody


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


def settle_orphans(
    store: Store, definitions: Iterable[Definition], *, who: str, defaults: Defaults
) -> list[Orphan]:
    """Cancel the batches of runs that are not in the ledger; what they did is counted by their tokens."""
    names = store.ledger.batches.orphaned()
    places = _places(store, definitions, defaults) if names else []
    found = []
    for name in names:
        counts, cancelled, held, inferred = Counts(), 0, 0, False
        after = -1
        while page := store.ledger.batches.list(
            name, after=after, statuses=[BatchStatus.QUEUED, BatchStatus.RUNNING]
        ):
            after = page[-1].seq
            held += sum(batch.status is BatchStatus.RUNNING for batch in page)
            for batch in (each for each in page if each.status is BatchStatus.QUEUED):
                one = _evidence(places, batch) if batch.claims else Counts()
                unknown = bool(batch.claims) and not one.total
                store.ledger.batches.cancel(batch, one, inferred=unknown)
                counts, cancelled, inferred = counts + one, cancelled + 1, inferred or unknown
        if cancelled:
            store.ledger.leases.audit(f"{cancelled} batches of no run cancelled", run=name, who=who)
        found.append(Orphan(name, cancelled, held, counts, inferred))
    return found


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


def recover(store: Store, it: Definition, *, who: str, defaults: Defaults) -> Recovery | None:
    """A run over what is in `processing` by no batch of the ledger. None where the migration has no statuses.

    It takes up all of that phase but what live batches hold. Raises what `draft_run` raises.
    """
    if it.mark != "status":
        return None
    run = draft_run(store, it, defaults=defaults, filter_={it.status_field: "processing"}, adopt="all")
    documents = store.session().documents(run)
    processing, path = eligible(run, "processing"), run.marking.path or ""
    slices = documents.survey(run.batch_size).slices(processing)
    tokens = {
        token
        for where in slices
        for _, token in documents.holders(where, processing, it.status_field, path)
        if token is not None
    }
    known, _ = store.ledger.batches.live([_batch(token) for token in tokens])
    theirs = [token for token in tokens if _batch(token) in known]
    query: Query = {"$and": [processing, {path: {"$nin": theirs}}]}
    survey = documents.survey(run.batch_size)
    if survey.exists(query, COUNTING) is False:
        return Recovery(0, None, fresh=False)
    count = survey.count(query, COUNTING)
    for other in store.ledger.runs.every(set(RunStatus) - ENDED, ns=run.ns):
        if (other.migration, other.asked, other.adopt) == (it.name, "processing", "all"):
            return Recovery(count, other, fresh=False)
    run = warned(store, it, run, documents=estimate(store, run))
    return Recovery(count, add_run(store, it, run, who), fresh=True)
