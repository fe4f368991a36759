"""What a run should make of the documents, rehearsed before anything runs."""

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
    """The documents as they should be after a run, by key; what fails; and how that is to be compared.

    `varies`: top-level fields that come out otherwise each time.
    """

    before: Mapping[Key, bytes]
    rehearsed: Mapping[Key, RehearsedDocument]
    varies: frozenset[str]
    deterministic: bool
    failing: frozenset[Key]
    reserved: frozenset[str]

    def after(self, key: Key) -> bytes:
        """A document after the run, without marks and what varies."""
        found = self.rehearsed.get(key)
        changed = found.changed if found is not None and found.changed is not None else self.before[key]
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


def expected(room: Trial, *, deterministic: bool, failing: Sequence[Any]) -> Expected:
    """Rehearse the migration on the documents. Raises ValueError where it selects none of them."""
    before = room.afresh()
    run = draft_run(room.store, room.definition, defaults=DEFAULTS)
    first = rehearsed(room, run, before)
    # What comes of the time since the claim may be the same twice by chance: this time that is another.
    second = rehearsed(room, run, before, claimed_at=datetime.now(UTC) - LONG_AGO)
    if not first:
        raise ValueError(
            f"{room.migration.name} selects none of these documents: see its filter, and its status field."
        )
    varies = frozenset(
        edit.top
        for key, one in first.items()
        for edit in difference(one.changed or one.before, second[key].changed or one.before)
        if edit.top is not None
    )
    return Expected(
        before=before, rehearsed=first, varies=frozenset() if deterministic else varies, deterministic=deterministic,
        failing=frozenset(Key.of(each, room.options) for each in failing), reserved=room.definition.marking.reserved,
    )  # fmt: skip


def rehearsed(
    room: Trial, run: Run, documents: Mapping[Key, bytes], *, claimed_at: datetime | None = None
) -> dict[Key, RehearsedDocument]:
    """What becomes of those documents that the migration selects, each in the phase that takes it."""
    rehearsal = room.store.rehearsal(run)
    sample = [
        (documents[key], phase)
        for phase in first_phases(run)
        for key in sorted(
            rehearsal.satisfying(eligible(run, phase), list(documents.values())), key=lambda key: key.raw
        )
    ]

    @contextmanager
    def callers(_: Run) -> Iterator[Caller]:
        yield _Here(room)

    stage = RehearsalStage(room.definition, run, rehearsal, callers, claimed_at=claimed_at)
    found = stage.rehearse(sample, monotonic() + PATIENCE)
    return {each.key: _carried_out(room, each) if each.outcome == NOT_SHOWN else each for each in found}


def _carried_out(room: Trial, rehearsed: RehearsedDocument) -> RehearsedDocument:
    """What no pipeline expresses is carried out on a copy: nobody else's documents are here."""
    update = room.definition.update
    answer = (
        GuardedChange(rehearsed.key, rehearsed.before, Single(update))
        if update is not None
        else called(room, rehearsed.before)
    )
    if not isinstance(answer, GuardedChange) or not isinstance(answer.change, Single):
        return rehearsed
    copy = room.collection.database.get_collection("copy", codec_options=RAW)
    copy.drop()
    copy.insert_one(RawBSONDocument(rehearsed.before))
    copy.update_one({}, answer.change.update)
    after = bytes(copy.find_one().raw)  # type: ignore[union-attr]
    return replace(rehearsed, outcome=UNCHANGED if after == rehearsed.before else CHANGED, changed=after)


@dataclass(frozen=True, slots=True)
class _Here:
    """A `Caller` in this process: an author's test may debug what it calls."""

    room: Trial

    def call(self, document: bytes, seconds: float) -> FunctionAnswer:  # noqa: ARG002
        found = called(self.room, document)
        return FunctionAnswer(found.change if isinstance(found, GuardedChange) else found)


def called(room: Trial, document: bytes) -> GuardedChange | FailedDocument:
    """What the function makes of a raw document."""
    migration = room.migration
    context = Context("check", "check.0", 1) if migration.wants_context else None
    found = call(migration, room.definition, document, context)
    if isinstance(found, FailedDocument) and found.type == KeyboardInterrupt.__name__:
        raise KeyboardInterrupt  # most likely a person's: this is a test, and its main thread
    return found
