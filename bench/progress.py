"""Records how far real runs were, twice a second: `python -m bench.progress [NAME...]` writes tests/data/progress/NAME.json.

What `tests/unit/test_forecast.py` replays. A record is a list of [seconds at work, documents evaluated, documents in all].
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pymongo import MongoClient

from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.run_view import view
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import connected

DATA = Path(__file__).parent.parent / "tests/data/progress"
EVERY = 0.5
PROGRAM = [sys.executable, "-m", "whimbrel.cli.main"]
DATABASE = "progress"
DOCUMENTS = 16_000
SHAPES = {
    "steady": [],
    "slow-start": [],
    "slowing": [],
    "retrying": [],
    "paused": [],
    "rate": ["--rate", "150"],
    "joined": [],
}
MIGRATIONS = """
import time

from whimbrel import Migration, migration

STARTED = time.monotonic()
ALL = 16_000


def sleeping(name, seconds):
    @migration(name=name, collection="things", batch_size=200, version=1)
    def function(thing):
        time.sleep(seconds(thing["_id"]))
        return {"$set": {"m": 1}}
    return function


def failing(key):
    time.sleep(0.01)
    if key % 10 == 0:
        raise RuntimeError("every tenth")
    return 0


migrations = [
    sleeping("steady", lambda key: 0.01),
    sleeping("paused", lambda key: 0.01),
    sleeping("joined", lambda key: 0.01),
    sleeping("slow-start", lambda key: 0.1 if time.monotonic() < STARTED + 8 else 0.01),
    sleeping("slowing", lambda key: 0.005 + 0.015 * key / ALL),
    sleeping("retrying", failing),
    Migration(name="rate", collection="things", update={"$set": {"m": 1}}, batch_size=200),
]
"""


def main() -> None:
    for name in sys.argv[1:] or SHAPES:
        record = recorded(name)
        DATA.mkdir(parents=True, exist_ok=True)
        (DATA / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
        print(name, len(record), record[-1])


def recorded(name: str) -> list[tuple[float, int, int]]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        uri = stack.enter_context(embedded(Path(folder) / "home"))
        (Path(folder) / "migrations.py").write_text(MIGRATIONS)
        environment = {
            **os.environ, "MONGODB_URI": uri, "MONGODB_DB_NAME": DATABASE, "RETRY_DELAY": "3000", "MAX_RETRIES": "2",
            "WHIMBREL_MIGRATIONS": "migrations.py",
        }  # fmt: skip
        with MongoClient[dict[str, int]](uri) as client:
            client[DATABASE]["things"].insert_many({"_id": key} for key in range(DOCUMENTS))

        def command(*words: str) -> str:
            done = subprocess.run(
                [*PROGRAM, *words], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            return done.stdout.strip()

        def worker() -> None:
            words = [*PROGRAM, "worker", "--workers", "2"]
            process = stack.enter_context(subprocess.Popen(words, cwd=folder, env=environment))
            stack.callback(process.terminate)

        run = command("run", name, "--detach", "--yes", "--force", *SHAPES[name])
        store = stack.enter_context(connected(uri, DATABASE, Times()))
        worker()
        found: list[tuple[float, int, int]] = []
        halfway = False
        while True:
            row = store.ledger.runs.get(run)
            assert row is not None
            it = view(store.ledger, row)
            if it.seconds:
                found.append((round(it.seconds, 3), it.processed, it.total))
            if row.status in ENDED:
                return found
            if it.processed > DOCUMENTS * 0.4 and not halfway:
                halfway = True
                if name == "paused":
                    command("pause", run)
                    time.sleep(6)
                    command("resume", run, "--detach")
                if name == "joined":
                    worker()
            time.sleep(EVERY)


if __name__ == "__main__":
    main()
