"""Planning by keys: where an index yields the eligible documents and they are few, or where only the first N are wanted.

A walk over ranges would look at every document of the collection. Here the keys come from the index, in whatever order, and
batches name them. What yields the keys lives in the memory of the process that coordinates; should that be lost, it begins
anew. That is no harm: what is done is not eligible any more, and what another batch names as well is changed once.
"""

import time
from collections.abc import Collection, Iterator, Sequence

import structlog

from whimbrel.domain.batches import Batch, planned
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Run, eligible
from whimbrel.domain.states import BatchStatus
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents, Ledger

log = structlog.get_logger("whimbrel.coordinator")

BYTES = 1024 * 1024  # of the keys in a batch
SECONDS = 0.5  # that looking for keys may take in one tick
OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)


class Gathering:
    """The keys of one leg of a run, as they come. `known`: keys that open batches name already."""

    def __init__(self, pages: Iterator[Sequence[Key]], known: frozenset[Key]) -> None:
        self._pages, self._known = pages, known
        self._held: list[Key] = []
        self._end = False
        self.yielded = False

    def batches(self, run: Run, last: Batch | None, room: int) -> list[Batch]:
        """Up to `room` batches: none where no key came in time. Raises TooSlow, Transient."""
        here = last is not None and last.leg == run.leg
        seq, through = last.seq if last else 0, last.through if last and here else 0
        limit, until, made = run.scope.limit, time.monotonic() + SECONDS, list[Batch]()
        while len(made) < room:
            wanted = run.batch_size if limit is None else min(run.batch_size, limit - through)
            keys, end = self._take(wanted, until)
            if not keys and not end:
                break
            seq, through = seq + 1, through + len(keys)
            end = end or through == limit
            made.append(
                planned(run, seq, ids=keys, found=True, estimated=len(keys), through=through, last=end)
            )
            if end:
                break
        return made

    def _take(self, wanted: int, until: float) -> tuple[tuple[Key, ...], bool]:
        """A batch's keys, as many as are wanted or fit; fewer only at the end of all, none where they do not come in time."""
        while not self._end and len(self._held) < wanted and _bytes(self._held) < BYTES:
            if time.monotonic() > until:
                return (), False
            page = next(self._pages, None)
            self._end = page is None
            self._held += [key for key in page or () if key not in self._known]
            self.yielded = self.yielded or bool(page)
        count, size = 0, 0
        while count < min(wanted, len(self._held)) and (not count or size < BYTES):
            size += len(self._held[count].raw)
            count += 1
        taken, self._held = tuple(self._held[:count]), self._held[count:]
        return taken, self._end and not self._held


def _bytes(keys: Sequence[Key]) -> int:
    return sum(len(key.raw) for key in keys)


class Gatherings:
    """Those of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[tuple[str, int], Gathering | None] = {}  # None: this leg goes by ranges

    def forget(self, run_id: str) -> None:
        self._kept = {key: each for key, each in self._kept.items() if key[0] != run_id}

    def keep(self, runs: Collection[str]) -> None:
        """Forget those of other runs."""
        self._kept = {key: each for key, each in self._kept.items() if key[0] in runs}

    def of(self, run: Run, documents: Documents, last: Batch | None) -> Gathering | None:
        """The gathering of the run's leg; None where it goes by ranges."""
        key = run.id, run.leg
        if key not in self._kept:
            self.forget(run.id)
            self._kept[key] = self._begin(run, documents, last)
        return self._kept[key]

    def _begin(self, run: Run, documents: Documents, last: Batch | None) -> Gathering | None:
        begun = last is not None and last.leg == run.leg
        if begun and last is not None and not last.found:
            return None
        query, survey = eligible(run, run.phase), documents.survey(run.batch_size)
        if run.scope.limit is not None:
            after = last.ids[-1] if begun and last is not None and last.ids else None
            return Gathering(survey.walk(query, after), frozenset())
        if run.kind != "migration" or not (begun or survey.few(query)):
            return None
        return Gathering(survey.gather(query), self._open_keys(run) if begun else frozenset())

    def _open_keys(self, run: Run) -> frozenset[Key]:
        found = self._ledger.batches.list(run.id, statuses=OPEN)
        return frozenset(key for batch in found for key in batch.ids or ())

    def broke(self, run: Run, error: TooSlow) -> None:
        """The index took too long: begin anew, or, where it yielded nothing at all, go by ranges."""
        log.warning("keys did not come in time", run=run.id, reason=str(error))
        gathering = self._kept.pop((run.id, run.leg), None)
        if gathering is None or not gathering.yielded:
            self._kept[run.id, run.leg] = None
