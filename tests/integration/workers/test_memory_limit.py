"""A worker process that holds more than it may is replaced, and no document is changed twice or lost for it."""

# ruff: noqa: F811  fixtures are imported by their names

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from whimbrel.errors import SettingsInvalid
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.child_process import ChildProcess
from whimbrel.workers.memory_limit import limit_of, read_size
from whimbrel.workers.supervisor import Supervisor

Docs = Database[dict[str, Any]]
MB = 1024 * 1024
GREEDY = """
import os
import threading
from whimbrel import migration

KEPT = []

@migration(collection="things", batch_size=20)
def leaking(thing):
    KEPT.append(b"x" * 1_000_000)
    if len(KEPT) > 80:  # by then it is too much: a parent that stands still for seconds may see it late
        threading.Event().wait(0.04)
    return {"$inc": {"n": 1}, "$set": {"by": os.getpid()}}

@migration(collection="things", batch_size=5, max_attempts=2)
def greedy(thing):
    if thing["_id"] == 3:
        KEPT.append(b"x" * 600_000_000)
        threading.Event().wait(30)
    return {"$inc": {"n": 1}}
"""


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "greedy.py").write_text(GREEDY)
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="greedy.py", LOG_LEVEL="warning")
    return database


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("800", 800 * MB), ("512M", 512 * MB), ("1.5g", 1536 * MB), ("2GiB", 2048 * MB), ("2048K", 2 * MB), ("300 MB", 300 * MB),
        ("none", 0), ("infinity", 0),
    ],
)  # fmt: skip
def test_sizes_are_read_as_they_are_written_elsewhere(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-5", "0", "5 apples", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(SettingsInvalid, match="is no size"):
        read_size(text)


def test_without_a_word_it_is_the_processes_share_within_bounds() -> None:
    many, one = limit_of(None, 1_000_000), limit_of(None, 1)
    assert many is not None
    assert one is not None
    assert many.ends == 512 * MB
    assert 512 * MB <= one.ends <= 2048 * MB
    assert one.killed >= one.ends * 1.5
    assert limit_of(0, 1) is None


def test_only_where_nobody_says_what_loading_takes_comes_on_top() -> None:
    said, unsaid = limit_of(100 * MB, 1), limit_of(None, 1)
    assert said is not None
    assert unsaid is not None
    assert (said.ends, said.killed) == (100 * MB, 150 * MB)
    assert said.above(3000 * MB) == said
    assert unsaid.above(3000 * MB).ends == unsaid.ends + 3000 * MB


def test_a_function_that_leaks_runs_in_one_process_after_the_other(commands: Commands, things: Docs) -> None:
    things["things"].insert_many({"_id": n} for n in range(400))
    said = commands("run", "leaking", "--workers", "1", "--concurrency", "1", "--max-memory", "150", "-y").err
    assert things["things"].count_documents({"n": 1}) == 400
    by: dict[int, int] = {}
    for each in things["things"].find():
        by[each["by"]] = by.get(each["by"], 0) + 1
    assert len(by) > 2
    assert max(by.values()) < 300, "none was let grow"
    assert "too much memory" in said
    assert "worker processes were replaced" in said


def test_a_document_that_alone_needs_more_is_a_failure_and_the_others_are_done(
    commands: Commands, things: Docs
) -> None:
    things["things"].insert_many({"_id": n} for n in range(10))
    said = commands("run", "greedy", "--workers", "1", "--max-memory", "200M", "-y", "--force", code=2).err
    assert "far too much memory" in said
    assert things["things"].count_documents({"n": 1}) == 9
    (row,) = things["whimbrel_failures"].find()
    assert (row["key"]["_id"], row["kind"], row["state"]) == (3, "death", "dead")


@pytest.mark.parametrize(("holds", "ended"), [(151, True), (149, False), (99, False)])
def test_a_process_far_above_its_limit_is_ended_at_once(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch, holds: int, ended: bool
) -> None:
    """Whatever its function does: it may be in a call that never ends. One that is a little above ends after its chunk."""
    supervisor = Supervisor(store.ledger.batches, {}, size=1, slots=1, run=None, longest_call=30)
    supervisor.memory = limit_of(100 * MB, 1)
    monkeypatch.setattr("whimbrel.workers.supervisor.memory_of", lambda _pid: holds * MB)
    monkeypatch.setattr(supervisor, "_start", lambda: pytest.fail("it has not ended yet"))
    reads, given = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    supervisor.adopt(ChildProcess("worker", process, given, (), loaded=True))
    supervisor.check_children()
    assert os.read(reads, 10) == b"\n"  # the run to serve: all
    if ended:
        assert process.wait(60) == -signal.SIGKILL
    elif holds > 100:
        assert os.read(reads, 1) == b""  # its standard input was closed: it drains
    assert (process.poll() is None, supervisor.replaced) == (not ended, int(holds > 100))
    process.kill()
    process.communicate()


def test_a_limit_below_what_loading_takes_is_an_error(commands: Commands, things: Docs) -> None:
    things["things"].insert_one({"_id": 1})
    said = commands("run", "leaking", "--workers", "1", "--max-memory", "5", "-y", code=64).err
    assert "as soon as it has loaded the migrations" in said
    assert (things["whimbrel_runs"].find_one() or {})["status"] == "paused"
