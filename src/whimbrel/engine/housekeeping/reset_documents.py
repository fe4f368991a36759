"""Setting documents back to `pending` when something was left lying, from evidence alone.

It goes page by page, and needs no lock. A page is read with the tokens of its documents; then
one looks whether a run holds the collection; then each document is changed only while it bears the token
that was read. A run that begins after that look writes tokens of its own, so nothing that it has done is
ever taken back, whatever this process does meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import read_stamp
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.run import Run, in_status
from whimbrel.engine.operating.start import Defaults, draft_run
from whimbrel.errors import CollectionBusy, FilterRefused, StateForbids
from whimbrel.ports import Documents, Query, Store

PAGE = 1000  # documents
SECONDS = 20.0  # after which a reset says how far it came

Page = Sequence[tuple[Key, str | None]]


@dataclass(slots=True)
class ResetDocuments:
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
    definition: Definition,
    statuses: Iterable[str],
    *,
    who: str,
    defaults: Defaults,
    filter_: dict[str, Any] | None = None,
    seconds: float = SECONDS,
) -> ResetDocuments:
    """Set documents of these statuses back to `pending`, without their token, and resolve their failures.

    Raises StateForbids where the migration has no statuses, CollectionBusy while a run holds the
    collection, and what `draft_run` raises.
    """
    if definition.mark != "status":
        raise StateForbids(
            f"Migration {definition.name!r} marks by {definition.mark}: its documents have no status to reset."
        )
    if filter_ and definition.status_field in filter_:
        raise FilterRefused(
            f"Say with `from` which {definition.status_field!r} shall be reset, not in the filter."
        )
    run = draft_run(store, definition, defaults=defaults, filter_=filter_)
    _refuse_while_held(store, run)
    documents, end, found = store.session().documents(run), time.monotonic() + seconds, ResetDocuments()
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


def _reset_all(resetting: _Resetting, found: ResetDocuments, end: float) -> None:
    for page in _bearing(resetting):
        if time.monotonic() > end:
            found.complete = False
            return
        taken = _takeable(resetting, page)
        found.left += len(page) - sum(map(len, taken.values()))
        _refuse_while_held(resetting.store, resetting.run)
        if taken:
            _reset_page(resetting, taken, found)


def _bearing(resetting: _Resetting) -> Iterator[Page]:
    """The documents of the status with their tokens, slice by slice of the collection."""
    for where in resetting.documents.survey(PAGE).slices(resetting.query):
        if page := resetting.documents.bearing(where, resetting.query, resetting.path, 2 * PAGE):
            yield page


def _takeable(resetting: _Resetting, page: Page) -> Mapping[str | None, Sequence[Key]]:
    """The documents by their tokens, without those that somebody may be working on (hole H23)."""
    known, live = resetting.store.ledger.batches.live(
        sorted({read_stamp(token)[0] for _, token in page if token})
    )
    guarded = resetting.status == "processing" and resetting.run.adopt == "ours"
    found: dict[str | None, list[Key]] = {}
    for key, token in page:
        batch = read_stamp(token)[0] if token else None
        if batch not in live and (batch in known or not guarded):
            found.setdefault(token, []).append(key)
    return found


def _reset_page(
    resetting: _Resetting, taken: Mapping[str | None, Sequence[Key]], found: ResetDocuments
) -> None:
    keys = [key for group in taken.values() for key in group]
    pending = {"$set": {resetting.run.status_field: "pending"}, "$unset": {resetting.path: ""}}
    if resetting.documents.reset(taken, resetting.query, resetting.path, pending) < len(keys):
        wanted = {resetting.run.status_field: "pending", resetting.path: {"$exists": False}}
        done = [Key.of_document(each) for each in resetting.documents.read_keys(keys, wanted)]
        found.refused += len(keys) - len(done)
        keys = done
    found.by_status[resetting.status] += len(keys)
    rows = resetting.store.ledger.failures.unresolved(resetting.run, keys) if keys else []
    resetting.store.ledger.failures.resolve(rows, "reset")
    found.resolved += len(rows)
