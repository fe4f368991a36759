"""Does the next step until a migration is complete and verified: for a command that stays with it, or for one request."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from whimbrel.domain.migrations.catalog import Catalog
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import in_sequence
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import Standing, State
from whimbrel.engine.operating import control
from whimbrel.engine.operating.ensure import Step, refuse_cleaned, to_start_once, verify_once
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.sequence import (
    check_dependencies,
    standing_of_definition,
    standing_of_dependency,
)
from whimbrel.engine.operating.stages import waits_for_approval
from whimbrel.engine.operating.start import (
    Defaults,
    add_run,
    asked_through,
    draft_run,
    has_documents,
    preview,
)
from whimbrel.engine.rehearsing.trial_call import try_function
from whimbrel.errors import StateForbids
from whimbrel.ports import Callers, Store


class FinishStep:
    """How steps are made. `route`: through which door; `callers`: call functions before their runs start.

    `before`: called with the warnings when something is about to be written. `strict`: warnings are refused.
    """

    def __init__(
        self,
        store: Store,
        *,
        who: str,
        defaults: Defaults,
        route: str,
        callers: Callers,
        before: Callable[[Sequence[Finding]], Any] = lambda _: None,
        strict: bool = False,
    ) -> None:
        self._store, self._who, self._defaults, self._route = store, who, defaults, route
        self._callers, self._before, self._strict = callers, before, strict

    def take(self, step: Step, run: Run | None, definition: Definition, found: Standing) -> Run:
        """Makes a step, and returns the run that is to be worked on, or is worked on.

        Raises StateForbids where a person must decide, AlreadyStarted where another process has done the same; and what starting a run raises.
        """
        ledger = self._store.ledger
        if step == "verify":
            self._before(())
            return verify_once(self._store, found, definition, who=self._who, defaults=self._defaults)
        if step == "start" or run is None:
            return self._start(definition, found)
        if step == "retry":
            return control.retry(ledger, run.id, who=self._who, code=definition)[0]
        if waits_for_approval(run):
            raise StateForbids(
                f"Run {run.id} waits for a person after a stage: whimbrel status {run.id}, then whimbrel approve {run.id}"
            )
        if step == "resume":
            return control.resume(ledger, run.id, who=self._who, code=definition)
        if run.has_user_code and run.code_hash != definition.code_hash:
            raise StateForbids(
                f"Run {run.id} is {run.status} with another code of {definition.name} than the one loaded here. Let it end, or pause it, and "
                f"this command continues it with the new code: whimbrel pause {run.id}"
            )
        return run

    def _start(self, definition: Definition, found: Standing) -> Run:
        store = self._store
        refuse_cleaned(store, definition)
        check_dependencies(store, definition)
        draft = asked_through(draft_run(store, definition, defaults=self._defaults), self._route)
        if (expected := preview(store, draft)).total or has_documents(store, draft):
            draft = with_warnings(store, definition, draft, documents=expected.estimated, strict=self._strict)
            draft = try_function(store, definition, draft, self._callers, strict=self._strict)
        self._before(draft.warnings)
        return add_run(store, definition, to_start_once(draft, found), self._who)


def to_finish(store: Store, loaded: Catalog[Definition], definition: Definition) -> Iterator[Definition]:
    """Yields what must be finished, in this order: what the migration depends on, where no other version of it suffices, then the migration.

    Nothing where it is complete and verified already.
    """
    if standing_of_definition(store, definition).state is State.VERIFIED:
        return
    for name in in_sequence(definition.name, loaded):
        if name == definition.name:
            yield definition
        elif not _is_done_by_another_version(store, definition, loaded, name):
            yield loaded[name]


def _is_done_by_another_version(
    store: Store, definition: Definition, loaded: Catalog[Definition], name: str
) -> bool:
    """Whether all that ask for a migration are content with a version that is not the loaded one: it needs no run of the loaded one."""
    asked = [
        dependency
        for other in in_sequence(definition.name, loaded)
        for dependency in loaded[other].dependencies
        if dependency.name == name
    ]
    found = [standing_of_dependency(store, dependency) for dependency in asked]
    return all(standing.done and version != loaded[name].version for version, standing in found)
