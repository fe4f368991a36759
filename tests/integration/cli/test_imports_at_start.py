"""What a command's start costs: by the modules that it imports, as time is different everywhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

# What works on documents, starts processes, serves, schedules, plans, or talks to RabbitMQ.
UNUSED = {
    "aio_pika", "aiormq", "anyio", "fastapi", "limits", "prometheus_client", "psutil", "uvicorn", "yarl",
    "whimbrel.brokers", "whimbrel.engine.coordinating.coordinator", "whimbrel.engine.rehearsing.dry_run", "whimbrel.engine.executing.execute_batch", "whimbrel.engine.operating.preflight",
    "whimbrel.engine.operating.scheduler", "whimbrel.engine.operating.start", "whimbrel.mongo.documents", "whimbrel.mongo.embedded",
    "whimbrel.mongo.preflight", "whimbrel.mongo.rehearsal", "whimbrel.mongo.seeding", "whimbrel.samples", "whimbrel.workers.definition_catalog", "whimbrel.workers.supervisor", "whimbrel.workers.parent_process",
}  # fmt: skip


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["workers"]], ids=" ".join)
def test_a_look_imports_nothing_that_only_work_needs(
    mongo_uri: str, database: Database[Any], tmp_path: Path, words: list[str]
) -> None:
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from whimbrel.cli.main import run_and_flush; code = run_and_flush(); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    environment = {**os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"pymongo", f"whimbrel.cli.commands.{words[0]}"} <= set(done.stderr.split())
    assert set(done.stderr.split()) & UNUSED == set()


def test_processes_of_functions_do_not_import_what_draws_on_terminals() -> None:
    code = "import sys, whimbrel.workers.worker_process, whimbrel.workers.rehearsal; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "structlog" in done.stdout.split()
    assert {"rich", "pygments"} & set(done.stdout.split()) == set()
