"""A batch of a verification: examines every document of its range, lists what is wrong, and writes nothing else.

Repeated after a crash, it starts again: what it found first is listed already, and counted once, when it settles.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor

from bson import ObjectId

from whimbrel.domain.bson.raw_bson import Key, keys_under
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.before_images import image_path
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import CLAIMED, SUFFIX, read_stamp, stamp
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts, Run, eligible
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.verification import (
    LEFT,
    LISTED,
    MARK_OUTSIDE,
    MARK_UNFINISHED,
    NOT_TAKEN_BACK,
    SET_BACK,
    UNKNOWN_MARK,
    UNTOLD,
    WITHOUT_REASON,
    MarkTally,
)
from whimbrel.engine.executing.declarative import chunk_parts
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.retrying import Retrying
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.operating.follow_up_runs import token_condition, with_newest_rollback
from whimbrel.engine.planning.tiling import bound
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.verifying.copied_documents import count_inserted_since
from whimbrel.errors import RunUnknown, TooSlow, Transient
from whimbrel.ports import Documents, Examiner, Ledger, Marked, Query

TOGETHER = 25  # chunks examined by one statement
CLOCKS = 60  # seconds by which the clocks of hosts may differ
TOKEN = re.compile(r"[0-9a-z-]+\.[0-9]+")


@dataclass(slots=True)
class Findings:
    """The result of examining: numbers, and what is wrong with single documents, one thing for each."""

    tally: MarkTally = field(default_factory=MarkTally)
    failures: dict[Key, FailedDocument] = field(default_factory=dict)

    def list(self, keys: Sequence[Key], type_: str, message: str) -> None:
        for key in keys:
            self._keep_first(FailedDocument(key=key, kind=FailureKind.DATA, type=type_, message=message))

    def count(self, name: str, number: int) -> None:
        if number:
            self.tally.numbers[name] += number

    def add(self, other: "Findings") -> None:
        self.tally.numbers.update(other.tally.numbers)
        self.tally.marks.update(other.tally.marks)
        for failure in other.failures.values():
            self._keep_first(failure)

    def _keep_first(self, failure: FailedDocument) -> None:
        """Keeps the first failure of each document, but replaces one that may be withdrawn."""
        if failure.key not in self.failures or self.failures[failure.key].message == UNTOLD:
            self.failures[failure.key] = failure


@dataclass(frozen=True, slots=True)
class Examination:
    """A run that is verified, and what examining it in one batch needs."""

    run: Run
    retrying: Retrying
    ledger: Ledger
    definition: Definition
    transform: Transform
    step: Step
    born: ObjectId  # ids from here on were made after the run had begun its last look at everything
    before: ObjectId  # ids below were made before the run began
    bound: Key | None  # the run has looked at nothing behind it; None where that is not known
    excluded: Query  # leaves out the documents with a failure row

    @property
    def pace(self) -> Pace:
        return self.retrying.pace

    @property
    def lease(self) -> Lease:
        """The lease on the batch of the verification."""
        return self.pace.lease

    @property
    def documents(self) -> Documents:
        return self.retrying.documents

    @property
    def examiner(self) -> Examiner:
        return self.documents.examiner

    @property
    def phase(self) -> Query:
        """The condition of documents that the run should have taken, and has not."""
        phase = "sweep" if self.run.scope.swept and "sweep" in self.run.legs else self.run.legs[0]
        return all_of(eligible(self.run, phase), self.excluded)

    @property
    def complete(self) -> bool:
        """Whether the run claims that nothing is left."""
        return self.run.scope.swept and self.run.status in (
            RunStatus.COMPLETED,
            RunStatus.COMPLETED_WITH_FAILURES,
        )


def examination_of(
    retrying: Retrying, ledger: Ledger, definition: Definition, transform: Transform, step: Step
) -> Examination:
    """Composes the examination. Raises RunUnknown where somebody has removed the verified run."""
    lease = retrying.pace.lease
    run = ledger.runs.get(lease.run.of or "")
    if run is None:
        raise RunUnknown(f"Run {lease.run.of} is gone from the ledger: it cannot be verified any more.")
    run = with_newest_rollback(ledger, run)
    with_rows = ledger.failures.excluded(run.undone_by or run.id, lease.batch.range)
    excluded: Query = {"_id": keys_under("$nin", with_rows)} if with_rows else {}
    born = _object_id(_last_look(ledger, run), 1)
    before = _object_id(run.started_at or run.created_at, -CLOCKS)
    return Examination(
        run, retrying, ledger, definition, transform, step, born, before, bound(ledger, run), excluded
    )


def _object_id(moment: datetime, seconds: int) -> ObjectId:
    """Returns the smallest id that is made in that second."""
    return ObjectId((floor(moment.timestamp()) + seconds).to_bytes(4, "big") + bytes(8))


def _last_look(ledger: Ledger, run: Run) -> datetime:
    """Returns when the run began to look at everything for the last time, or a little before."""
    began = (ledger.proofs.began(run.id, leg) for leg in run.looks)
    return next((moment for moment in began if moment is not None), run.started_at or run.created_at)


def examine_range(examination: Examination) -> Findings:
    """Examines every document of the batch's range: several chunks by one statement, or fewer where a rate or the time limit demands it."""
    findings, todo, together = Findings(), examination.lease.batch.ranges, TOGETHER
    while todo:
        count = 1 if examination.pace.rate is not None else min(together, len(todo))
        if count == 1:
            for part in chunk_parts(
                examination.documents,
                BatchSelection(examination.lease, examination.pace.tally),
                examination.pace,
                todo[0],
            ):
                findings.add(_examine_counted(examination, part))
        else:
            try:
                findings.add(
                    _examine_counted(examination, Range(todo[0].lo, todo[count - 1].hi), not_retried=TooSlow)
                )
            except TooSlow:
                together = 1
                continue
        todo = todo[count:]
    return findings


