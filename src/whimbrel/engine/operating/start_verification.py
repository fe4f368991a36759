"""Starts the verification of a run: a run of its own over the whole collection, which writes nothing to it.

It has batches, workers, a rate and a lease like every run, so it can be paused, throttled and killed; it takes its turn on the
collection, so no other run writes meanwhile. Each batch's row holds what the batch counted; the coordinator adds that up at the end,
checks the ledger itself, and keeps a report of what was proved and what was not (`engine/verifying/report.py`).
"""

from dataclasses import replace

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.terms import ANY_TIME, Terms
from whimbrel.domain.runs.verification import Proof
from whimbrel.engine.operating.control import find_run
from whimbrel.engine.operating.follow_up_runs import (
    bound_to_collection,
    check_ended,
    follow_up_run,
    with_newest_rollback,
)
from whimbrel.engine.operating.start import Defaults
from whimbrel.errors import StateForbids, Untranslatable
from whimbrel.ports import Store

BATCH = 50_000  # documents: a batch is a few reading statements, unless all documents are transformed again
SAMPLE = 1000  # documents that are transformed again by default
AGAIN = "transform again"


def start_verification(  # noqa: PLR0913  the options of a command
    store: Store,
    run_id: str,
    loaded: Definition | None,
    *,
    who: str,
    defaults: Defaults,
    sample: int | None = SAMPLE,
    batch_size: int | None = None,
    rate: int | None = None,
    new_collection: bool = False,
    terms: Terms = ANY_TIME,
) -> Run:
    """Adds a run that verifies another, `queued`. Options and errors are those of `compose_verification`."""
    run = compose_verification(
        store,
        run_id,
        loaded,
        defaults=defaults,
        sample=sample,
        batch_size=batch_size,
        rate=rate,
        new_collection=new_collection,
    )
    return store.ledger.runs.add(terms.of(run), who)


def compose_verification(
    store: Store,
    run_id: str,
    loaded: Definition | None,
    *,
    defaults: Defaults,
    sample: int | None = SAMPLE,
    batch_size: int | None = None,
    rate: int | None = None,
    new_collection: bool = False,
) -> Run:
    """Composes a run that verifies another; it is not in the ledger.

    `loaded`: the migration as it is loaded here, if it is. `sample`: how many documents are transformed again to check that nothing
    changes; None: all. `new_collection`: examines the collection that has the name now, even if it is not the run's, such as
    a restored one. Raises RunUnknown; CollectionReplaced; StateForbids where the verified run has not ended, or left nothing that could be verified.
    """
    old = find_run(store.ledger, run_id)
    check_ended(store, old, "verified")
    _refuse_cleaned(store, old)
    old = bound_to_collection(store, old, new_collection=new_collection)
    why = _why_not_again(with_newest_rollback(store.ledger, old), loaded)
    return replace(
        follow_up_run(old, "verification", {}, defaults),
        legs=("pending",), timeout=old.timeout, update=old.update, batch_size=batch_size or (defaults.batch_size if sample is None else BATCH), rate=rate, sample=0 if why else sample,
        report=(Proof(AGAIN, None, why),) if why else (),
        estimated=store.estimate(old.database, old.collection),
    )  # fmt: skip


def _refuse_cleaned(store: Store, old: Run) -> None:
    if old.mark != "marker":
        return
    for cleanup in store.ledger.runs.followers(old.id, kind="cleanup"):
        if cleanup.status is not RunStatus.CANCELLED:
            raise StateForbids(
                f"Run {old.id} cannot be verified: run {cleanup.id} has removed its marks from the documents."
            )


def _why_not_again(old: Run, loaded: Definition | None) -> str:
    """Returns why the transform cannot be run again to check that nothing changes; an empty string where it can."""
    if old.undone_by is not None:
        return "Not asked: the run was rolled back."
    if old.mark == "filter":
        return "Not proved: under mark='filter' nothing in a document tells whether this run has changed it."
    if old.claim:
        return "Not proved: the function has effects outside the database (claim=True), so it is not called again."
    if old.update is None:
        return _why_not_called_again(old, loaded)
    try:
        as_pipeline(old.declared or {})
    except Untranslatable as error:
        return f"Not proved: MongoDB can try the update only by writing it. {error}"
    return ""


def _why_not_called_again(old: Run, loaded: Definition | None) -> str:
    if loaded is None:
        return f"Not proved: the migration {old.migration!r} is not loaded here. Name its file with --migrations."
    if loaded.code_hash != old.code_hash:
        return f"Not proved: the code of {old.migration!r} is {loaded.code_hash} now; the run used {old.code_hash}."
    return ""
