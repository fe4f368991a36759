"""A batch of a verification: looks at every document of its range, lists what is wrong, and writes nothing but that.

Worked through again after a crash it begins anew: what it found first is listed already, and counted once, when it settles.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor

from bson import ObjectId

from whimbrel.domain.bson.raw_bson import Key, keys_under
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.migrations.before_images import image_path
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import CLAIMED, SUFFIX, read_stamp
from whimbrel.domain.migrations.migration import Definition
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
from whimbrel.engine.verifying.copied_documents import came_since
from whimbrel.errors import RunUnknown, TooSlow, Transient
from whimbrel.ports import Documents, Examiner, Ledger, Marked, Query

TOGETHER = 25  # chunks that are looked at in one statement
CLOCKS = 60  # seconds by which clocks of hosts may differ
TOKEN = re.compile(r"[0-9a-z-]+\.[0-9]+")


@dataclass(slots=True)
class Findings:
    """What came of looking: numbers, and what is wrong with single documents, one thing each."""

    tally: MarkTally = field(default_factory=MarkTally)
    troubles: dict[Key, FailedDocument] = field(default_factory=dict)

    def list(self, keys: Sequence[Key], type_: str, message: str) -> None:
        for key in keys:
            self._put(FailedDocument(key=key, kind=FailureKind.DATA, type=type_, message=message))

    def count(self, name: str, number: int) -> None:
        if number:
            self.tally.numbers[name] += number

    def add(self, other: "Findings") -> None:
        self.tally.numbers.update(other.tally.numbers)
        self.tally.marks.update(other.tally.marks)
        for each in other.troubles.values():
            self._put(each)

    def _put(self, trouble: FailedDocument) -> None:
        """One of each document, the first: but for what may be taken back."""
        if trouble.key not in self.troubles or self.troubles[trouble.key].message == UNTOLD:
            self.troubles[trouble.key] = trouble


@dataclass(frozen=True, slots=True)
class Examination:
    """A run that is verified, and what all looks of one batch at it need."""

    run: Run
    retrying: Retrying
    ledger: Ledger
    definition: Definition
    transform: Transform
    step: Step
    born: (
        ObjectId  # ids from here on were made after the run had begun to look at everything for the last time
    )
    before: ObjectId  # ids below were made before the run began
    bound: Key | None  # the run has looked at nothing behind; None where that is not known
    excluded: Query  # not the documents with a row of their own

    @property
    def pace(self) -> Pace:
        return self.retrying.pace

    @property
    def lease(self) -> Lease:
        """On the batch of the verification."""
        return self.pace.lease

    @property
    def documents(self) -> Documents:
        return self.retrying.documents

    @property
    def examiner(self) -> Examiner:
        return self.documents.examiner

    @property
    def phase(self) -> Query:
        """What a document satisfies that the run should have taken, and has not."""
        phase = "sweep" if self.run.scope.swept and "sweep" in self.run.legs else self.run.legs[0]
        return all_of(eligible(self.run, phase), self.excluded)

    @property
    def whole(self) -> bool:
        """Whether the run says that nothing is left."""
        return self.run.scope.swept and self.run.status in (
            RunStatus.COMPLETED,
            RunStatus.COMPLETED_WITH_FAILURES,
        )


def examination_of(
    retrying: Retrying, ledger: Ledger, definition: Definition, transform: Transform, step: Step
) -> Examination:
    """Raises RunUnknown where somebody has removed the run that is verified."""
    lease = retrying.pace.lease
    run = ledger.runs.get(lease.run.of or "")
    if run is None:
        raise RunUnknown(f"Run {lease.run.of} is gone from the ledger: it cannot be verified any more.")
    run = with_newest_rollback(ledger, run)
    kept = ledger.failures.excluded(run.undone_by or run.id, lease.batch.range)
    excluded: Query = {"_id": keys_under("$nin", kept)} if kept else {}
    born = _object_id(_last_look(ledger, run), 1)
    before = _object_id(run.started_at or run.created_at, -CLOCKS)
    return Examination(
        run, retrying, ledger, definition, transform, step, born, before, bound(ledger, run), excluded
    )


def _object_id(at: datetime, seconds: int) -> ObjectId:
    """The least that is made in that second."""
    return ObjectId((floor(at.timestamp()) + seconds).to_bytes(4, "big") + bytes(8))


def _last_look(ledger: Ledger, run: Run) -> datetime:
    """When the run began to look at everything for the last time, or a little before."""
    began = (ledger.proofs.began(run.id, leg) for leg in run.looks)
    return next((at for at in began if at is not None), run.started_at or run.created_at)


def examine_range(examination: Examination) -> Findings:
    """Every document of the batch's range: several chunks in one statement, or less where a rate or the time limit wants it."""
    found, todo, together = Findings(), examination.lease.batch.ranges, TOGETHER
    while todo:
        taken = 1 if examination.pace.rate is not None else min(together, len(todo))
        if taken == 1:
            for part in chunk_parts(
                examination.documents,
                BatchSelection(examination.lease, examination.pace.tally),
                examination.pace,
                todo[0],
            ):
                found.add(_seen(examination, part))
        else:
            try:
                found.add(_seen(examination, Range(todo[0].lo, todo[taken - 1].hi), but=TooSlow))
            except TooSlow:
                together = 1
                continue
        todo = todo[taken:]
    return found


