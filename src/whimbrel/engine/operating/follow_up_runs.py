"""Composes runs on the documents of a run that has ended: its rollback, its cleanup, its verification."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.runs.run import Phase, Run, RunKind, Scope
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.following_runs import note_for_others
from whimbrel.engine.operating.start import Defaults, new_id
from whimbrel.errors import StateForbids
from whimbrel.ports import Ledger, Store

LEGS: tuple[Phase, ...] = ("pending", "failed")
_EXCLUSIVE_KINDS: tuple[RunKind, ...] = ("rollback", "cleanup")
TIMEOUT = 30.0  # seconds; no user function is called


def bound_to_collection(store: Store, old: Run, *, new_collection: bool) -> Run:
    """Returns a run bound to the collection that a run on its documents should use. Raises CollectionReplaced.

    `new_collection`: allows another collection of the same name.
    """
    if not new_collection:
        store.session().documents(old).check_identity()
        return old
    identity = store.identity(old.database, old.collection)
    return replace(old, collection_uuid=identity.uuid, collated=identity.collated)


def check_ended(store: Store, old: Run, verb: str) -> None:
    """Raises StateForbids where a run has not ended, or another run is rolling it back or cleaning it up now."""
    if old.kind != "migration":
        raise StateForbids(f"Run {old.id} is a {old.kind} of run {old.of}, and cannot be {verb} itself.")
    if old.status not in ENDED:
        raise StateForbids(
            f"Run {old.id} is {old.status}, and cannot be {verb} before it has ended. Cancel it first, or let it finish: whimbrel cancel {old.id}{note_for_others(old)}"
        )
    unended = [status for status in RunStatus if status not in ENDED]
    for kind in _EXCLUSIVE_KINDS:
        for active in store.ledger.runs.list(statuses=unended, of=old.id, kind=kind, limit=1):
            raise StateForbids(
                f"Run {active.id} is a {active.kind} of run {old.id} already, and is {active.status}."
            )


def with_newest_rollback(ledger: Ledger, old: Run) -> Run:
    """Returns a run with the newest of its rollbacks that has begun: a rollback that was only requested has taken nothing back yet."""
    if old.undone_by is None:
        return old
    rollbacks = ledger.runs.followers(old.id, kind="rollback")
    return replace(
        old, undone_by=next((rollback.id for rollback in rollbacks if rollback.started_at is not None), None)
    )


def follow_up_run(old: Run, kind: RunKind, query: Mapping[str, Any], defaults: Defaults) -> Run:
    """Composes a run of another kind on the documents of a run."""
    now = datetime.now(UTC)
    return Run(
        id=new_id(), kind=kind, of=old.id, migration=old.migration, version=old.version, database=old.database,
        collection=old.collection, filter=encoded(query),
        mark="filter", status_field=old.status_field, collection_uuid=old.collection_uuid, collated=old.collated, declarative=kind == "cleanup", claim=False, adopt="ours", scope=Scope(),
        legs=LEGS, batch_size=defaults.batch_size, max_attempts=1, retry_delay=old.retry_delay, timeout=TIMEOUT,
        uuids=old.uuids, code_hash=old.code_hash, reads=old.reads, concurrency=old.concurrency, created_at=now, updated_at=now,
    )  # fmt: skip


def token_condition(run_id: str) -> dict[str, str]:
    """Returns the condition that a token is one of this run."""
    return {"$regex": f"^{re.escape(run_id)}\\."}
