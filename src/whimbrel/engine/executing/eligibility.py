"""Which documents of a batch a statement may currently select, and which it may write."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from whimbrel.domain.bson.raw_bson import Key, keys_under
from whimbrel.domain.migrations.filters import all_of, without_id_conditions
from whimbrel.domain.migrations.marks import CLAIMED, stamp
from whimbrel.domain.runs.run import eligible
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.ports import Query, Write


@dataclass(slots=True)
class BatchSelection:
    """`E` of a batch: the run's filter and not yet marked, without the documents that have failed in this run."""

    lease: Lease
    tally: OutcomeTally
    tokens: Query = field(default_factory=dict)  # in the phase processing: whose documents may be taken
    _excluded: set[Key] = field(default_factory=set)

    @property
    def eligible(self) -> Query:
        run, batch = self.lease.run, self.lease.batch
        query = eligible(run, batch.phase, retry=batch.retry)
        # Its documents were found by the whole filter, and an id does not change.
        if batch.located and batch.ids is not None:
            query = without_id_conditions(query)
        query = all_of(query, self.tokens)
        # What this batch has claimed and not finished belongs to it.
        if run.claim and not self.tally.clean:
            query = {"$or": [query, self._claimed]}
        if not self._excluded:
            return query
        return all_of(query, {"_id": keys_under("$nin", sorted(self._excluded, key=lambda key: key.raw))})

    @property
    def writable(self) -> Query:
        """The condition that a document satisfies when it is written: eligible, or claimed by this batch."""
        return self._claimed if self.lease.run.claim else self.eligible

    @property
    def _claimed(self) -> Query:
        token = stamp(self.lease.batch.token, CLAIMED)
        return {self.lease.run.status_field: "processing", "processedBy": token}

    def exclude(self, keys: Iterable[Key]) -> None:
        """Leaves out documents that have failed."""
        self._excluded |= set(keys)

    def exclude_only(self, keys: Iterable[Key]) -> None:
        """Leaves out exactly these documents."""
        self._excluded = set(keys)

    def write(self, *, reads: tuple[str, ...] | None = None) -> Write:
        """Returns what the statements of the next chunk carry; the fence is the last acknowledged renewal."""
        run, batch = self.lease.run, self.lease.batch
        return Write(
            eligible=self.writable, until=self.lease.until, mark=run.marking, token=batch.token,
            variables=batch.variables if run.declarative else {}, reads=reads, undo=run.undoing,
        )  # fmt: skip
