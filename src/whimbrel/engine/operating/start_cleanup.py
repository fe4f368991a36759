"""Starts the removal of what a run left in the documents: its before-images, and its marks where they are fields of Whimbrel's own.

It is a run of its own, with one statement a chunk. Afterwards the cleaned run cannot be rolled back, and its migration would change the documents again.
"""

from dataclasses import dataclass

from whimbrel.domain.migrations.before_images import image_path
from whimbrel.domain.migrations.marks import MARK_ROOT, marker_field
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.domain.runs.terms import ANY_TIME, Terms
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.follow_up_runs import (
    bound_to_collection,
    check_ended,
    follow_up_run,
    token_condition,
)
from whimbrel.engine.operating.start import Defaults
from whimbrel.ports import Store

MEASURING = 5.0  # seconds that measuring all documents may take


@dataclass(frozen=True, slots=True)
class CleanupSize:
    """What a run left in the documents. `exact`: all were measured, not a random sample."""

    documents: int
    size: int  # bytes of BSON, before MongoDB compresses them
    exact: bool


def start_cleanup(
    store: Store,
    run_id: str,
    *,
    who: str,
    defaults: Defaults,
    new_collection: bool = False,
    terms: Terms = ANY_TIME,
) -> Run:
    """Adds a run that removes what another left, `queued`. Raises RunUnknown, StateForbids, CollectionReplaced."""
    run = _draft(store, run_id, defaults, new_collection=new_collection)
    return store.ledger.runs.add(terms.of(run), who)


def measure_cleanup(store: Store, run_id: str, *, new_collection: bool = False) -> CleanupSize:
    """Returns what a cleanup of a run would remove. Raises RunUnknown, StateForbids, CollectionReplaced."""
    run = _draft(store, run_id, Defaults(), new_collection=new_collection)
    documents = store.session().documents(run)
    size = documents.weigh(eligible(run, "pending"), paths_of(run), MEASURING)
    return CleanupSize(*size)


def _draft(store: Store, run_id: str, defaults: Defaults, *, new_collection: bool) -> Run:
    old = find_run(store.ledger, run_id)
    check_ended(store, old, "cleaned up")
    old = bound_to_collection(store, old, new_collection=new_collection)
    image, mark = paths_of(old)
    token_of_run = token_condition(old.id)
    return follow_up_run(
        old, "cleanup", {"$or": [{f"{image}.token": token_of_run}, {mark: token_of_run}]}, defaults
    )


def paths_of(run: Run) -> tuple[str, str]:
    """Returns the paths of images and marks of a run's migration."""
    return image_path(run.migration, run.version), f"{MARK_ROOT}.{marker_field(run.migration, run.version)}"