def _examine_counted(
    examination: Examination, where: Range, *, not_retried: tuple[type[Transient], ...] | type[Transient] = ()
) -> Findings:
    findings = examination.retrying.until_done(lambda: _examine(examination, where), not_retried=not_retried)
    examination.pace.tally.owed += findings.tally.numbers["looked"]
    examination.step("V1")
    return findings


def _examine(examination: Examination, where: Range) -> Findings:
    findings = Findings()
    if examination.run.undone_by is not None:
        findings.count("looked", examination.examiner.count(where, {}))
        _find_remains(examination, where, findings)
        return findings
    path = examination.run.marking.path
    if path is None:
        findings.count("looked", examination.examiner.count(where, {}))
        _find_unmigrated(examination, where, findings)
        return findings
    marked = examination.examiner.marks(where, path)
    findings.count("looked", sum(marked_group.count for marked_group in marked))
    _check_marks(examination, where, path, marked, findings)
    if examination.run.mark == "status" or any(marked_group.missing for marked_group in marked):
        _find_unmigrated(examination, where, findings)
    return findings


def _find_unmigrated(examination: Examination, where: Range, findings: Findings) -> None:
    """Finds documents that are still not migrated.

    Those behind what the run has looked at, and those whose id is younger than its last look, came later. For the others only
    an id from before the run is proof: the rest may have been inserted since, between existing documents. Where documents bear no marks,
    the oldest may have been set back.
    """
    if not examination.examiner.keys(where, examination.phase, 1):
        return
    newer: list[Query] = [{"_id": {"$gte": examination.born}}]
    if examination.bound is not None:
        newer.append({"$expr": {"$gt": ["$_id", examination.bound.literal()]}})
    older: Query = (
        {"_id": {"$lt": examination.before}}
        if examination.run.marking.path is not None
        else {"_id": {"$in": []}}
    )
    set_back: list[Query] = []
    if examination.run.marking.path is not None:
        # Documents that the run has worked on.
        set_back.append({examination.run.marking.path: token_condition(examination.run.id)})
        query = all_of(examination.phase, *set_back, {"$nor": newer})
        _count_left(examination, where, query, findings, ("set back", SET_BACK))
    findings.count("newer", examination.examiner.count(where, all_of(examination.phase, {"$or": newer})))
    query = all_of(examination.phase, older, {"$nor": [*set_back, *newer]})
    _count_left(examination, where, query, findings, ("left", WITHOUT_REASON))
    _count_left(
        examination,
        where,
        all_of(examination.phase, {"$nor": [older, *set_back, *newer]}),
        findings,
        ("untold", UNTOLD),
    )


