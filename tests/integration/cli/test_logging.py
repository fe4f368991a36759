"""LOG_FORMAT=json: every line of every process is JSON with its time; and beside a bar on a terminal there is none."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.servers import preloaded
from tests.servers.serve import Serve, eventually

Docs = Database[dict[str, Any]]
LOUD = """
import os
import sys
import threading
import warnings
from whimbrel import migration

print("it is loaded")

@migration(collection="things", batch_size=2)
def loud(thing):
    print("printed", thing["_id"], '"quoted" \\u00e9' * 900)
    sys.stderr.write("written\\n")
    os.write(2, b"by its number\\n")
    warnings.warn(f"warned {thing['_id']}")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    if thing["_id"] == 3:
        raise RuntimeError("three")
    return {"$set": {"m": 1}}
"""


@pytest.fixture
def environment(mongo_uri: str, database: Docs, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "loud.py").write_text(LOUD)
    database["things"].insert_many({"_id": n} for n in range(5))
    return {
        "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "WHIMBREL_MIGRATIONS": str(tmp_path / "loud.py"),
        "LOG_FORMAT": "json", "MAX_RETRIES": "0", "WHIMBREL_SWEEP": "0.2", "WHIMBREL_IDLE_POLL": "0.05",
    }  # fmt: skip


def rows(text: str) -> list[dict[str, Any]]:
    """Every line as the JSON that it is."""
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        assert each["event"]
        assert each["level"]
        assert datetime.fromisoformat(each["timestamp"]).tzinfo is not None
    return found


def test_serve_logs_json_and_each_start_throttling_and_end_once(
    environment: dict[str, str], database: Docs, tmp_path: Path
) -> None:
    server = Serve({**environment, "LOG_LEVEL": "debug"}, tmp_path, "--workers", "2")
    server.start()
    try:
        server.wait()
        asked = {"migration": "loud", "filters": {}, "maxDocsPerSecond": 1000, "force": True}
        run = server.client.post("/migrate", json=asked).json()["migrationId"]
        server.ended(run)
        eventually(lambda: f'"run": "{run}"' in server.said() and "completed_with_failures" in server.said())
    finally:
        server.close()
    found = rows(server.said())
    told = [each for each in found if each.get("run") == run and each["event"].startswith("run ")]
    events = Counter(each["event"] for each in told)
    assert events["run running"] == 1
    assert events["run completed_with_failures"] == 1
    assert all(each["rate"] == 1000 for each in told if each["event"] == "run running")
    printed = [each for each in found if each.get("logger") == "printed"]
    assert {each["batches"].partition(".")[0] for each in printed if each["event"].startswith("printed")} == {
        run
    }
    for said in ("written", "by its number", "it is loaded"):
        assert any(each["event"] == said for each in printed), said
    assert any(each["event"].startswith("warned") and each["level"] == "warning" for each in found)
    assert any("ZeroDivisionError" in each.get("exception", "") for each in found)
    assert any(each.get("logger") == "uvicorn.error" for each in found)
    assert not [each for each in found if "pymongo" in each.get("logger", "")], "commands hold documents"
    (reached,) = [each for each in found if each["event"].startswith("MongoDB: ")]
    assert reached["database"] == database.name
    assert reached["event"].endswith(f", database {database.name}.")


def test_commands_log_json_where_nobody_sits_at_a_terminal(
    environment: dict[str, str], tmp_path: Path
) -> None:
    def command(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return preloaded.run(
            [sys.executable, "-m", "whimbrel.cli.main", *words], cwd=tmp_path, env={**os.environ, **environment, **changes},
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    done = command("run", "loud", "--workers", "1", "--force")
    assert done.returncode == 2
    events = [each["event"] for each in rows(done.stderr)]
    assert any(each.startswith("Run ") for each in events)
    assert any(each.startswith("loud: 100%") for each in events)
    assert "completed_with_failures" in done.stdout
    for words, changes in ((["nix"], {}), (["status"], {"BATCH_SIZE": "many"})):
        (only,) = rows(command(*words, **changes).stderr)
        assert only["level"] == "error"


def test_beside_the_bar_of_a_terminal_there_is_no_json(environment: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "whimbrel.cli.main", "run", "loud", "--workers", "1", "--force", "--yes"]
    with preloaded.Popen(
        command, cwd=tmp_path, env={**os.environ, **environment, "LOG_LEVEL": "info", "TERM": "xterm"},
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        text, end = b"", time.monotonic() + 120
        while time.monotonic() < end:
            if select.select([ours], [], [], 1)[0]:
                try:
                    text += os.read(ours, 65_536)
                except OSError:  # the other side is closed
                    break
        process.wait(10)
    os.close(ours)
    assert process.returncode == 2, text
    assert b"100%" in text
    assert b"warned 1" in text
    assert b'"timestamp"' not in text
    assert b'{"' not in text
