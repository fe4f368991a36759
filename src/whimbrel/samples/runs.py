"""Sample runs: rows as of runs that have come to rest, to look at and to page through.

Nothing attends to them: they are in states that coordinators and workers leave alone, and the names of their
migrations are no names that a migration can have, so that nothing can resume or retry them.
"""

import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run, Scope, legs_of
from whimbrel.domain.runs.states import BatchStatus, RunStatus

NAMES = ("orders (sample)", "people (sample)", "prices (sample)")
RESTING = (
    RunStatus.COMPLETED,
    RunStatus.COMPLETED_WITH_FAILURES,
    RunStatus.PAUSED,
    RunStatus.CANCELLED,
    RunStatus.FAILED,
)
ENDS = frozenset(RESTING) - {RunStatus.PAUSED}
SIZE = 1000  # documents in a batch
MESSAGE = "A sample run of POST /seed: no document was migrated."
ERROR = "A sample of an error: the definition broke after the start."
MOST_TROUBLES = 3


@dataclass(frozen=True, slots=True)
class SampleRun:
    """A run, its settled batches, and its dead failures by batch."""

    run: Run
    batches: tuple[Batch, ...]
    troubles: tuple[tuple[Batch, FailedDocument], ...]


def sample_runs(count: int, *, database: str, now: datetime, seed: int = 1) -> Iterator[SampleRun]:
    """`count` sample runs of the last days, the states in turn; but for their ids the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  sample data
    scope = Scope("all")
    for number in range(count):
        status = RESTING[number % len(RESTING)]
        name = NAMES[number % len(NAMES)]
        run_id = f"sample-{secrets.token_hex(6)}"
        batches = chance.randrange(1, 5)
        troubled = (
            chance.randrange(1, MOST_TROUBLES + 1) if status is RunStatus.COMPLETED_WITH_FAILURES else 0
        )
        worked = batches * chance.uniform(0.5, 3.0)
        born = now - timedelta(minutes=3 * (count - number) + 5)
        over = born + timedelta(seconds=worked)
        legs = legs_of(mark="marker", scope=scope, first=None)
        settled = tuple(
            _batch(run_id, seq, born, over, failed=troubled if seq == 1 else 0)
            for seq in range(1, batches + 1)
        )
        finished = status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)
        run = Run(
            id=run_id, migration=name, version=1, database=database, collection=name.replace(" ", "_"), filter=encoded({}),
            mark="marker", status_field="status", declarative=True, claim=False, adopt="ours", scope=scope, legs=legs,
            leg=len(legs) - 1 if finished else 0, status=status, batch_size=SIZE, priority=chance.randrange(11), max_attempts=4,
            retry_delay=5.0, timeout=30.0, code_hash="sample", counts=sum((each.counts for each in settled), Counts()),
            folded_through=batches, estimated=batches * SIZE * (1 if finished else 2), message=MESSAGE,
            error=ERROR if status is RunStatus.FAILED else None, created_at=born, updated_at=over, started_at=born,
            worked=worked, ended_at=over if status in ENDS else None,
        )  # fmt: skip
        yield SampleRun(run, settled, tuple((settled[0], _trouble(each)) for each in range(troubled)))


def _batch(run_id: str, seq: int, born: datetime, over: datetime, *, failed: int) -> Batch:
    return Batch(
        run=run_id, seq=seq, leg=0, phase="pending", estimated=SIZE, status=BatchStatus.DONE, claims=1, worker="sample",
        counts=Counts(changed=SIZE - failed), claimed_at=born, settled_at=over,
    )  # fmt: skip


def _trouble(number: int) -> FailedDocument:
    return FailedDocument(
        key=Key.of(number), kind=FailureKind.DATA, type="Refused", message=f"A sample of a failure: the number {number} is no text."
    )  # fmt: skip
