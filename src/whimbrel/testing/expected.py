"""Rehearses a migration to know what a run should make of the documents, before anything runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.diffs import difference
from whimbrel.domain.bson.raw_bson import RAW, Key, document, element, iterate_fields
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.changes import Single
from whimbrel.domain.migrations.context import Context
from whimbrel.domain.migrations.marks import CHANGED, MARK_ROOT, UNCHANGED
from whimbrel.domain.runs.run import Run, eligible, first_phases
from whimbrel.engine.executing.function_calls import call
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.rehearsing.rehearsal import NOT_SHOWN, RehearsalStage, RehearsedDocument
from whimbrel.ports import Caller, FunctionAnswer, GuardedChange
from whimbrel.testing.trial import DEFAULTS, Trial

PATIENCE = 60.0  # seconds for a rehearsal
LONG_AGO = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Expected:
    """The documents as they should be after a run, by key; which fail; and how to compare them.

    `varies`: top-level fields that come out differently each time.
    """

    before: Mapping[Key, bytes]
    rehearsed: Mapping[Key, RehearsedDocument]
    varies: frozenset[str]
    deterministic: bool
    failing: frozenset[Key]
    reserved: frozenset[str]

    def after(self, key: Key) -> bytes:
        """Returns a document after the run, without marks and what varies."""
        rehearsed = self.rehearsed.get(key)
        changed = (
            rehearsed.changed if rehearsed is not None and rehearsed.changed is not None else self.before[key]
        )
        return self.comparable(changed)

    def comparable(self, raw: bytes) -> bytes:
        left_out = {name.encode() for name in (*self.reserved, *self.varies, MARK_ROOT)}
        return bytes(
            document(
                [
                    element(kind, name, payload)
                    for name, kind, payload in iterate_fields(raw)
                    if name not in left_out
                ]
            ).raw
        )


def rehearse_migration(trial: Trial, *, deterministic: bool, failing: Sequence[Any]) -> Expected:
    """Rehearses the migration on the documents. Raises ValueError where it selects none of them."""
    before = trial.insert_afresh()
    run = draft_run(trial.store, trial.definition, defaults=DEFAULTS)
    first = rehearse_documents(trial, run, before)
    # Results that depend on the time since the claim might be the same twice by chance, so this time differs.
    second = rehearse_documents(trial, run, before, claimed_at=datetime.now(UTC) - LONG_AGO)
    if not first:
        raise ValueError(
            f"{trial.migration.name} selects none of these documents: see its filter, and its status field."
        )
    varies = frozenset(
        edit.top
        for key, first_result in first.items()
        for edit in difference(
            first_result.changed or first_result.before, second[key].changed or first_result.before
        )
        if edit.top is not None
    )
    return Expected(
        before=before, rehearsed=first, varies=frozenset() if deterministic else varies, deterministic=deterministic,
        failing=frozenset(Key.of(failing_id, trial.options) for failing_id in failing), reserved=trial.definition.marking.reserved,
    )  # fmt: skip


def rehearse_documents(
    trial: Trial, run: Run, documents: Mapping[Key, bytes], *, claimed_at: datetime | None = None
) -> dict[Key, RehearsedDocument]:
    """Rehearses the documents that the migration selects, each in the phase that takes it."""
    rehearsal = trial.store.rehearsal(run)
    sample = [
        (documents[key], phase)
        for phase in first_phases(run)
        for key in sorted(
            rehearsal.satisfying(eligible(run, phase), list(documents.values())), key=lambda key: key.raw
        )
    ]

    @contextmanager
    def callers(_: Run) -> Iterator[Caller]:
        yield _LocalCaller(trial)

    stage = RehearsalStage(trial.definition, run, rehearsal, callers, claimed_at=claimed_at)
    results = stage.rehearse(sample, monotonic() + PATIENCE)
    return {
        result.key: _carry_out_on_copy(trial, result) if result.outcome == NOT_SHOWN else result
        for result in results
    }


def _carry_out_on_copy(trial: Trial, rehearsed: RehearsedDocument) -> RehearsedDocument:
    """Carries out on a copy what no pipeline expresses. Nobody else has documents here."""
    update = trial.definition.update
    answer = (
        GuardedChange(rehearsed.key, rehearsed.before, Single(update))
        if update is not None
        else call_function(trial, rehearsed.before)
    )
    if not isinstance(answer, GuardedChange) or not isinstance(answer.change, Single):
        return rehearsed
    copy = trial.collection.database.get_collection("copy", codec_options=RAW)
    copy.drop()
    copy.insert_one(RawBSONDocument(rehearsed.before))
    copy.update_one({}, answer.change.update)
    after = bytes(copy.find_one().raw)  # type: ignore[union-attr]
    return replace(
        rehearsed,
        outcome=UNCHANGED if after == rehearsed.before else CHANGED,
        changed=after,
    )


@dataclass(frozen=True, slots=True)
class _LocalCaller:
    """A `Caller` in this process, so that an author can debug the function."""

    trial: Trial

    def call(self, document: bytes, seconds: float) -> FunctionAnswer:  # noqa: ARG002
        answer = call_function(self.trial, document)
        return FunctionAnswer(answer.change if isinstance(answer, GuardedChange) else answer)


def call_function(trial: Trial, document: bytes) -> GuardedChange | FailedDocument:
    """Returns what the function makes of a raw document."""
    migration = trial.migration
    context = Context("check", "check.0", 1) if migration.wants_context else None
    answer = call(migration, trial.definition, document, context)
    if isinstance(answer, FailedDocument) and answer.type == KeyboardInterrupt.__name__:
        raise KeyboardInterrupt  # most likely a person's, as this is the main thread of a test
    return answer
