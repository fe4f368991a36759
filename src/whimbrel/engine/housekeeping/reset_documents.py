"""Sets documents that were left behind back to `pending`, from evidence alone.

It goes page by page, and needs no lock. A page is read with the tokens of its documents; then
it checks whether a run holds the collection; then each document is changed only while it bears the token
that was read. A run that begins after that check writes tokens of its own, so nothing that it has done is
ever taken back, whatever this process does meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import read_stamp
from whimbrel.domain.runs.run import Run, in_status
from whimbrel.engine.operating.start import Defaults, draft_run
from whimbrel.errors import CollectionBusy, FilterRefused, StateForbids
from whimbrel.ports import Documents, Query, Store

PAGE = 1000  # documents
SECONDS = 20.0  # after which a reset reports how far it came

Page = Sequence[tuple[Key, str | None]]


@dataclass(slots=True)
class ResetDocuments:
    """The result of a reset."""

    by_status: Counter[str] = field(default_factory=Counter)
    left: int = 0  # somebody may be working on them
    refused: int = 0  # MongoDB refused them, or they changed at the same moment
    resolved: int = 0  # failures that the reset resolved
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Resetting:
    """One status of one collection, to be reset."""

    store: Store
    documents: Documents
    run: Run  # never in the ledger: tells what to do, and where
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
    """Sets documents of these statuses back to `pending`, without their token, and resolves their failures.

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
    documents, end, result = store.session().documents(run), time.monotonic() + seconds, ResetDocuments()
    try:
        for status in dict.fromkeys(statuses):
            _reset_all(_Resetting(store, documents, run, status), result, end)
    finally:
        if result.by_status:
            counts = ", ".join(f"{status} {count}" for status, count in result.by_status.items())
            store.ledger.leases.audit(
                "documents reset to pending", run="", who=who, why=f"{run.ns}: {counts}"
            )
    return result


def _refuse_while_held(store: Store, run: Run) -> None:
    holder = store.ledger.runs.holder(run.ns)
    if holder is not None:
        raise CollectionBusy(f"Run {holder} holds {run.ns}. Wait for its end, or cancel it, then reset.")


def _reset_all(resetting: _Resetting, result: ResetDocuments, end: float) -> None:
    for page in _pages(resetting):
        if time.monotonic() > end:
            result.complete = False
            return
        by_token = _resettable(resetting, page)
        result.left += len(page) - sum(map(len, by_token.values()))
        _refuse_while_held(resetting.store, resetting.run)
        if by_token:
            _reset_page(resetting, by_token, result)


def _pages(resetting: _Resetting) -> Iterator[Page]:
    """Yields the documents of the status with their tokens, slice by slice of the collection."""
    for where in resetting.documents.survey(PAGE).slices(resetting.query):
        if page := resetting.documents.bearing(where, resetting.query, resetting.path, 2 * PAGE):
            yield page


def _resettable(resetting: _Resetting, page: Page) -> Mapping[str | None, Sequence[Key]]:
    """Returns the documents by their tokens, without those that somebody may be working on (hole H23)."""
    known, live = resetting.store.ledger.batches.live(
        sorted({read_stamp(token)[0] for _, token in page if token})
    )
    guarded = resetting.status == "processing" and resetting.run.adopt == "ours"
    by_token: dict[str | None, list[Key]] = {}
    for key, token in page:
        batch = read_stamp(token)[0] if token else None
        if batch not in live and (batch in known or not guarded):
            by_token.setdefault(token, []).append(key)
    return by_token


def _reset_page(
    resetting: _Resetting, by_token: Mapping[str | None, Sequence[Key]], result: ResetDocuments
) -> None:
    keys = [key for group in by_token.values() for key in group]
    pending = {"$set": {resetting.run.status_field: "pending"}, "$unset": {resetting.path: ""}}
    if resetting.documents.reset(by_token, resetting.query, resetting.path, pending) < len(keys):
        wanted = {resetting.run.status_field: "pending", resetting.path: {"$exists": False}}
        reset_keys = [Key.of_document(document) for document in resetting.documents.read_keys(keys, wanted)]
        result.refused += len(keys) - len(reset_keys)
        keys = reset_keys
    result.by_status[resetting.status] += len(keys)
    rows = resetting.store.ledger.failures.unresolved(resetting.run, keys) if keys else []
    resetting.store.ledger.failures.resolve(rows, "reset")
    result.resolved += len(rows)
