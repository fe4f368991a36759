"""A process that records failures of a batch, and is killed in the middle of it."""

import os
import signal
import sys
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.raw import Key
from whimbrel.domain.times import Times
from whimbrel.mongo.ledger.blocks import Blocks
from whimbrel.mongo.ledger.tallies import Tallies
from whimbrel.mongo.store import connected


def main() -> None:
    uri, database, token, dies = sys.argv[1:]
    owner: Any = Blocks if dies == "blocks" else Tallies if dies in ("mark", "keep") else Collection
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
        troubles = [Trouble(key=Key.of(key), kind=Kind.CODE, type="E", message="bad") for key in range(30)]
        store.ledger.failures.record(run, batch, troubles)


if __name__ == "__main__":
    main()
