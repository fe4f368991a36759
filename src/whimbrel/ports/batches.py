"""The batches of the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.batches import Batch, BatchOutline, BatchPointer, BatchSums
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.domain.runs.verification import MarkTally


class Batches(Protocol):
    """The batches of the ledger."""

    def add(self, batches: Sequence[Batch]) -> int:
        """Insert in order, stop at the first id that is there already: the number inserted (hole H25)."""
        ...

    def last(self, run_id: str) -> Batch | None:
        """The last batch; of its keys only the last."""
        ...

    def uuid(self) -> bytes | None:
        """Of the collection that holds them: another one when it was dropped, or restored from a backup."""
        ...

    def open_through(self, run_id: str, seq: int) -> bool:
        """Whether a batch up to this one is queued or running."""
        ...

    def last_seq(self, run_id: str) -> int:
        """The number of the last batch; 0 where there is none."""
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
        """By `seq`. `left`: only those that left documents of this status to other phases."""
        ...

    def outlines(
        self, run_id: str, *, after: int, limit: int, bounds: bool = False
    ) -> Sequence[BatchOutline]:
        """Batches without their keys, by `seq`. `bounds`: it is looked whether the bounds of each ascend."""
        ...

    def named(self, run_id: str, *, after: int, limit: int) -> Sequence[Batch]:
        """Batches of named documents, by `seq`."""
        ...

    def count(self, run_id: str, statuses: Iterable[BatchStatus], *, most: int | None = None) -> int:
        """How many there are. `most`: it is not counted further."""
        ...

    def end(self, run_id: str, leg: int) -> Key | None:
        """Where the last range of a leg ends; None where it had none."""
        ...

    def queued(self, runs: Sequence[str], *, most: int | None = None) -> int:
        """How many batches of these runs are queued. `most`: it is not counted further."""
        ...

    def get(self, token: str) -> Batch | None: ...

    def claim(
        self,
        runs: Sequence[str],
        *,
        worker: str,
        lsid: bytes,
        token: str | None = None,
        aside: Sequence[str] = (),
    ) -> Batch | None:
        """Take a queued batch of the run whose turn it is among these, or the one of `token`.

        Under a lease in the server's time, by a new owner nonce. `aside`: tokens of batches that are not to be taken; few.
        """
        ...

    def renew(self, batch: Batch) -> datetime:
        """Prolong the lease: its new end. Raises LeaseLost where the batch is another's by now."""
        ...

    def note(self, batch: Batch, progress: Progress, *, since: Timestamp | None = None) -> None:
        """Say how far a claimed batch is, when all of that is acknowledged by the majority. Raises LeaseLost.

        This waits for no other member and no journal: it may be lost, and then less is known than was done.
        `since`: a time of the cluster behind all that was done, and before anything was sent for the rest.
        """
        ...

    def suspect(self, batch: Batch, key: Key | None, progress: Progress) -> None:
        """Say which document of a solo batch is in hand, and how far it is. Raises LeaseLost."""
        ...

    def keep_before(self, batch: Batch, before: Mapping[int, int]) -> None:
        """Mark "filter": keep how many documents were eligible before anything was sent, by the end of each piece of the rest.

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
    ) -> None:
        """The end of a batch. Done twice it is the same. `tally`: of a verification; `left`: of the phase processing. Raises LeaseLost."""
        ...

    def release(self, batch: Batch, *, progress: Progress | None = None, untouched: bool = False) -> None:
        """Give a batch back before its end; it is not counted as a takeover. Nothing happens if it is another's.

        Only when no statement of it can change a document any more (`Documents.quiet`). `untouched`: nothing was sent but for
        what `progress` tells.
        """
        ...

    def take_over(self, *, worker: str | None = None) -> Sequence[Batch]:
        """Queue again what lost leases hold, when the statements of their sessions have ended (hole H13).

        Of one worker: at once, for its parent saw it die. Else those whose lease ended a grace ago. A batch whose statement
        cannot be ended now stays as it is. Of the keys of those that are returned there are only the last.
        """
        ...

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        """Settle a batch that nobody holds as cancelled. Nothing happens if somebody does."""
        ...

    def withdraw(self, run_id: str, limit: int) -> int:
        """Cancel those of the first `limit` queued batches of a run that nobody has ever claimed: how many."""
        ...

    def after(self, run_id: str, seq: int) -> BatchSums:
        """What there is of a run behind this batch."""
        ...

    def after_each(self, folded: Mapping[str, int]) -> Mapping[str, BatchSums]:
        """The same of each of these runs, by one question; runs that have nothing there are not in it."""
        ...

    def cancelled(self, runs: Sequence[str]) -> Mapping[str, int]:
        """How many batches of each of these runs were cancelled, if any."""
        ...

    def waiting(self, run_id: str, limit: int, *, after: int = -1) -> Sequence[BatchPointer]:
        """The first queued batches of a run, by `seq`."""
        ...

    def open_counts(self, runs: Sequence[str]) -> Mapping[tuple[str, bool, BatchStatus], int]:
        """Queued batches of these runs and running ones of all, by run and by whether they are retries."""
        ...

    def settled(self, seconds: float) -> int:
        """Batches of all runs settled within the last seconds."""
        ...

    def orphaned(self) -> Sequence[str]:
        """Ids of runs that have queued or running batches, and no row of their own."""
        ...

    def live(self, tokens: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which of these tokens name a batch at all, and which of those a running one under a live lease."""
        ...
