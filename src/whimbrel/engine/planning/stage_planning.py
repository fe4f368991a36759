"""Plans a stage: some documents of each of many stretches of the key space, which together are as many as the stage has.

A stage is a leg before the others, and its batches name their documents by key. So nothing of it needs to be remembered: what is done bears its
mark, and is not eligible for the later stages and the rest. A pass over the key space takes the first documents behind each of some random
bounds. The next pass begins when all batches of the one before are done, so no document is named twice, except where a coordinator
died within a pass: it is changed once all the same.
"""

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import structlog

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, Range, batch_of_leg
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.domain.runs.stages import documents_of
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents, Ledger

log = structlog.get_logger("whimbrel.coordinator")

SPREAD = 20  # bounds of the smallest stage: it has documents of each twentieth of the key space
MOST = 500  # bounds of one pass
SECONDS = 0.5  # of a tick that looking for documents may take
BYTES = 1024 * 1024  # of the keys in a batch
OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)


@dataclass(slots=True)
class _Pass:
    """One pass over the key space. `each`: how many documents of a stretch; `named`: how many were taken so far."""

    stretches: deque[Range]
    each: int
    named: int = 0
    slow: TooSlow | None = None


class StagePlans:
    """The passes of the stages of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._passes: dict[tuple[str, int], _Pass] = {}

    def forget(self, run_id: str) -> None:
        self._passes = {key: pass_ for key, pass_ in self._passes.items() if key[0] != run_id}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets the passes of other runs."""
        self._passes = {key: pass_ for key, pass_ in self._passes.items() if key[0] in runs}

    def batches(self, run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch]:
        """Returns up to `room` batches of the run's stage; none while the batches of a pass are at work. The last batch of the stage is empty, and says so.

        Raises TooSlow where no document of a whole pass came in time.
        """
        begun = last is not None and last.leg == run.leg
        seq, through = last.seq if last else 0, last.through if last and begun else 0
        wanted = (
            documents_of(run.stages, run.stage, run.estimated) if run.stages and run.stage is not None else 0
        )
        key = run.id, run.leg
        pass_ = self._passes.get(key)
        if pass_ is None or not pass_.stretches:
            if through < wanted and self._ledger.batches.count(run.id, OPEN, most=1):
                return []
            if through >= wanted or (pass_ is not None and not pass_.named):
                return self._end(run, seq, through, pass_)
            pass_ = self._passes[key] = _begin_pass(run, documents, wanted - through)
        return self._next_batches(run, documents, pass_, seq, through, wanted, room)

    def _end(self, run: Run, seq: int, through: int, pass_: _Pass | None) -> list[Batch]:
        self.forget(run.id)
        if pass_ is not None and not pass_.named and pass_.slow is not None:
            raise pass_.slow
        return [batch_of_leg(run, seq + 1, located=True, through=through, last=True)]

    def _next_batches(
        self, run: Run, documents: Documents, pass_: _Pass, seq: int, through: int, wanted: int, room: int
    ) -> list[Batch]:
        batches, until = list[Batch](), time.monotonic() + SECONDS
        while pass_.stretches and len(batches) < room and through < wanted and time.monotonic() < until:
            keys = self._keys(run, documents, pass_, min(pass_.each, wanted - through))
            if keys:
                seq, through, pass_.named = seq + 1, through + len(keys), pass_.named + len(keys)
                batches.append(
                    batch_of_leg(run, seq, ids=keys, located=True, estimated=len(keys), through=through)
                )
        if through >= wanted:
            pass_.stretches.clear()
        return batches

    def _keys(self, run: Run, documents: Documents, pass_: _Pass, most: int) -> tuple[Key, ...]:
        """Returns the keys of documents in the next stretch: none where they do not come in time."""
        stretch = pass_.stretches.popleft()
        try:
            found = documents.keys(stretch, eligible(run, run.phase), most)
        except TooSlow as error:
            log.warning("the documents of a stage did not come in time", run=run.id, reason=str(error))
            pass_.slow = error
            return ()
        passed_over = set(self._ledger.failures.excluded(run.id, found)) if found else set[Key]()
        return _within_bytes([key for key in found if key not in passed_over])


def _begin_pass(run: Run, documents: Documents, wanted: int) -> _Pass:
    bounds = min(MOST, max(SPREAD, ceil(wanted / run.batch_size)))
    points = documents.survey(run.batch_size).spread(eligible(run, run.phase), bounds)
    stretches = deque(Range(lo, hi) for lo, hi in pairwise((None, *points, None)))
    return _Pass(stretches, max(1, min(run.batch_size, ceil(wanted / len(stretches)))))


def _within_bytes(keys: Sequence[Key]) -> tuple[Key, ...]:
    size, taken = 0, list[Key]()
    for key in keys:
        size += len(key.raw)
        if taken and size > BYTES:
            break
        taken.append(key)
    return tuple(taken)