def _count_left(
    examination: Examination, where: Range, query: Query, findings: Findings, names: tuple[str, str]
) -> None:
    keys = examination.examiner.keys(where, query, LISTED)
    findings.count(names[0], examination.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    if examination.complete:
        findings.list(keys, LEFT, names[1])


def _check_marks(
    examination: Examination, where: Range, path: str, marked: Sequence[Marked], findings: Findings
) -> None:
    """Checks that marks name a batch of the ledger, and that those of this run lie inside it."""
    extents = {}
    for marked_group in marked:
        if marked_group.value is not None and TOKEN.fullmatch(token := read_stamp(marked_group.value)[0]):
            extents[marked_group.value] = token, marked_group.low, marked_group.high
    known, inside = examination.ledger.proofs.placed(extents)
    merged = _merged_batches(examination, extents, known)
    for marked_group in marked:
        if marked_group.value is None:
            continue
        token, outcome = read_stamp(marked_group.value)
        if (token not in known and token not in merged) or outcome not in SUFFIX:
            findings.count("unknown", marked_group.count)
            message = f"The mark {marked_group.value!r:.80} names no batch of the ledger."
            findings.list(
                examination.examiner.keys(where, {path: marked_group.value}, LISTED), UNKNOWN_MARK, message
            )
        elif token.partition(".")[0] == examination.run.id:
            findings.tally.marks[stamp(merged.get(token, token), outcome)] += marked_group.count
            since, untold = count_inserted_since(
                marked_group, born=examination.born, before=examination.before
            )
            findings.count("marked since", since)
            findings.count("marked untold", untold)
            if outcome == CLAIMED or (marked_group.value not in inside and token not in merged):
                _check_own_mark(examination, where, path, marked_group.value, findings)
        else:
            findings.count("of other runs", marked_group.count)
    not_text = sum(
        marked_group.count
        for marked_group in marked
        if marked_group.value is None and not marked_group.missing
    )
    if not_text:
        findings.count("unknown", not_text)
        query = {"$and": [{path: {"$exists": True}}, {path: {"$not": {"$type": ["string", "null"]}}}]}
        findings.list(examination.examiner.keys(where, query, LISTED), UNKNOWN_MARK, "The mark is no text.")


def _merged_batches(
    examination: Examination, extents: Mapping[str, tuple[str, Key, Key]], known: Collection[str]
) -> Mapping[str, str]:
    """Returns in which batches those are counted that were merged while a run followed. Of no other run any were."""
    unknown = {token for token, _, _ in extents.values() if token not in known}
    return examination.ledger.proofs.merged(unknown) if unknown else {}


def _check_own_mark(
    examination: Examination, where: Range, path: str, value: str, findings: Findings
) -> None:
    """Lists documents with a mark of this run that does not say that they are done, or is not theirs."""
    token, outcome = read_stamp(value)
    if outcome == CLAIMED:
        keys = examination.examiner.keys(where, {path: value}, LISTED)
        findings.count("unfinished", examination.examiner.count(where, {path: value}))
        message = (
            f"The mark {value!r} says that the function has the document in hand, but the run has ended."
        )
        findings.list(keys, MARK_UNFINISHED, message)
    batch = examination.ledger.batches.get(token)
    if batch is not None and batch.ids is None:
        number, keys = examination.examiner.outside(where, batch, {path: value}, LISTED)
        findings.count("outside", number)
        findings.list(
            keys, MARK_OUTSIDE, f"The mark {value!r} is of a batch whose range does not hold this document."
        )


def _find_remains(examination: Examination, where: Range, findings: Findings) -> None:
    """After a rollback: lists documents with images or marks of the run, except the conflicts that the rollback has listed."""
    token_of_run, path = token_condition(examination.run.id), examination.run.marking.path
    places: list[Query] = [
        {f"{image_path(examination.run.migration, examination.run.version)}.token": token_of_run}
    ]
    places += [{path: token_of_run}] if path else []
    query = all_of({"$or": places}, examination.excluded)
    keys = examination.examiner.keys(where, query, LISTED)
    findings.count("left", examination.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    findings.list(
        keys,
        NOT_TAKEN_BACK,
        f"The document still bears marks of run {examination.run.id}, which was rolled back.",
    )


def settled_counts(findings: Findings) -> Counts:
    """Counts documents without a finding as unchanged: a verification changes nothing."""
    return Counts(unchanged=max(0, findings.tally.numbers["looked"] - len(findings.failures)))
