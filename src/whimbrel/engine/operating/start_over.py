"""Continues with the collection that has replaced a run's own: by a new run, planned afresh.

The numbers of two collections do not mix: the old run ends with what was done in its collection, and the new one begins at zero.
"""

from dataclasses import replace

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.following import Following
from whimbrel.domain.runs.preflight_findings import refuse
from whimbrel.domain.runs.run import Counts, Run, code_fields, legs_of
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.engine.operating import control
from whimbrel.engine.operating.failure_budget import Change, changed
from whimbrel.engine.operating.start import add_run, new_id
from whimbrel.errors import StateForbids
from whimbrel.ports import Store


def start_over(
    store: Store, run_id: str, definition: Definition, *, who: str, budget: Change | None = None
) -> Run:
    """Cancels a run whose collection was replaced, and adds a similar run over the collection that has the name now, `queued`.

    Raises RunUnknown; StateForbids where the run has ended, its collection still exists, or it was given ids; CollectionUnsuitable,
    FilterRefused or DefinitionInvalid where the new run could not keep its promises.
    """
    old = control.find_run(store.ledger, run_id)
    identity = store.identity(old.database, old.collection)
    _refuse(old, identity.uuid)
    new = replace(
        old,
        id=new_id(), collection_uuid=identity.uuid, collated=identity.collated,
        leg=0, status=RunStatus.QUEUED, counts=Counts(), folded_through=0, planned=0, rows=None, tiling=Tiling(), checked=Tiling(), inferred=False,
        estimated=0, retried=0, message="", error=None, failing=False, undone_by=None, started_at=None,
        working_since=None, worked=0.0, ended_at=None, forgiven=None, over_budget=(),
        legs=legs_of(mark=old.mark, scope=old.scope, first=old.asked, follow=old.follow is not None, stages=old.stages),
        start_key=None, stages=None if old.stages is None else old.stages.fresh(),
        follow=None if old.follow is None else Following(wanted=old.follow.wanted),
    )  # fmt: skip
    new = replace(new, budget=changed(old.budget, budget or {}))
    if definition.code_hash != old.code_hash:
        new = replace(new, declarative=definition.declarative, **code_fields(definition, old.uuids))
    refuse(store.errors(new, definition))
    control.cancel(store.ledger, old.id, who=who)
    added = add_run(store, definition, new, who)
    store.ledger.known_causes.copy(old.id, new.id)
    why = f"its collection was replaced: run {new.id} goes on with the new one"
    store.ledger.leases.audit("run started over", run=old.id, who=who, why=why)
    store.ledger.leases.audit("run begun for another", run=new.id, who=who, why=f"in place of run {old.id}")
    return added


def _refuse(old: Run, uuid: bytes | None) -> None:
    if old.status in ENDED:
        raise StateForbids(f"Run {old.id} is {old.status}. Start a new run of {old.migration}.")
    if old.kind != "migration":
        raise StateForbids(
            f"Run {old.id} is a {old.kind} of run {old.of}: cancel it, and start another with --new-collection."
        )
    if old.scope.kind == "ids":
        raise StateForbids(
            f"Run {old.id} was given its documents' ids: cancel it, and send those of the new collection."
        )
    if old.collection_uuid in (None, uuid):
        raise StateForbids(
            f"Run {old.id} could not start over: {old.ns} is the collection that it began with. Resume it without --new-collection."
        )
