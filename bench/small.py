"""A run over one document, as a user starts it: how long it takes, what it costs, and where the time goes.

python -m bench.small [--rounds 5]

Wall-clock seconds and CPU seconds of all its processes, medians; and the parts, by the times that stand in the ledger.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from whimbrel.mongo.embedded import embedded

FILE = """
from whimbrel import Migration, migration
declared = Migration(name="declared", collection="things", update={"$set": {"n": 1}})
@migration(collection="things")
def function(document):
    return {"$set": {"n": 1}}
"""
PARTS = ("until the run is added", "until it is at work", "until its first batch is claimed", "until that is settled",
         "until the run is over", "until the command ends")  # fmt: skip


def measured(
    client: MongoClient[Any], environment: dict[str, str], name: str
) -> tuple[float, float, list[float]]:
    """Seconds, CPU seconds, and the parts of one run."""
    client.drop_database("small")
    database = client.get_database("small")
    database["things"].insert_one({"_id": 1})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began, started = time.perf_counter(), datetime.now(UTC)
    subprocess.run(
        [sys.executable, "-m", "whimbrel.cli.main", "run", name, "--yes"],
        env=environment,
        check=True,
        capture_output=True,
    )
    seconds, ended = time.perf_counter() - began, datetime.now(UTC)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert database["things"].find_one({"n": 1}), "it is not migrated"
    run = database["whimbrel_runs"].find_one({})
    batch = database["whimbrel_batches"].find_one({"claimedAt": {"$ne": None}}, sort=[("seq", 1)])
    assert run is not None
    assert batch is not None
    times = [
        started, run["createdAt"], run["startedAt"], batch["claimedAt"], batch["settledAt"], run["endedAt"], ended
    ]  # fmt: skip
    aware = [each if each.tzinfo else each.replace(tzinfo=UTC) for each in times]
    return seconds, cpu, [(later - one).total_seconds() for one, later in itertools.pairwise(aware)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.small")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home, embedded(Path(home)) as uri:
        (Path(home) / "file.py").write_text(FILE)
        environment = os.environ | {
            "MONGODB_URI": uri, "MONGODB_DB_NAME": "small", "WHIMBREL_MIGRATIONS": str(Path(home) / "file.py"),
        }  # fmt: skip
        with MongoClient[Any](uri) as client:
            for name in ("declared", "function"):
                found = [measured(client, environment, name) for _ in range(rounds)]
                parts = [
                    statistics.median(each) for each in zip(*(parts for _, _, parts in found), strict=True)
                ]
                told = {
                    "kind": name, "seconds": round(statistics.median(each[0] for each in found), 2),
                    "cpu seconds": round(statistics.median(each[1] for each in found), 2),
                    **{part: round(each, 2) for part, each in zip(PARTS, parts, strict=True)},
                }  # fmt: skip
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
