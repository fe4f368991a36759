"""Generates sample runs that are paused or have ended, to look at and to page through.

No process works on them: coordinators and workers ignore runs in these states, and no migration can have the
names of theirs, so they cannot be resumed or retried.
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
MOST_FAILURES = 3


@dataclass(frozen=True, slots=True)
class SampleRun:
    """A run, its settled batches, and its dead failures by batch."""

    run: Run
    batches: tuple[Batch, ...]
    failures: tuple[tuple[Batch, FailedDocument], ...]


def sample_runs(count: int, *, database: str, now: datetime, seed: int = 1) -> Iterator[SampleRun]:
    """Yields `count` sample runs of the last days, their states in turn; the same for the same seed, except for their ids."""
    generator = random.Random(seed)  # noqa: S311  sample data
    scope = Scope("all")
    for number in range(count):
        status = RESTING[number % len(RESTING)]
        name = NAMES[number % len(NAMES)]
        run_id = f"sample-{secrets.token_hex(6)}"
        batches = generator.randrange(1, 5)
        failure_count = (
            generator.randrange(1, MOST_FAILURES + 1) if status is RunStatus.COMPLETED_WITH_FAILURES else 0
        )
        worked = batches * generator.uniform(0.5, 3.0)
        started = now - timedelta(minutes=3 * (count - number) + 5)
        ended = started + timedelta(seconds=worked)
        legs = legs_of(mark="marker", scope=scope, first=None)
        settled = tuple(
            _batch(run_id, seq, started, ended, failed=failure_count if seq == 1 else 0)
            for seq in range(1, batches + 1)
        )
        finished = status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)
        run = Run(
            id=run_id, migration=name, version=1, database=database, collection=name.replace(" ", "_"), filter=encoded({}),
            mark="marker", status_field="status", declarative=True, claim=False, adopt="ours", scope=scope, legs=legs,
            leg=len(legs) - 1 if finished else 0, status=status, batch_size=SIZE, priority=generator.randrange(11), max_attempts=4,
            retry_delay=5.0, timeout=30.0, code_hash="sample", counts=sum((batch.counts for batch in settled), Counts()),
            folded_through=batches, estimated=batches * SIZE * (1 if finished else 2), message=MESSAGE,
            error=ERROR if status is RunStatus.FAILED else None, created_at=started, updated_at=ended, started_at=started,
            worked=worked, ended_at=ended if status in ENDS else None,
        )  # fmt: skip
        yield SampleRun(
            run,
            settled,
            tuple((settled[0], _failure(number_of_failure)) for number_of_failure in range(failure_count)),
        )


def _batch(run_id: str, seq: int, started: datetime, ended: datetime, *, failed: int) -> Batch:
    return Batch(
        run=run_id, seq=seq, leg=0, phase="pending", estimated=SIZE, status=BatchStatus.DONE, claims=1, worker="sample",
        counts=Counts(changed=SIZE - failed), claimed_at=started, settled_at=ended,
    )  # fmt: skip


def _failure(number: int) -> FailedDocument:
    return FailedDocument(
        key=Key.of(number), kind=FailureKind.DATA, type="Refused", message=f"A sample of a failure: the number {number} is no text."
    )  # fmt: skip
