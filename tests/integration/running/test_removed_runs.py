"""A run that somebody has removed from the ledger while it was at work."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo.database import Database

from tests.servers import preloaded

Data = Database[dict[str, Any]]
SLOW = """
import time
from whimbrel import migration

@migration(collection="things")
def slow(thing):
    time.sleep(0.05)
    return {"$set": {"n": 1}}
"""


def test_nobody_is_told_to_resume_what_is_gone(mongo_uri: str, database: Data, tmp_path: Path) -> None:
    database["things"].insert_many({"_id": at} for at in range(2000))
    (tmp_path / "slow.py").write_text(SLOW)
    command = [
        sys.executable,
        "-m",
        "whimbrel.cli.main",
        "run",
        "slow",
        "--yes",
        "--workers",
        "1",
        "--batch-size",
        "20",
    ]
    environment = {
        **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "WHIMBREL_MIGRATIONS": str(tmp_path / "slow.py"),
    }  # fmt: skip
    with preloaded.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        end = time.monotonic() + 60
        while not database["things"].find_one({"n": 1}):
            assert time.monotonic() < end
            assert running.poll() is None
        for name in ("runs", "batches", "failures"):
            database[f"whimbrel_{name}"].drop()
        _, said = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "is gone" in said
    assert "whimbrel resume" not in said