def _seen(
    examination: Examination, where: Range, *, but: tuple[type[Transient], ...] | type[Transient] = ()
) -> Findings:
    seen = examination.retrying.until_done(lambda: _look(examination, where), not_retried=but)
    examination.pace.tally.owed += seen.tally.numbers["looked"]
    examination.step("V1")
    return seen


def _look(examination: Examination, where: Range) -> Findings:
    found = Findings()
    if examination.run.undone_by is not None:
        found.count("looked", examination.examiner.count(where, {}))
        _look_for_remains(examination, where, found)
        return found
    path = examination.run.marking.path
    if path is None:
        found.count("looked", examination.examiner.count(where, {}))
        _look_for_left(examination, where, found)
        return found
    marked = examination.examiner.marks(where, path)
    found.count("looked", sum(each.count for each in marked))
    _judge_marks(examination, where, path, marked, found)
    if examination.run.mark == "status" or any(each.missing for each in marked):
        _look_for_left(examination, where, found)
    return found


def _look_for_left(examination: Examination, where: Range, found: Findings) -> None:
    """Documents that are still not migrated.

    Those behind what the run has looked at, and those whose id is younger than its last look, came later. Of others that tells only
    an id from before the run: the rest may have been inserted since, between those that are there. Where documents bear no marks,
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
    back: list[Query] = []
    if examination.run.marking.path is not None:
        back.append(
            {examination.run.marking.path: token_condition(examination.run.id)}
        )  # the run has had it in hand
        query = all_of(examination.phase, *back, {"$nor": newer})
        _count_left(examination, where, query, found, ("set back", SET_BACK))
    found.count("newer", examination.examiner.count(where, all_of(examination.phase, {"$or": newer})))
    query = all_of(examination.phase, older, {"$nor": [*back, *newer]})
    _count_left(examination, where, query, found, ("left", WITHOUT_REASON))
    _count_left(
        examination,
        where,
        all_of(examination.phase, {"$nor": [older, *back, *newer]}),
        found,
        ("untold", UNTOLD),
    )


def _count_left(
    examination: Examination, where: Range, query: Query, found: Findings, names: tuple[str, str]
) -> None:
    keys = examination.examiner.keys(where, query, LISTED)
    found.count(names[0], examination.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    if examination.whole:
        found.list(keys, LEFT, names[1])


def _judge_marks(
    examination: Examination, where: Range, path: str, marked: Sequence[Marked], found: Findings
) -> None:
    """Marks must name a batch of the ledger; those of this run must lie inside it."""
    extents = {}
    for each in marked:
        if each.value is not None and TOKEN.fullmatch(token := read_stamp(each.value)[0]):
            extents[each.value] = token, each.low, each.high
    known, inside = examination.ledger.proofs.placed(extents)
    for each in marked:
        if each.value is None:
            continue
        token, outcome = read_stamp(each.value)
        if token not in known or outcome not in SUFFIX:
            found.count("unknown", each.count)
            message = f"The mark {each.value!r:.80} names no batch of the ledger."
            found.list(examination.examiner.keys(where, {path: each.value}, LISTED), UNKNOWN_MARK, message)
        elif token.partition(".")[0] == examination.run.id:
            found.tally.marks[each.value] += each.count
            since, untold = came_since(each, born=examination.born, before=examination.before)
            found.count("marked since", since)
            found.count("marked untold", untold)
            if outcome == CLAIMED or each.value not in inside:
                _judge_own(examination, where, path, each.value, found)
        else:
            found.count("of other runs", each.count)
    odd = sum(each.count for each in marked if each.value is None and not each.missing)
    if odd:
        found.count("unknown", odd)
        query = {"$and": [{path: {"$exists": True}}, {path: {"$not": {"$type": ["string", "null"]}}}]}
        found.list(examination.examiner.keys(where, query, LISTED), UNKNOWN_MARK, "The mark is no text.")


def _judge_own(examination: Examination, where: Range, path: str, value: str, found: Findings) -> None:
    """Documents with a mark of this run that does not say that they are done, or is not theirs."""
    token, outcome = read_stamp(value)
    if outcome == CLAIMED:
        keys = examination.examiner.keys(where, {path: value}, LISTED)
        found.count("unfinished", examination.examiner.count(where, {path: value}))
        message = (
            f"The mark {value!r} says that the function has the document in hand, but the run has ended."
        )
        found.list(keys, MARK_UNFINISHED, message)
    batch = examination.ledger.batches.get(token)
    if batch is not None and batch.ids is None:
        number, keys = examination.examiner.outside(where, batch, {path: value}, LISTED)
        found.count("outside", number)
        found.list(
            keys, MARK_OUTSIDE, f"The mark {value!r} is of a batch whose range does not hold this document."
        )


def _look_for_remains(examination: Examination, where: Range, found: Findings) -> None:
    """After a rollback: images and marks of the run, but on the conflicts that the rollback has listed."""
    ours, path = token_condition(examination.run.id), examination.run.marking.path
    places: list[Query] = [{f"{image_path(examination.run.migration, examination.run.version)}.token": ours}]
    places += [{path: ours}] if path else []
    query = all_of({"$or": places}, examination.excluded)
    keys = examination.examiner.keys(where, query, LISTED)
    found.count("left", examination.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    found.list(
        keys,
        NOT_TAKEN_BACK,
        f"The document still bears marks of run {examination.run.id}, which was rolled back.",
    )


def settled_counts(found: Findings) -> Counts:
    """Documents without a finding count as unchanged: a verification changes nothing."""
    return Counts(unchanged=max(0, found.tally.numbers["looked"] - len(found.troubles)))
