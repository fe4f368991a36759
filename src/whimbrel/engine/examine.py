"""A batch of a verification: looks at every document of its range, lists what is wrong, and writes nothing but that.

Worked through again after a crash it begins anew: what it found first is listed already, and counted once, when it settles.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor

from bson import ObjectId

from whimbrel.domain.batches import Range
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.filters import all_of
from whimbrel.domain.images import image_path
from whimbrel.domain.marks import CLAIMED, SUFFIX, read_stamp
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key, keys_under
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.domain.states import RunStatus
from whimbrel.domain.verification import (
    LEFT,
    LISTED,
    MARK_OUTSIDE,
    MARK_UNFINISHED,
    NOT_TAKEN_BACK,
    SET_BACK,
    UNKNOWN_MARK,
    UNTOLD,
    WITHOUT_REASON,
    Tally,
)
from whimbrel.engine.copies import came_since
from whimbrel.engine.declarative import parts
from whimbrel.engine.eligibility import Selection
from whimbrel.engine.follow_up import as_undone, tokens_of
from whimbrel.engine.lease import Lease
from whimbrel.engine.pace import Pace
from whimbrel.engine.patience import Patience
from whimbrel.engine.steps import Step
from whimbrel.engine.tiling import bound
from whimbrel.engine.transform import Transform
from whimbrel.errors import RunUnknown, TooSlow, Transient
from whimbrel.ports import Documents, Examiner, Ledger, Marked, Query

TOGETHER = 25  # chunks that are looked at in one statement
CLOCKS = 60  # seconds by which clocks of hosts may differ
TOKEN = re.compile(r"[0-9a-z-]+\.[0-9]+")


@dataclass(slots=True)
class Found:
    """What came of looking: numbers, and what is wrong with single documents, one thing each."""

    tally: Tally = field(default_factory=Tally)
    troubles: dict[Key, Trouble] = field(default_factory=dict)

    def list(self, keys: Sequence[Key], type_: str, message: str) -> None:
        for key in keys:
            self._put(Trouble(key=key, kind=Kind.DATA, type=type_, message=message))

    def count(self, name: str, number: int) -> None:
        if number:
            self.tally.numbers[name] += number

    def add(self, other: "Found") -> None:
        self.tally.numbers.update(other.tally.numbers)
        self.tally.marks.update(other.tally.marks)
        for each in other.troubles.values():
            self._put(each)

    def _put(self, trouble: Trouble) -> None:
        """One of each document, the first: but for what may be taken back."""
        if trouble.key not in self.troubles or self.troubles[trouble.key].message == UNTOLD:
            self.troubles[trouble.key] = trouble


@dataclass(frozen=True, slots=True)
class Looking:
    """A run that is verified, and what all looks of one batch at it need."""

    run: Run
    patience: Patience
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
        return self.patience.pace

    @property
    def lease(self) -> Lease:
        """On the batch of the verification."""
        return self.pace.lease

    @property
    def documents(self) -> Documents:
        return self.patience.documents

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


def looking_at(
    patience: Patience, ledger: Ledger, definition: Definition, transform: Transform, step: Step
) -> Looking:
    """Raises RunUnknown where somebody has removed the run that is verified."""
    lease = patience.pace.lease
    run = ledger.runs.get(lease.run.of or "")
    if run is None:
        raise RunUnknown(f"Run {lease.run.of} is gone from the ledger: it cannot be verified any more.")
    run = as_undone(ledger, run)
    kept = ledger.failures.excluded(run.undone_by or run.id, lease.batch.range)
    excluded: Query = {"_id": keys_under("$nin", kept)} if kept else {}
    born = _object_id(_last_look(ledger, run), 1)
    before = _object_id(run.started_at or run.created_at, -CLOCKS)
    return Looking(
        run, patience, ledger, definition, transform, step, born, before, bound(ledger, run), excluded
    )


def _object_id(at: datetime, seconds: int) -> ObjectId:
    """The least that is made in that second."""
    return ObjectId((floor(at.timestamp()) + seconds).to_bytes(4, "big") + bytes(8))


def _last_look(ledger: Ledger, run: Run) -> datetime:
    """When the run began to look at everything for the last time, or a little before."""
    began = (ledger.proofs.began(run.id, leg) for leg in run.looks)
    return next((at for at in began if at is not None), run.started_at or run.created_at)


def look_through(at: Looking) -> Found:
    """Every document of the batch's range: several chunks in one statement, or less where a rate or the time limit wants it."""
    found, todo, together = Found(), at.lease.batch.ranges, TOGETHER
    while todo:
        taken = 1 if at.pace.rate is not None else min(together, len(todo))
        if taken == 1:
            for part in parts(at.documents, Selection(at.lease, at.pace.tally), at.pace, todo[0]):
                found.add(_seen(at, part))
        else:
            try:
                found.add(_seen(at, Range(todo[0].lo, todo[taken - 1].hi), but=TooSlow))
            except TooSlow:
                together = 1
                continue
        todo = todo[taken:]
    return found


def _seen(at: Looking, where: Range, *, but: tuple[type[Transient], ...] | type[Transient] = ()) -> Found:
    seen = at.patience.until_done(lambda: _look(at, where), but=but)
    at.pace.tally.owed += seen.tally.numbers["looked"]
    at.step("V1")
    return seen


