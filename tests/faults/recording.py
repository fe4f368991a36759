"""A process that records failures of a batch, and is killed in the middle of it."""

import os
import signal
import sys
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.store import connected


def main() -> None:
    uri, database, token, dies = sys.argv[1:]
    owner: Any = (
        FailureSums if dies == "blocks" else BatchFailureCounts if dies in ("mark", "keep") else Collection
    )
    dies = "mark" if dies == "blocks" else dies
    act = getattr(owner, dies)

    def act_and_die(*args: Any, **options: Any) -> None:
        act(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    with connected(uri, database, Times()) as store:
        setattr(owner, dies, act_and_die)
        batch = store.ledger.batches.get(token)
        run = store.ledger.runs.get(token.partition(".")[0])
        assert batch is not None
        assert run is not None
        troubles = [
            FailedDocument(key=Key.of(key), kind=FailureKind.CODE, type="E", message="bad")
            for key in range(30)
        ]
        store.ledger.failures.record(run, batch, troubles)


if __name__ == "__main__":
    main()
