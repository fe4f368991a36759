"""The batches of the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.batches import Batch, BatchOutline, BatchPointer, BatchSums
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.sizing import BatchWork
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.domain.runs.verification import MarkTally


class Batches(Protocol):
    """The batches of the ledger."""

    def add(self, batches: Sequence[Batch]) -> int:
        """Inserts in order, and stops at the first id that already exists. Returns the number inserted (hole H25)."""
        ...

    def last(self, run_id: str) -> Batch | None:
        """Returns the last batch; of its keys only the last."""
        ...

    def uuid(self) -> bytes | None:
        """Returns the UUID of the collection that holds the batches: it differs after it was dropped, or restored from a backup."""
        ...

    def open_through(self, run_id: str, seq: int) -> bool:
        """Whether a batch up to this one is queued or running."""
        ...

    def last_seq(self, run_id: str) -> int:
        """Returns the number of the last batch; 0 where there is none."""
        ...

    def list(
        self,
        run_id: str,
        *,
        after: int = -1,
        statuses: Iterable[BatchStatus] | None = None,
        leg: int | None = None,
        left: str | None = None,
        limit: int = 1000,
    ) -> list[Batch]:
        """Lists batches by `seq`. `left`: only those that left documents of this status to other phases."""
        ...

    def outlines(
        self, run_id: str, *, after: int, limit: int, bounds: bool = False
    ) -> Sequence[BatchOutline]:
        """Lists batches without their keys, by `seq`. `bounds`: also checks whether the bounds of each ascend."""
        ...

    def named(self, run_id: str, *, after: int, limit: int) -> Sequence[Batch]:
        """Lists batches of named documents, by `seq`."""
        ...

    def count(self, run_id: str, statuses: Iterable[BatchStatus], *, most: int | None = None) -> int:
        """Counts batches. `most`: counts no further."""
        ...

    def begun(self, run_id: str) -> int:
        """Counts batches that were claimed and have not settled: those being executed, and those that wait to be claimed again."""
        ...

    def end(self, run_id: str, leg: int) -> Key | None:
        """Returns where the last range of a leg ends; None where it had none."""
        ...

    def queued(self, runs: Sequence[str], *, most: int | None = None) -> int:
        """Counts the queued batches of these runs. `most`: counts no further."""
        ...

    def get(self, token: str) -> Batch | None: ...

    def claim(
        self,
        runs: Sequence[str],
        *,
        worker: str,
        lsid: bytes,
        token: str | None = None,
        excluding: Sequence[str] = (),
    ) -> Batch | None:
        """Claims a queued batch of the run whose turn it is among these, or the batch of `token`.

        Under a lease in the server's time, by a new owner nonce. `excluding`: tokens of a few batches that must not be claimed.
        """
        ...

    def renew(self, batch: Batch) -> datetime:
        """Prolongs the lease. Returns its new end. Raises LeaseLost where the batch belongs to another claim by now."""
        ...

    def note(self, batch: Batch, progress: Progress, *, since: Timestamp | None = None) -> None:
        """Notes how far a claimed batch is, when all of that is acknowledged by the majority. Raises LeaseLost.

        This waits for no other member and no journal: it may be lost, and then less is known than was done.
        `since`: a time of the cluster after all that was done, and before anything was sent for the rest.
        """
        ...

    def suspect(self, batch: Batch, key: Key | None, progress: Progress) -> None:
        """Notes which document of a solo batch is being worked on, and how far the batch is. Raises LeaseLost."""
        ...

    def keep_before(self, batch: Batch, before: Mapping[int, int]) -> None:
        """Mark "filter": stores how many documents were eligible before anything was sent, by the end of each remaining piece.

        Raises LeaseLost.
        """
        ...

    def settle(
        self,
        batch: Batch,
        counts: Counts,
        *,
        inferred: bool = False,
        progress: Progress | None = None,
        tally: MarkTally | None = None,
        left: Mapping[str, int] | None = None,
        work: BatchWork | None = None,
        chunk_times: ChunkTimes | None = None,
    ) -> None:
        """Ends a batch. Doing it twice changes nothing. `tally`: of a verification; `left`: of the phase processing; `work`: what it took.

        Raises LeaseLost.
        """
        ...

    def work(self, run_id: str, leg: int, limit: int) -> Sequence[BatchWork]:
        """Returns what the last settled batches of a run have taken, as far as they are of this leg, newest first."""
        ...

    def release(self, batch: Batch, *, progress: Progress | None = None, untouched: bool = False) -> None:
        """Gives a batch back before its end; this does not count as a takeover. Does nothing if it belongs to another claim.

        Only when no statement of it can change a document any more (`Documents.quiet`). `untouched`: nothing was sent except
        what `progress` tells.
        """
        ...

    def take_over(self, *, worker: str | None = None) -> Sequence[Batch]:
        """Queues again what lost leases hold, when the statements of their sessions have ended (hole H13).

        Of one worker: at once, because its parent saw it die. Otherwise those whose lease ended a grace ago. A batch whose statement
        cannot be ended now stays as it is. The returned batches have only the last of their keys.
        """
        ...

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        """Settles a batch that nobody holds as cancelled. Does nothing if somebody does."""
        ...

    def withdraw(self, run_id: str, limit: int) -> int:
        """Cancels those of the first `limit` queued batches of a run that nobody has ever claimed. Returns how many."""
        ...

    def merge(self, run_id: str, leg: int, *, through: int) -> None:
        """Merges settled batches of named documents of this leg, as far as they are added up, through this one: each unbroken stretch into its first.

        The first keeps the sums, and the number of the last. Batches with failures stay as they are. Does nothing where another process does the same.
        """
        ...

    def after(self, run_id: str, seq: int) -> BatchSums:
        """Returns the sums over a run's batches behind this one."""
        ...

    def after_each(self, folded: Mapping[str, int]) -> Mapping[str, BatchSums]:
        """Returns the same for each of these runs, by one query; runs without such batches are left out."""
        ...

    def cancelled(self, runs: Sequence[str]) -> Mapping[str, int]:
        """Counts the cancelled batches of each of these runs that has some."""
        ...

    def waiting(self, run_id: str, limit: int, *, after: int = -1) -> Sequence[BatchPointer]:
        """Returns the first queued batches of a run, by `seq`."""
        ...

    def open_counts(self, runs: Sequence[str]) -> Mapping[tuple[str, bool, BatchStatus], int]:
        """Counts queued batches of these runs and running ones of all, by run and by whether they are retries."""
        ...

    def any_retried(self, run_id: str) -> bool:
        """Returns whether a batch of failed documents waits or is being executed."""
        ...

    def settled(self, seconds: float) -> int:
        """Counts batches of all runs settled within the last seconds."""
        ...

    def orphaned(self) -> Sequence[str]:
        """Returns ids of runs that have queued or running batches, but no row of their own."""
        ...

    def live(self, tokens: Sequence[str]) -> tuple[set[str], set[str]]:
        """Returns which of these tokens name a batch at all, and which of those a running batch under a live lease."""
        ...
