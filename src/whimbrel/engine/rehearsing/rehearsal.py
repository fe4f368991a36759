"""Carries a transform out on a sample, twice, without writing a document."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key, has_repeated_fields
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.changes import Change, Single, Skipped
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import CHANGED, FAILED, SKIPPED, UNCHANGED, Filter
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Phase, Run, for_run
from whimbrel.engine.operating.preflight import differing_values
from whimbrel.errors import TooSlow, Untranslatable
from whimbrel.ports import Callers, FunctionAnswer, GuardedChange, Rehearsal, Write

NOT_SHOWN, NOT_REACHED = "not shown", "not reached"
APART = 0.005  # seconds between the two times, so that a function that reads the clock does not see the same millisecond
TWICE = "The document holds a field name twice, and MongoDB 6.0 cannot carry out a pipeline on it safely."


@dataclass(frozen=True, kw_only=True, slots=True)
class RehearsedDocument:
    """One document of the sample, and what became of it.

    `changed`: after the change alone. `after`: after change and mark, as it would be stored. `same`: the second time had the same
    outcome. `stable`: applied to its own output, the transform changes nothing. None where it could not be seen. `naive`: fields of
    the function's answer that hold times without a zone. `differing_values`: what the function uses that has another value in that process.
    """

    key: Key
    before: bytes
    phase: Phase
    outcome: str
    changed: bytes | None = None
    after: bytes | None = None
    failure: FailedDocument | None = None
    why: str = ""  # why it is not shown
    seconds: float = 0.0  # of the function's call
    naive: tuple[str, ...] = ()
    differing_values: tuple[str, ...] = ()
    same: bool | None = None
    stable: bool | None = None


class _Transform(Protocol):
    def change(self, document: bytes) -> FunctionAnswer: ...


@dataclass(frozen=True, slots=True)
class _Update:
    """A declarative migration: the same change for all documents."""

    single: Single

    def change(self, document: bytes) -> FunctionAnswer:  # noqa: ARG002
        return FunctionAnswer(self.single)


class RehearsalStage:
    """Where the transform is carried out: MongoDB's engine, and a process for the function. `claimed_at`: defaults to now."""

    def __init__(
        self,
        definition: Definition,
        run: Run,
        rehearsal: Rehearsal,
        callers: Callers,
        *,
        claimed_at: datetime | None = None,
    ) -> None:
        self._definition, self._run, self._rehearsal, self._callers = (
            for_run(definition, run),
            run,
            rehearsal,
            callers,
        )
        self._now = claimed_at or datetime.now(UTC)

    def rehearse(self, sample: Sequence[tuple[bytes, Phase]], until: float) -> list[RehearsedDocument]:
        """Transforms every document once, then once more: itself and its own output, in a new process. What does not fit into the time is not reached."""
        with self._transform(until) as transform:
            rehearsed = [self._first(transform, document, phase, until) for document, phase in sample]
        if not any(document.outcome in (CHANGED, UNCHANGED, SKIPPED, FAILED) for document in rehearsed):
            return rehearsed
        time.sleep(APART)
        with self._transform(until) as transform:
            return [self._second(transform, document, until) for document in rehearsed]

    @contextmanager
    def _transform(self, until: float) -> Iterator[_Transform]:
        if self._definition.update is not None:
            yield _Update(Single(self._definition.update))
            return
        with self._callers(self._run) as caller:
            yield _Called(caller.call, self._definition.timeout, until)

    def _first(self, transform: _Transform, document: bytes, phase: Phase, until: float) -> RehearsedDocument:
        new = RehearsedDocument(
            key=Key.of_document(document), before=document, phase=phase, outcome=NOT_REACHED
        )
        if has_repeated_fields(document):
            return replace(new, outcome=NOT_SHOWN, why=TWICE)
        if time.monotonic() > until:
            return new
        try:
            answer = transform.change(document)
        except TimeoutError:
            return new
        new = replace(
            new,
            seconds=answer.seconds,
            naive=answer.naive,
            differing_values=differing_values(self._definition, answer),
        )
        if isinstance(answer.outcome, FailedDocument):
            return replace(new, outcome=FAILED, failure=answer.outcome)
        return self._apply(new, answer.outcome)

    def _apply(self, new: RehearsedDocument, change: Change) -> RehearsedDocument:
        guarded = GuardedChange(new.key, new.before, change)
        try:
            changed = self._rehearsal.after(guarded, self._write(new.phase, marked=False))
            after = self._rehearsal.after(guarded, self._write(new.phase, marked=True))
        except Untranslatable as error:
            return replace(new, outcome=NOT_SHOWN, why=str(error))
        except TooSlow:
            return replace(new, outcome=NOT_SHOWN, why="MongoDB did not carry the change out in time.")
        if isinstance(changed, FailedDocument):
            return replace(new, outcome=FAILED, failure=changed)
        if isinstance(after, FailedDocument):
            return replace(new, outcome=FAILED, failure=after)
        outcome = SKIPPED if isinstance(change, Skipped) else UNCHANGED if changed == new.before else CHANGED
        return replace(new, outcome=outcome, changed=changed, after=after)

    def _second(self, transform: _Transform, first: RehearsedDocument, until: float) -> RehearsedDocument:
        if first.outcome in (NOT_SHOWN, NOT_REACHED) or _ended_process(first):
            return first
        second = self._first(transform, first.before, first.phase, until)
        if second.outcome == NOT_REACHED:
            return first
        same = (second.outcome, second.changed) == (first.outcome, first.changed)
        if first.changed is None:
            return replace(first, same=same)
        if first.outcome != CHANGED:  # its own output is the document itself
            return replace(first, same=same, stable=same)
        rehearsed_output = self._first(transform, first.changed, first.phase, until)
        stable = (
            None
            if rehearsed_output.outcome in (NOT_SHOWN, NOT_REACHED)
            else rehearsed_output.changed == first.changed
        )
        return replace(first, same=same, stable=stable)

    def _write(self, phase: Phase, *, marked: bool) -> Write:
        run = self._run
        batch = Batch(run=run.id, seq=0, leg=0, phase=phase, claimed_at=self._now)
        return Write(
            eligible={}, until=self._now, mark=run.marking if marked else Filter(), token=batch.token,
            variables=batch.variables if run.declarative else {}, reads=self._definition.reads,
            undo=run.undoing if marked else None,
        )  # fmt: skip


def _ended_process(first: RehearsedDocument) -> bool:
    """Whether the call ended its process: once is enough."""
    return first.failure is not None and first.failure.kind in (FailureKind.HANG, FailureKind.DEATH)


@dataclass(frozen=True, slots=True)
class _Called:
    """Calls a function, for at most its own time limit and what is left of the dry run's."""

    call: "_Call"
    timeout: float
    until: float

    def change(self, document: bytes) -> FunctionAnswer:
        """Calls the function. Raises TimeoutError where the dry run's time is over before the function's own."""
        remaining = self.until - time.monotonic()
        answer = self.call(document, min(self.timeout, max(remaining, 0.0)))
        outcome = answer.outcome
        if (
            isinstance(outcome, FailedDocument)
            and outcome.kind is FailureKind.HANG
            and remaining < self.timeout
        ):
            raise TimeoutError
        return answer


class _Call(Protocol):
    def __call__(self, document: bytes, seconds: float) -> FunctionAnswer: ...
