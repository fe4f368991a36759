"""Starts the rollback of a run: a run of its own over the documents that hold a before-image of the run that is undone.

It uses the same batches, claims and guarded writes as every run. A document that was put back holds no image
any more, so it is not eligible again: the effect happens once, whatever dies. A document that the application has
changed since is a conflict, and stays as it is.
"""

from dataclasses import replace

from whimbrel.domain.migrations.before_images import image_path
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.terms import ANY_TIME, Terms
from whimbrel.engine.operating import control
from whimbrel.engine.operating.follow_up_runs import (
    bound_to_collection,
    check_ended,
    follow_up_run,
    token_condition,
)
from whimbrel.engine.operating.start import Defaults
from whimbrel.errors import StateForbids
from whimbrel.ports import Store


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
    terms: Terms = ANY_TIME,
) -> Run:
    """Adds a run that undoes another, `queued`.

    `new_collection`: uses the collection that has the collection's name now, such as a restored one. Raises RunUnknown;
    StateForbids where the undone run has not ended, kept no before-images, is being undone, or was cleaned up; CollectionReplaced.
    """
    old, run = draft_rollback(store, run_id, defaults, new_collection=new_collection)
    run = terms.of(replace(run, batch_size=batch_size or run.batch_size, rate=rate, priority=priority))
    if not store.ledger.runs.undo(old.id, run.id, seen=old.undone_by, who=who):
        raise StateForbids(
            f"Run {old.id} changed at the same moment. It is {control.find_run(store.ledger, old.id).status} now; try again."
        )
    return store.ledger.runs.add(run, who)


def draft_rollback(
    store: Store, run_id: str, defaults: Defaults, *, new_collection: bool = False
) -> tuple[Run, Run]:
    """Returns a run, and the one that would undo it, which is not in the ledger. Raises what `start_rollback` raises."""
    old = control.find_run(store.ledger, run_id)
    check_rollback(store, old)
    old = bound_to_collection(store, old, new_collection=new_collection)
    holders = {f"{image_path(old.migration, old.version)}.token": token_condition(old.id)}
    return old, follow_up_run(old, "rollback", holders, defaults)


def check_rollback(store: Store, old: Run) -> None:
    """Raises StateForbids where a run cannot be rolled back."""
    check_ended(store, old, "rolled back")
    if not old.undo:
        raise StateForbids(
            f"Run {old.id} cannot be rolled back: it kept no before-images. Start runs with --undo, or undo=True in the migration, to keep them."
        )
    for cleanup in store.ledger.runs.followers(old.id, kind="cleanup"):
        # A run that was continued after a cleanup has kept before-images since.
        after_end = old.ended_at is None or cleanup.created_at >= old.ended_at
        if after_end and cleanup.status is RunStatus.COMPLETED:
            raise StateForbids(
                f"Run {old.id} cannot be rolled back: run {cleanup.id} has removed its before-images."
            )


def can_be_rolled_back(store: Store, old: Run) -> bool:
    """Whether a run can be rolled back now."""
    try:
        check_rollback(store, old)
    except StateForbids:
        return False
    return True
