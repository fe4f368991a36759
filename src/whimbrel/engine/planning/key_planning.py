"""Planning by keys: where an index yields the eligible documents and they are few, or where only the first N are wanted.

A walk over ranges would look at every document of the collection. Here the keys come from the index, in whatever order, and
batches name them. What yields the keys lives in the memory of the process that coordinates; should that be lost, it begins
anew. That is no harm: what is done is not eligible any more, and what another batch names as well is changed once.
"""

import time
from collections.abc import Collection, Iterator, Sequence

import structlog

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, estimated_documents
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents, Ledger

log = structlog.get_logger("whimbrel.coordinator")

BYTES = 1024 * 1024  # of the keys in a batch
SECONDS = 0.5  # that looking for keys may take in one tick
BROKEN = 3  # times in a row that the keys do not come in time, until the leg goes by ranges
ROWS = 50  # batches that are read at once: each may hold BYTES of keys
KNOWN = 200_000  # keys of open batches that are held in memory
OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)


class KeyPlan:
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
                estimated_documents(
                    run, seq, ids=keys, found=True, estimated=len(keys), through=through, last=end
                )
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


class KeyPlans:
    """Those of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[tuple[str, int], KeyPlan | None] = {}  # None: this leg goes by ranges
        self._broken: dict[tuple[str, int], int] = {}  # how often in a row no batch came of it

    def forget(self, run_id: str) -> None:
        self._kept = {key: each for key, each in self._kept.items() if key[0] != run_id}

    def keep(self, runs: Collection[str]) -> None:
        """Forget those of other runs."""
        self._kept = {key: each for key, each in self._kept.items() if key[0] in runs}
        self._broken = {key: each for key, each in self._broken.items() if key[0] in runs}

    def batches(self, run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch] | None:
        """The next batches by keys: none where no key came in time; None where the run's leg goes by ranges.

        Raises what the survey of the documents raises, but TooSlow of the keys where it can do without them.
        """
        gathering = self._of(run, documents, last)
        if gathering is None:
            return None
        try:
            found = gathering.batches(run, last, room)
        except TooSlow as error:
            self._broke(run, gathering, error)
            return []
        except Exception:  # what yields the keys is over with it
            self.forget(run.id)
            raise
        if found:
            self._broken.pop((run.id, run.leg), None)
        return found

    def _of(self, run: Run, documents: Documents, last: Batch | None) -> KeyPlan | None:
        key = run.id, run.leg
        if key not in self._kept:
            self.forget(run.id)
            self._kept[key] = self._begin(run, documents, last)
        return self._kept[key]

    def _begin(self, run: Run, documents: Documents, last: Batch | None) -> KeyPlan | None:
        begun = last is not None and last.leg == run.leg
        if begun and last is not None and not last.found:
            return None
        query, survey = eligible(run, run.phase), documents.survey(run.batch_size)
        if run.scope.limit is not None:
            after = last.ids[-1] if begun and last is not None and last.ids else None
            return KeyPlan(survey.walk(query, after), frozenset())
        if not (begun or survey.few(query)):
            return None
        return KeyPlan(survey.gather(query), self._open_keys(run) if begun else frozenset())

    def _open_keys(self, run: Run) -> frozenset[Key]:
        """What open batches name, as far as that fits: what two batches name is changed once."""
        found: set[Key] = set()
        after = -1
        while page := self._ledger.batches.list(run.id, after=after, statuses=OPEN, limit=ROWS):
            found.update(key for batch in page for key in batch.ids or ())
            after = page[-1].seq
            if len(found) > KNOWN:
                break
        return frozenset(found)

    def _broke(self, run: Run, gathering: KeyPlan, error: TooSlow) -> None:
        """The index took too long: begin anew; or go by ranges, where it yielded nothing, or no batch came of it time after time.

        But ranges know no limit. Raises TooSlow where the run has one.
        """
        log.warning("keys did not come in time", run=run.id, reason=str(error))
        leg = run.id, run.leg
        del self._kept[leg]
        if run.scope.limit is not None:
            raise error
        self._broken[leg] = self._broken.get(leg, 0) + 1
        if not gathering.yielded or self._broken[leg] == BROKEN:
            self._kept[leg] = None
