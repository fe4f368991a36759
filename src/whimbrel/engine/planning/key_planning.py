"""Plans by keys: where an index yields the eligible documents and they are few, or where only the first N are wanted.

A walk over ranges would look at every document of the collection. Here the keys come from the index, in any order, and
batches name them. The iterator of keys lives in the memory of the coordinating process; if it is lost, it starts
again. That does no harm: what is done is not eligible any more, and what another batch names as well is changed once.
"""

import time
from collections.abc import Collection, Iterator, Sequence

import structlog

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.retry_policy import KEYS
from whimbrel.domain.runs.batches import Batch, batch_of_leg
from whimbrel.domain.runs.run import Run, eligible
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents, Ledger

log = structlog.get_logger("whimbrel.coordinator")

BYTES = 1024 * 1024  # of the keys in a batch
SECONDS = 0.5  # of a tick that looking for keys may take
BROKEN = int(KEYS.times)  # times in a row that the keys do not come before the leg is planned by ranges
ROWS = 50  # batches read at once: each may hold BYTES of keys
KNOWN = 200_000  # keys of open batches held in memory
OPEN = (BatchStatus.QUEUED, BatchStatus.RUNNING)


class KeyPlan:
    """The keys of one leg of a run, as they come. `known`: keys that open batches already name."""

    def __init__(self, pages: Iterator[Sequence[Key]], known: frozenset[Key]) -> None:
        self._pages, self._known = pages, known
        self._held: list[Key] = []
        self._exhausted = False
        self.yielded = False

    def batches(self, run: Run, last: Batch | None, room: int) -> list[Batch]:
        """Returns up to `room` batches: none where no key came in time. Raises TooSlow, Transient."""
        same_leg = last is not None and last.leg == run.leg
        seq, through = last.seq if last else 0, last.through if last and same_leg else 0
        limit, until, batches = run.scope.limit, time.monotonic() + SECONDS, list[Batch]()
        while len(batches) < room:
            wanted = run.batch_size if limit is None else min(run.batch_size, limit - through)
            keys, end = self._next_keys(wanted, until)
            if not keys and not end:
                break
            seq, through = seq + 1, through + len(keys)
            end = end or through == limit
            batches.append(
                batch_of_leg(run, seq, ids=keys, located=True, estimated=len(keys), through=through, last=end)
            )
            if end:
                break
        return batches

    def _next_keys(self, wanted: int, until: float) -> tuple[tuple[Key, ...], bool]:
        """Returns a batch's keys, as many as are wanted or fit; fewer only at the very end, none where they do not come in time."""
        while not self._exhausted and len(self._held) < wanted and _bytes(self._held) < BYTES:
            if time.monotonic() > until:
                return (), False
            page = next(self._pages, None)
            self._exhausted = page is None
            self._held += [key for key in page or () if key not in self._known]
            self.yielded = self.yielded or bool(page)
        count, size = 0, 0
        while count < min(wanted, len(self._held)) and (not count or size < BYTES):
            size += len(self._held[count].raw)
            count += 1
        keys, self._held = tuple(self._held[:count]), self._held[count:]
        return keys, self._exhausted and not self._held


def _bytes(keys: Sequence[Key]) -> int:
    return sum(len(key.raw) for key in keys)


class KeyPlans:
    """The key plans of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._plans: dict[tuple[str, int], KeyPlan | None] = {}  # None: this leg is planned by ranges
        self._failures: dict[tuple[str, int], int] = {}  # how often in a row it yielded no batch

    def forget(self, run_id: str) -> None:
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] != run_id}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets the plans of other runs."""
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] in runs}
        self._failures = {key: count for key, count in self._failures.items() if key[0] in runs}

    def batches(self, run: Run, documents: Documents, last: Batch | None, room: int) -> list[Batch] | None:
        """Returns the next batches by keys: an empty list where no key came in time; None where the run's leg is planned by ranges.

        Raises what the survey of the documents raises, but handles TooSlow of the keys where it can do without them.
        """
        plan = self._plan(run, documents, last)
        if plan is None:
            return None
        try:
            batches = plan.batches(run, last, room)
        except TooSlow as error:
            self._handle_slow_keys(run, plan, error)
            return []
        except Exception:  # the iterator of keys has ended by it
            self.forget(run.id)
            raise
        if batches:
            self._failures.pop((run.id, run.leg), None)
        return batches

    def _plan(self, run: Run, documents: Documents, last: Batch | None) -> KeyPlan | None:
        key = run.id, run.leg
        if key not in self._plans:
            self.forget(run.id)
            self._plans[key] = self._begin(run, documents, last)
        return self._plans[key]

    def _begin(self, run: Run, documents: Documents, last: Batch | None) -> KeyPlan | None:
        begun = last is not None and last.leg == run.leg
        if begun and last is not None and not last.located:
            return None
        query, survey = eligible(run, run.phase), documents.survey(run.batch_size)
        if run.scope.limit is not None:
            after = last.ids[-1] if begun and last is not None and last.ids else None
            return KeyPlan(survey.walk(query, after), frozenset())
        if not (begun or survey.few(query)):
            return None
        return KeyPlan(survey.gather(query), self._open_keys(run) if begun else frozenset())

    def _open_keys(self, run: Run) -> frozenset[Key]:
        """Returns the keys that open batches name, as far as they fit: a key that two batches name is changed once."""
        keys: set[Key] = set()
        after = -1
        while page := self._ledger.batches.list(run.id, after=after, statuses=OPEN, limit=ROWS):
            keys.update(key for batch in page for key in batch.ids or ())
            after = page[-1].seq
            if len(keys) > KNOWN:
                break
        return frozenset(keys)

    def _handle_slow_keys(self, run: Run, plan: KeyPlan, error: TooSlow) -> None:
        """Starts again after the index took too long; or plans by ranges, where it yielded nothing, or no batch time after time.

        But ranges know no limit: raises TooSlow where the run has one.
        """
        log.warning("keys did not come in time", run=run.id, reason=str(error))
        leg = run.id, run.leg
        del self._plans[leg]
        if run.scope.limit is not None:
            raise error
        self._failures[leg] = self._failures.get(leg, 0) + 1
        if not plan.yielded or self._failures[leg] == BROKEN:
            self._plans[leg] = None
