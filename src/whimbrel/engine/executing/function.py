"""Executing a function: read a chunk, call, write by columns, each document only if it still is what was read."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.changes import Skipped, Unchanged
from whimbrel.domain.migrations.marks import CLAIMED, DONE, SUFFIX, stamp
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.batches import Range
from whimbrel.engine.executing.document_pages import Pages
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.failure_recording import FailureRecorder
from whimbrel.engine.executing.function_calls import jitter
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.progress_notes import ProgressNotes
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, GuardedChange, Ledger

TRIES = 4  # of one document that the application keeps changing, within one batch


@dataclass(frozen=True, slots=True)
class ByFunction:
    """Changes the documents of a claimed batch by what a function returns for them."""

    definition: Definition
    transform: Transform
    pages: Pages
    documents: Documents
    ledger: Ledger
    lease: Lease
    selection: BatchSelection
    pace: Pace
    recorder: FailureRecorder
    notes: ProgressNotes
    step: Step

    def change_range(self, where: Range) -> None:
        """All eligible documents of a range."""
        self._work_off(self.pages.of_range(where), {}, told=True)

    def change_keys(self, attempts: Mapping[Key, int]) -> None:
        """The documents of these keys, as far as they are eligible still. `attempts`: the how-manieth try that is of each."""
        keys = list(attempts)
        while keys:
            part = keys[: self.pages.limit]
            self._work_off(self.pages.of_keys(part), attempts, told=False)
            keys = keys[len(part) :]
            if keys:
                self.notes.reached(part[-1])

    def account(self, where: Range | Sequence[Key]) -> str:
        """The statement that reads these documents, and its plan."""
        return self.documents.account(where, None, self.selection.write())

    def _work_off(self, pages: Iterator[Sequence[bytes]], attempts: Mapping[Key, int], *, told: bool) -> None:
        """Ask for every document of the pages: what one chunk does not reach of a page, the next begins with. Its guard protects it.

        `told`: after each chunk it is told how far that is.
        """
        solo = self.lease.batch.solo
        for page in pages:
            self.step("S4")
            done = 0
            while rest := page[done:]:
                self.pace.between_chunks()
                started = time.monotonic()
                reached = self._alone(rest[0], attempts, told=told) if solo else self._chunk(rest, attempts)
                self.pages.seen(rest, reached, time.monotonic() - started)
                done += reached
                if told and not solo:
                    self.notes.reached(Key.of_document(rest[reached - 1]))

    def _chunk(self, documents: Sequence[bytes], attempts: Mapping[Key, int]) -> int:
        """Ask what becomes of documents, and write it: how many of them were reached in the chunk's time."""
        if self.lease.run.claim:
            claimed = self._claim(documents)
            if claimed:
                self._change(claimed, attempts, until=float("inf"))
            return len(documents)
        return self._change(documents, attempts, until=time.monotonic() + self.pace.times.chunk)

    def _alone(self, document: bytes, attempts: Mapping[Key, int], *, told: bool) -> int:
        """One document at a time, its key in the ledger while it is in hand: should it kill this process, it is named."""
        key = Key.of_document(document)
        self.notes.suspect(key)
        found = self._claim([document]) if self.lease.run.claim else [document]
        if found:
            self._change(found, attempts, until=float("inf"))
        self.notes.cleared(key if told else None)
        return 1

    def _claim(self, documents: Sequence[bytes]) -> Sequence[bytes]:
        """Show in the documents that they are being worked on, before the function is called: those that were claimed."""
        fields = {
            self.lease.run.status_field: "processing",
            "processingStartedAt": "$$NOW",
            "processedBy": stamp(self.lease.batch.token, CLAIMED),
        }
        keys = [Key.of_document(document) for document in documents]
        claimed: Sequence[bytes] = ()
        left = documents
        for attempt in range(TRIES):
            guarded = [GuardedChange(Key.of_document(document), document, Unchanged()) for document in left]
            self.recorder.fail(self.documents.claim(guarded, fields, self.selection.write()))
            claimed = self.documents.read_keys(keys, self.selection.writable)
            found = {Key.of_document(document) for document in claimed}
            missing = [key for key in keys if key not in found]
            left = self.documents.read_keys(missing, self.selection.eligible) if missing else ()
            if not left:
                return claimed
            self._wait(attempt)
        self.recorder.fail([_conflict(Key.of_document(document)) for document in left])
        return claimed

    def _change(self, documents: Sequence[bytes], attempts: Mapping[Key, int], *, until: float) -> int:
        asked = self.transform(self.definition, self.lease.batch, documents, attempts, until=until)
        self.step("S5")
        troubles = asked.troubles
        todo = asked.guarded
        for attempt in range(TRIES):
            doubtful, refused = self._write(todo)
            troubles += refused
            if not doubtful:
                break
            again = self.documents.read_keys(doubtful, self.selection.writable)
            if attempt == TRIES - 1:
                troubles += [_conflict(Key.of_document(document)) for document in again]
                break
            self._wait(attempt)
            once_more = self.transform(self.definition, self.lease.batch, again, attempts, until=float("inf"))
            todo, troubles = once_more.guarded, troubles + once_more.troubles
        self.recorder.fail(troubles)
        return asked.done

    def _wait(self, attempt: int) -> None:
        """The application has changed documents between our read and our write: a moment, before they are read again."""
        time.sleep(jitter(attempt))
        self.lease.renew(self.ledger.batches)

    def _write(self, documents: Sequence[GuardedChange]) -> tuple[list[Key], list[FailedDocument]]:
        """S6. Returns the documents that were not written though nothing refused them, and those that were refused."""
        tally, marked = self.pace.tally, self.lease.run.marking.path
        passed = [
            each for each in documents if marked is None and isinstance(each.change, Skipped | Unchanged)
        ]
        if passed:
            outcomes = {each.key: each.outcome for each in passed}
            self.ledger.failures.pass_over(self.lease.run, self.lease.batch, outcomes)
            for each in passed:
                tally.count(1, each.outcome)
        sent = [
            each
            for each in documents
            if marked is not None or not isinstance(each.change, Skipped | Unchanged)
        ]
        if not sent:
            return [], []
        written = self.documents.write(sent, self.selection.write(reads=self.definition.reads))
        self.step("S6")
        if not written.clean and marked is None:  # else they are counted by their tokens below
            tally.broken = True
        doubtful = {each.key for each in written.doubtful}
        refused = {each.key for each in written.troubles}
        for each in sent:
            if each.key not in doubtful and each.key not in refused:
                tally.count(1, each.outcome)
        applied = written.applied - (len(sent) - len(doubtful) - len(refused))
        return self._undone(doubtful, applied), list(written.troubles)

    def _undone(self, doubtful: set[Key], applied: int) -> list[Key]:
        """Which doubtful documents do not bear our token: they were not written."""
        if not doubtful:
            return []
        keys = sorted(doubtful, key=lambda key: key.raw)
        path = self.lease.run.marking.path
        if path is None:
            self.pace.tally.count(max(applied, 0))
            return keys
        outcomes = {self.lease.batch.token + SUFFIX[outcome]: outcome for outcome in DONE}
        undone = []
        tokens = self.documents.tokens(keys, path)
        for key in keys:
            outcome = outcomes.get(tokens.get(key, ""))
            if outcome is None:
                undone.append(key)
            else:
                self.pace.tally.count(1, outcome)
        return undone


def _conflict(key: Key) -> FailedDocument:
    return FailedDocument(
        key=key, kind=FailureKind.CONFLICT, type="Conflict",
        message=f"The application changed the document between our read and our write, {TRIES} times in a row.",
    )  # fmt: skip