def _look(at: Looking, where: Range) -> Found:
    found = Found()
    if at.run.undone_by is not None:
        found.count("looked", at.examiner.count(where, {}))
        _look_for_remains(at, where, found)
        return found
    path = at.run.marking.path
    if path is None:
        found.count("looked", at.examiner.count(where, {}))
        _look_for_left(at, where, found)
        return found
    marked = at.examiner.marks(where, path)
    found.count("looked", sum(each.count for each in marked))
    _judge_marks(at, where, path, marked, found)
    if at.run.mark == "status" or any(each.missing for each in marked):
        _look_for_left(at, where, found)
    return found


def _look_for_left(at: Looking, where: Range, found: Found) -> None:
    """Documents that are still not migrated.

    Those behind what the run has looked at, and those whose id is younger than its last look, came later. Of others that tells only
    an id from before the run: the rest may have been inserted since, between those that are there. Where documents bear no marks,
    the oldest may have been set back.
    """
    if not at.examiner.keys(where, at.phase, 1):
        return
    newer: list[Query] = [{"_id": {"$gte": at.born}}]
    if at.bound is not None:
        newer.append({"$expr": {"$gt": ["$_id", at.bound.literal()]}})
    older: Query = {"_id": {"$lt": at.before}} if at.run.marking.path is not None else {"_id": {"$in": []}}
    back: list[Query] = []
    if at.run.marking.path is not None:
        back.append({at.run.marking.path: tokens_of(at.run.id)})  # the run has had it in hand
        query = all_of(at.phase, *back, {"$nor": newer})
        _count_left(at, where, query, found, ("set back", SET_BACK))
    found.count("newer", at.examiner.count(where, all_of(at.phase, {"$or": newer})))
    query = all_of(at.phase, older, {"$nor": [*back, *newer]})
    _count_left(at, where, query, found, ("left", WITHOUT_REASON))
    _count_left(at, where, all_of(at.phase, {"$nor": [older, *back, *newer]}), found, ("untold", UNTOLD))


def _count_left(at: Looking, where: Range, query: Query, found: Found, names: tuple[str, str]) -> None:
    keys = at.examiner.keys(where, query, LISTED)
    found.count(names[0], at.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    if at.whole:
        found.list(keys, LEFT, names[1])


def _judge_marks(at: Looking, where: Range, path: str, marked: Sequence[Marked], found: Found) -> None:
    """Marks must name a batch of the ledger; those of this run must lie inside it."""
    extents = {}
    for each in marked:
        if each.value is not None and TOKEN.fullmatch(token := read_stamp(each.value)[0]):
            extents[each.value] = token, each.low, each.high
    known, inside = at.ledger.proofs.placed(extents)
    for each in marked:
        if each.value is None:
            continue
        token, outcome = read_stamp(each.value)
        if token not in known or outcome not in SUFFIX:
            found.count("unknown", each.count)
            message = f"The mark {each.value!r:.80} names no batch of the ledger."
            found.list(at.examiner.keys(where, {path: each.value}, LISTED), UNKNOWN_MARK, message)
        elif token.partition(".")[0] == at.run.id:
            found.tally.marks[each.value] += each.count
            since, untold = came_since(
                at.examiner, where, path, each, born=at.born, before=at.before, bound=at.bound
            )
            found.count("marked since", since)
            found.count("marked untold", untold)
            if outcome == CLAIMED or each.value not in inside:
                _judge_own(at, where, path, each.value, found)
        else:
            found.count("of other runs", each.count)
    odd = sum(each.count for each in marked if each.value is None and not each.missing)
    if odd:
        found.count("unknown", odd)
        query = {"$and": [{path: {"$exists": True}}, {path: {"$not": {"$type": ["string", "null"]}}}]}
        found.list(at.examiner.keys(where, query, LISTED), UNKNOWN_MARK, "The mark is no text.")


def _judge_own(at: Looking, where: Range, path: str, value: str, found: Found) -> None:
    """Documents with a mark of this run that does not say that they are done, or is not theirs."""
    token, outcome = read_stamp(value)
    if outcome == CLAIMED:
        keys = at.examiner.keys(where, {path: value}, LISTED)
        found.count("unfinished", at.examiner.count(where, {path: value}))
        message = (
            f"The mark {value!r} says that the function has the document in hand, but the run has ended."
        )
        found.list(keys, MARK_UNFINISHED, message)
    batch = at.ledger.batches.get(token)
    if batch is not None and batch.ids is None:
        number, keys = at.examiner.outside(where, batch, {path: value}, LISTED)
        found.count("outside", number)
        found.list(
            keys, MARK_OUTSIDE, f"The mark {value!r} is of a batch whose range does not hold this document."
        )


def _look_for_remains(at: Looking, where: Range, found: Found) -> None:
    """After a rollback: images and marks of the run, but on the conflicts that the rollback has listed."""
    ours, path = tokens_of(at.run.id), at.run.marking.path
    places: list[Query] = [{f"{image_path(at.run.migration, at.run.version)}.token": ours}]
    places += [{path: ours}] if path else []
    query = all_of({"$or": places}, at.excluded)
    keys = at.examiner.keys(where, query, LISTED)
    found.count("left", at.examiner.count(where, query) if len(keys) == LISTED else len(keys))
    found.list(
        keys, NOT_TAKEN_BACK, f"The document still bears marks of run {at.run.id}, which was rolled back."
    )


def settled_counts(found: Found) -> Counts:
    """Documents without a finding count as unchanged: a verification changes nothing."""
    return Counts(unchanged=max(0, found.tally.numbers["looked"] - len(found.troubles)))
