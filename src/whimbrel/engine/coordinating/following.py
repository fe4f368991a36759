"""Lets runs follow: what changes in their collections after the sweep becomes batches of named documents, until a person ends that.

The position of the change stream is stored when the batches of what was read before it are stored, never earlier: a crash lets changes be read
again, and loses none. A document that two batches name is changed once, as it is not eligible any more.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import structlog

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, batch_of_leg
from whimbrel.domain.runs.following import LOSSES
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.engine.coordinating.change_reader import ChangeReader, Taken
from whimbrel.engine.coordinating.recurring_documents import RecurringDocuments
from whimbrel.errors import ChangesLost, Systemic
from whimbrel.ports import Changes, Documents, Ledger

log = structlog.get_logger("whimbrel.coordinator")

GATHERING = 0.5  # seconds in which changes are gathered for a batch
LARGEST = 1000  # documents in a batch
MOST = 4  # batches planned in a tick: each costs a look at its documents
NOTING = 1.0  # seconds between two notes of the position, where no batch comes of what was read
LEFT_APART = 1000  # newest batches that are not merged: people look at them
TOGETHER = 1000  # batches that are merged at a time


@dataclass(frozen=True, slots=True)
class FollowingStep:
    """The next batches of a run, and what was read for them."""

    batches: Sequence[Batch]
    taken: Taken


class Following:
    """What one process remembers of the runs that it lets follow. Losing it does no harm."""

    def __init__(self, ledger: Ledger, changes: Callable[[Run, bytes | None], Changes]) -> None:
        self._ledger, self._changes = ledger, changes
        self._readers: dict[str, tuple[int, ChangeReader]] = {}  # run -> leg and reader
        self._looked: dict[str, float] = {}  # when changes were taken last
        self._noted: dict[str, float] = {}  # when the position was stored last
        self._merged: dict[str, int] = {}  # through which batch older ones were merged
        self._recurring = RecurringDocuments()

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        for run_id in [run_id for run_id in self._readers if run_id not in runs]:
            self.forget(run_id)
        self._recurring.keep(runs)

    def forget(self, run_id: str) -> None:
        """Stops reading for a run: the next reader begins where the ledger says."""
        _, reader = self._readers.pop(run_id, (0, None))
        if reader is not None:
            reader.stop()
        for memory in (self._looked, self._noted, self._merged):
            memory.pop(run_id, None)

    # phases

    def open_next_phase(self, run: Run) -> None:
        """S11: opens the next phase of a run. The position from which it will follow is taken before the sweep begins, so that nothing falls between."""
        following, phases = self._ledger.following, run.legs[run.leg + 1 :]
        wanted = run.follow is not None and run.follow.wanted
        if phases[:2] == ("sweep", "follow") and wanted:
            following.begin_sweep(run, self._position(run))
        elif phases[0] != "follow":
            self._ledger.runs.next_leg(run)
        elif wanted:
            following.begin(run)
        else:
            following.skip(run)

    def _position(self, run: Run) -> bytes:
        changes = self._changes(run, None)
        try:
            return changes.position
        finally:
            changes.close()

    def read_ahead(self, run: Run) -> None:
        """Reads what changes while a sweep goes on before the run follows, so that a sweep may take longer than the oplog reaches back.

        What is read waits in memory. A process that takes over begins at the stored position, and may find it lost.
        """
        if (
            run.legs[run.leg : run.leg + 2] == ("sweep", "follow")
            and run.follow is not None
            and run.follow.wanted
        ):
            self._reader(run, run.leg + 1).attend()

    # following

    def next_step(self, run: Run, documents: Documents, seq: int, room: int) -> FollowingStep | None:
        """Returns the next batches, behind the one with number `seq`, at most `room`; None where nothing is to be done now.

        Where MongoDB does not know any more what has changed, opens a sweep. Raises what reading raises.
        """
        reader = self._reader(run, run.leg)
        now, size = time.monotonic(), min(run.batch_size, LARGEST)
        if now - self._looked.get(run.id, float("-inf")) < GATHERING and reader.waiting < size:
            return None
        self._looked[run.id] = now
        try:
            taken = reader.take(min(room, MOST) * size)
        except ChangesLost as error:
            self._sweep_again(run, error)
            return None
        if taken is None:
            return None
        keys = self._eligible(run, documents, taken.keys)
        if run.marking.path is None:
            self._recurring.check(run.id, keys)
        return FollowingStep(list(_batches(run, keys, seq, size)), taken)

    def planned(self, run: Run, step: FollowingStep) -> None:
        """Stores the position, as all batches of a step are stored now."""
        now = time.monotonic()
        if not step.batches and now - self._noted.get(run.id, float("-inf")) < NOTING:
            return
        self._noted[run.id] = now
        self._ledger.following.advance(run, step.taken.position, step.taken.at, ago=step.taken.ago)

    def merge(self, run: Run) -> None:
        """Merges old batches of the run, so that its rows do not become more and more."""
        through = run.folded_through - LEFT_APART
        if through - self._merged.get(run.id, 0) >= TOGETHER:
            self._ledger.batches.merge(run.id, run.leg, through=through)
            self._merged[run.id] = through

    def _reader(self, run: Run, for_leg: int) -> ChangeReader:
        leg, reader = self._readers.get(run.id, (for_leg, None))
        if reader is None or reader.ended or leg != for_leg:
            self.forget(run.id)
            position = run.follow.position if run.follow else None
            reader = ChangeReader(lambda: self._changes(run, position), run.id)
            self._readers[run.id] = for_leg, reader
        return reader

    def _eligible(self, run: Run, documents: Documents, keys: Sequence[Key]) -> list[Key]:
        """Returns those documents that the run has to change: what it has written itself, and what needs no change, makes no batch."""
        found: list[Key] = []
        for start in range(0, len(keys), LARGEST):
            page = keys[start : start + LARGEST]
            present = documents.examiner.keys(page, eligible(run, "follow"), len(page))
            failed = set(self._ledger.failures.excluded(run.id, present)) if present else set[Key]()
            found += [key for key in present if key not in failed]
        return found

    def _sweep_again(self, run: Run, error: ChangesLost) -> None:
        """Begins another sweep, and following after it. Raises Systemic where that has been in vain too often: a resumed run begins with the sweep."""
        self.forget(run.id)
        in_row = (run.follow.lost_in_row if run.follow else 0) + 1
        position = self._position(run)
        if not self._ledger.following.lose(run, position, in_row=in_row % LOSSES):
            return  # another process has
        log.warning("changes are lost, and a sweep makes up for them", run=run.id, reason=str(error))
        self._ledger.leases.audit("changes lost", run=run.id, who="coordinator", why=str(error))
        if in_row >= LOSSES:
            raise Systemic(
                f"MongoDB could not tell {in_row} times in a row what had changed in {run.ns} during a sweep. Its oplog holds less than a sweep takes: "
                "make it larger (replSetResizeOplog) and resume the run, or let the run end first: "
                f"whimbrel set {run.id} --no-follow. ({error})"
            )


def _batches(run: Run, keys: Sequence[Key], seq: int, size: int) -> Iterator[Batch]:
    for start in range(0, len(keys), size):
        ids = tuple(keys[start : start + size])
        seq += 1
        yield batch_of_leg(run, seq, ids=ids, located=True, estimated=len(ids))
