"""What the fault tests share: parents that are started again when they die, documents, and the final reckoning."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.embedded import ensure_running
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.migration_loader import load

HERE = Path(__file__).parent
MIGRATIONS = str(HERE / "migrations.py")
SHORT_TIMES = {
    "WHIMBREL_LEASE": "1.5", "WHIMBREL_GRACE": "0.6", "WHIMBREL_STATEMENT": "0.5", "WHIMBREL_SWEEP": "0.2",
    "WHIMBREL_IDLE_POLL": "0.05", "WHIMBREL_BROKER_LOOK": "0.5", "RETRY_DELAY": "50", "LOG_LEVEL": "error",
    "WHIMBREL_NOTES": "inf",
}  # fmt: skip
# For what counts claims and deaths exactly: a machine that stands still for a while must take no batch from the living.
# The dead need no lease to end: their parents bury them.
PATIENT = {"WHIMBREL_LEASE": "15", "WHIMBREL_GRACE": "5", "WHIMBREL_STATEMENT": "4"}
PATIENCE = 90.0 + int(os.environ.get("CHAOS_DOCUMENTS", "0")) / 250  # seconds


class Rig:
    """One database of things, and the processes that migrate them."""

    def __init__(self, store: MongoStore, home: Path, tokens: Path, uri: str) -> None:
        self.store, self.home, self.tokens, self.uri = store, home, tokens, uri
        self.client: MongoClient[Any] = store.client
        self.things = store.client[store.database]["things"]
        self.migrations = load(MIGRATIONS)
        self.parents: list[subprocess.Popen[bytes]] = []
        self.suspended: list[psutil.Process] = []  # that nobody may have let go on
        self.environment: dict[str, str] = {}
        self._held = tokens.parent / "held"

    def seed(self, count: int, **fields: Any) -> None:
        self.things.insert_many([{"n": 0, "status": "pending", "number": i, **fields} for i in range(count)])

    def start(self, name: str, **options: Any) -> Run:
        defaults = Defaults(batch_size=500, max_attempts=3, retry_delay=0.05)
        return start_run(
            self.store, self.migrations[name].definition, who="test", defaults=defaults, **options
        )

    def die_at(self, step: str, count: int, deaths: int) -> None:
        """Let processes die at the `count`-th time they reach a step, `deaths` times in all."""
        for number in range(deaths):
            (self.tokens / str(number)).touch()
        self.environment["WHIMBREL_DIE_AT"] = f"{step}:{count}:{self.tokens}"

    def deaths_left(self) -> int:
        return len(list(self.tokens.iterdir()))

    def parent(self, *, workers: int = 2, slots: int = 2) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "MONGODB_URI": "", **SHORT_TIMES, **self.environment, "WHIMBREL_HOME": str(self.home),
            "MONGODB_DB_NAME": self.store.database, "WHIMBREL_MIGRATIONS": MIGRATIONS,
        }  # fmt: skip
        command = [sys.executable, str(HERE / "parent_process.py"), str(workers), str(slots)]
        parent = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        self.parents.append(parent)
        return parent

    def tend(self) -> None:
        """Start again what died: a supervisor would."""
        for parent in list(self.parents):
            if parent.poll() is not None:
                self.parents.remove(parent)
                self.parent()

    def children(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for parent in self.parents:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [each for each in psutil.Process(parent.pid).children() if _is_worker(each)]
        return found

    def hold(self, number: int) -> None:
        """Let no run of `slow` end before `let_go`: whoever has this document in hand keeps it."""
        self._held.touch()
        self.environment |= {"HELD": str(self._held), "HELD_NUMBER": str(number)}

    @property
    def holds(self) -> bool:
        """Whether somebody has it in hand (of `holding`)."""
        return Path(f"{self._held}-reached").exists()

    def let_go(self) -> None:
        self._held.unlink(missing_ok=True)

    def kill_mongod(self) -> None:
        """As a power cut would: no shutdown, no flush."""
        for each in self._mongods():
            each.kill()

    def stall_mongod(self, seconds: float) -> None:
        """As an overloaded machine or disk would: for so long it does nothing, and then goes on with all it was asked."""
        found = self._mongods()
        assert found
        try:
            for each in found:
                each.suspend()
            time.sleep(seconds)
        finally:
            for each in found:
                each.resume()

    def _mongods(self) -> list[psutil.Process]:
        return [
            each
            for each in psutil.process_iter(["name", "cmdline"])
            if each.info["name"] == "mongod" and str(self.home) in " ".join(each.info["cmdline"] or [])
        ]

    def revive(self) -> None:
        ensure_running(self.home, start_seconds=300)  # a loaded machine may take its time

    def settled(self, run: Run) -> int:
        """Batches that are done."""
        return self.store.ledger.batches.count(run.id, [BatchStatus.DONE])

    def look(self, run: Run) -> RunView:
        fresh = self.store.ledger.runs.get(run.id)
        assert fresh is not None
        return view(self.store.ledger, fresh)

    def until(
        self,
        run: Run,
        *statuses: RunStatus,
        chaos: Iterator[None] | None = None,
        seconds: float = PATIENCE,
    ) -> RunView:
        """Wait until a run has one of these statuses, while chaos does what it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tend()
            if chaos is not None:
                began = time.monotonic()
                next(chaos, None)
                end += time.monotonic() - began
            try:
                found = self.look(run)
            except Exception as error:
                if type(error).__name__ != "Transient":
                    raise
                self.revive()
                continue
            if found.run.status in statuses:
                return found
            time.sleep(0.05)
        raise AssertionError(f"still {self.look(run)} after {seconds} s: {self.rows(run)}")

    def finish(self, run: Run, *, chaos: Iterator[None] | None = None) -> RunView:
        return self.until(run, *ENDED, chaos=chaos)

    def rows(self, run: Run) -> list[Any]:
        return [
            (each.seq, each.phase, str(each.status), each.claims, each.takeovers, each.counts, each.solo)
            for each in self.store.ledger.batches.list(run.id)
        ]

    def stop(self) -> None:
        for parent in self.parents:
            parent.send_signal(signal.SIGTERM)
        for parent in self.parents:
            try:
                parent.wait(20)
            except subprocess.TimeoutExpired:
                parent.kill()
                parent.wait()
        for each in self.suspended:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def reckon(self, run_view: RunView, count: int, *, crashed: bool = True) -> None:
        """Every document changed exactly once, the counters equal to the documents, nothing stuck."""
        run = run_view.run
        assert run.status is RunStatus.COMPLETED, (
            run,
            self.rows(run),
            self.store.ledger.failures.list(run.id),
        )
        by_n = {
            row["_id"]: row["n"]
            for row in self.things.aggregate([{"$group": {"_id": "$n", "n": {"$sum": 1}}}])
        }
        assert by_n == {1: count}, (by_n, self.rows(run))
        assert run_view.counts.changed == count, (run_view.counts, self.rows(run))
        assert run.inferred is False or (run.mark == "filter" and crashed)
        open_ = self.store.client[self.store.database]["whimbrel_batches"].count_documents({
            "run": run.id, "status": {"$nin": ["done"]},
        })  # fmt: skip
        assert open_ == 0, self.rows(run)
        if run.marking.path:
            self._reckon_tokens(run)

    def _reckon_tokens(self, run: Run) -> None:
        """Each batch's count is the number of documents that bear its token."""
        path = run.marking.path
        tokens = {
            row["_id"]: row["n"]
            for row in self.things.aggregate([{"$group": {"_id": f"${path}", "n": {"$sum": 1}}}])
        }
        ledger = {
            each.token: each.counts.changed
            for each in self.store.ledger.batches.list(run.id)
            if each.counts.changed
        }
        assert tokens == ledger


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
        return "worker_process" in " ".join(process.cmdline())
    return False
