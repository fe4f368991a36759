"""Undoing a run: a run of its own over the documents that hold a before-image of the one that is undone.

It goes by the same batches, claims and guarded writes as every run. A document that was put back holds no image
any more, so it is not eligible again: the effect happens once, whatever dies. One that the application has
changed since is a conflict, and stays as it is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.batches import Batch
from whimbrel.domain.changes import Whole
from whimbrel.domain.encoding import encoded
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.images import Changed, Unreadable, image_path, restored
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Phase, Run, RunKind, Scope
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.engine import control
from whimbrel.engine.lease import Lease
from whimbrel.engine.start import Defaults, new_id
from whimbrel.engine.transform import Transformed
from whimbrel.errors import StateForbids
from whimbrel.ports import Guarded, Ledger, Store

LEGS: tuple[Phase, ...] = ("pending", "failed")
_TREATING: tuple[RunKind, ...] = ("rollback", "cleanup")
TIMEOUT = 30.0  # seconds; nobody's function is called


def start_rollback(
    store: Store,
    run_id: str,
    *,
    who: str,
    defaults: Defaults,
    batch_size: int | None = None,
    rate: int | None = None,
    priority: int = 0,
    new_collection: bool = False,
) -> Run:
    """Add a run that undoes another, `queued`.

    `new_collection`: in the collection that has its collection's name now, such as one that was restored. Raises RunUnknown;
    StateForbids where that run has not ended, kept no before-images, is being undone, or was cleaned up; CollectionReplaced.
    """
    old = control.find_run(store.ledger, run_id)
    check(store, old)
    old = in_its_collection(store, old, new_collection=new_collection)
    run = following(
        old, "rollback", {f"{image_path(old.migration, old.version)}.token": tokens_of(old.id)}, defaults
    )
    run = replace(run, batch_size=batch_size or run.batch_size, rate=rate, priority=priority)
    if not store.ledger.runs.undo(old.id, run.id, seen=old.undone_by, who=who):
        raise StateForbids(
            f"Run {old.id} changed at the same moment. It is {control.find_run(store.ledger, old.id).status} now; try again."
        )
    return store.ledger.runs.add(run, who)


def check(store: Store, old: Run) -> None:
    """Raise StateForbids where a run cannot be rolled back."""
    check_ended(store, old, "rolled back")
    if not old.undo:
        raise StateForbids(
            f"Run {old.id} cannot be rolled back: it kept no before-images. Start runs with --undo, or undo=True in the migration, to keep them."
        )
    for each in store.ledger.runs.followers(old.id, kind="cleanup"):
        since = old.ended_at is None or each.created_at >= old.ended_at  # else the run went on after it
        if since and each.status is RunStatus.COMPLETED:
            raise StateForbids(
                f"Run {old.id} cannot be rolled back: run {each.id} has removed its before-images."
            )


def in_its_collection(store: Store, old: Run, *, new_collection: bool) -> Run:
    """A run as it is bound to the collection that a run on its documents shall have. Raises CollectionReplaced.

    `new_collection`: that may be another one of the same name, where somebody says so.
    """
    if not new_collection:
        store.session().documents(old).check_identity()
        return old
    found = store.identity(old.database, old.collection)
    return replace(old, collection_uuid=found.uuid, collated=found.collated)


def check_ended(store: Store, old: Run, verb: str) -> None:
    """Raise StateForbids where a run has not ended, or another treats it now."""
    if old.kind != "migration":
        raise StateForbids(f"Run {old.id} is a {old.kind} of run {old.of}, and cannot be {verb} itself.")
    if old.status not in ENDED:
        raise StateForbids(
            f"Run {old.id} is {old.status}, and cannot be {verb} before it has ended. Cancel it first, or let it finish: whimbrel cancel {old.id}"
        )
    alive = [status for status in RunStatus if status not in ENDED]
    for kind in _TREATING:
        for each in store.ledger.runs.list(statuses=alive, of=old.id, kind=kind, limit=1):
            raise StateForbids(
                f"Run {each.id} is a {each.kind} of run {old.id} already, and is {each.status}."
            )


def as_undone(ledger: Ledger, old: Run) -> Run:
    """A run with the newest of its rollbacks that has begun: one that was only asked for has taken nothing back yet."""
    if old.undone_by is None:
        return old
    rollbacks = ledger.runs.followers(old.id, kind="rollback")
    return replace(old, undone_by=next((each.id for each in rollbacks if each.started_at is not None), None))


def following(old: Run, kind: RunKind, query: Mapping[str, Any], defaults: Defaults) -> Run:
    """A run of another kind on the documents of a run."""
    now = datetime.now(UTC)
    return Run(
        id=new_id(), kind=kind, of=old.id, migration=old.migration, version=old.version, database=old.database,
        collection=old.collection, filter=encoded(query),
        mark="filter", status_field=old.status_field, collection_uuid=old.collection_uuid, collated=old.collated, declarative=kind == "cleanup", claim=False, adopt="ours", scope=Scope(),
        legs=LEGS, batch_size=defaults.batch_size, max_attempts=1, retry_delay=old.retry_delay, timeout=TIMEOUT,
        uuids=old.uuids, code_hash=old.code_hash, reads=old.reads, concurrency=old.concurrency, created_at=now, updated_at=now,
    )  # fmt: skip


def tokens_of(run_id: str) -> dict[str, str]:
    """The condition that a token is one of this run."""
    return {"$regex": f"^{re.escape(run_id)}\\."}


def definition(run: Run) -> Definition:
    """What executing a run that needs no user code needs to know of its migration."""
    return Definition(
        name=run.migration, version=run.version, database=run.database, collection=run.collection, mark="filter",
        timeout=run.timeout, code_hash=run.code_hash,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Restore:
    """The `Transform` that puts documents back as they were."""

    lease: Lease

    def __call__(
        self,
        definition: Definition,
        batch: Batch,  # noqa: ARG002
        documents: Sequence[bytes],
        attempts: Mapping[Key, int],  # noqa: ARG002
        *,
        until: float,  # noqa: ARG002
    ) -> Transformed:
        guarded: list[Guarded] = []
        troubles: list[Trouble] = []
        for document in documents:
            key = Key.of_document(document)
            try:
                before = restored(document, definition.name, definition.version)
            except Changed as error:
                message = f"The application has changed the document since: {', '.join(error.fields)}."
                troubles.append(Trouble(key=key, kind=Kind.CONFLICT, type="ChangedSince", message=message))
            except Unreadable as error:
                troubles.append(Trouble(key=key, kind=Kind.DATA, type="NoImage", message=str(error)))
            else:
                guarded.append(Guarded(key, document, Whole(before)))
        self.lease.step()
        return Transformed(guarded, troubles, len(documents))
