"""A parent that ends while MongoDB is away: soon, with all its children, and what they held is another's later."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import SHORT_TIMES, Rig
from tests.servers.proxy import Proxy, through
from whimbrel.bootstrap import store_at
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings, read_settings
from whimbrel.workers.migration_loader import load
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.process_start import StartedProcess
from whimbrel.workers.supervisor import Supervisor

SOON = 120.0  # seconds: generous, for what takes a few, and for ever if it goes wrong
COUNT = 12
HOLDING = """
import os, time
from whimbrel import migration

@migration(collection="things", timeout=120)
def holding(thing):
    while not os.path.exists(os.environ["OPEN"]):
        time.sleep(0.02)
    return {"$set": {"n": thing["n"] + 1}}
"""


def happens(true: Callable[[], object], seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@dataclass
class Stage:
    """A mongod behind a wire that can fail, and a migration whose function waits for a file."""

    rig: Rig
    wire: Proxy
    settings: Settings
    open: Path
    run: Run

    def address(self, **options: int) -> str:
        """Of MongoDB, through the wire."""
        return through(self.rig.uri, self.wire.port, **options)

    @property
    def direct(self) -> str:
        _, port = self.rig.client.address or ("", 0)
        return through(self.rig.uri, port)

    def supervisor(self, store: MongoStore, *, uri: str, size: int = 2) -> Supervisor:
        return Supervisor(
            store.ledger.batches, {"MONGODB_URI": uri}, size=size, slots=2, run=None, longest_call=120,
            leases=store.ledger.leases,
        )  # fmt: skip

    def held(self) -> set[str]:
        """Batches that somebody has claimed, dead or alive."""
        rows = self.rig.store.ledger.batches.list(self.run.id, statuses=[BatchStatus.RUNNING])
        return {each.token for each in rows}

    def finish(self) -> None:
        """By another parent, whose wire is whole: every document is changed once."""
        with store_at(self.direct, self.settings) as store:
            supervisor = self.supervisor(store, uri=self.direct, size=1)
            with ParentProcess(store, self.settings, supervisor):
                found = self.rig.finish(self.run)
                assert supervisor.drain(SOON)
        self.rig.reckon(found, COUNT)


@pytest.fixture
def stage(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    file, open_ = tmp_path / "holding.py", tmp_path / "open"
    file.write_text(HOLDING)
    host, port = rig.client.address or ("", 0)
    with Proxy(host, port) as wire:
        environment = {
            # Nobody alive shall lose a batch or a role because the machine stood still for a while.
            **SHORT_TIMES, "WHIMBREL_LEASE": "6", "WHIMBREL_GRACE": "2", "WHIMBREL_STATEMENT": "1.5", "MONGODB_URI": "mongodb://unused/", "MONGODB_DB_NAME": rig.store.database, "OPEN": str(open_),
            "WHIMBREL_MIGRATIONS": str(file), "WHIMBREL_CONNECT_SECONDS": "3",
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        rig.seed(COUNT)
        run = start_run(
            rig.store, load(str(file))["holding"].definition, who="test", defaults=Defaults(), batch_size=1
        )
        try:
            yield Stage(rig, wire, read_settings(), open_, run)
        finally:
            open_.touch()  # so that no child outlives a test that failed


class Asked(Exception):
    """Why the parent is left: what is raised inside must come out."""


@dataclass
class End:
    """What a thread that leaves a parent has to say. It is a daemon: should it hang, the test does not."""

    act: Callable[[], Any]
    result: Any = None
    error: BaseException | None = None
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = self.act()
        except BaseException as error:  # noqa: BLE001  whatever it is, the test looks at it
            self.error = error

    def over(self) -> "End":
        self.thread.join(SOON)
        assert not self.thread.is_alive(), "it hangs"
        return self


@pytest.mark.parametrize("away", ["cut", "freeze"])
def test_a_parent_ends_with_its_children_while_mongodb_is_away(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """They hold batches, and their function does not return: they must be killed, and cannot be signed off."""
    quick = stage.address(heartbeatFrequencyMS=500)
    asked: list[str | None] = []
    processes: list[StartedProcess] = []

    def leave() -> None:
        with store_at(quick, stage.settings) as store:
            note_take_overs(monkeypatch, store, asked)
            supervisor = stage.supervisor(store, uri=quick, size=3)
            with ParentProcess(store, stage.settings, supervisor):
                happens(lambda: len(stage.held()) == 6)
                processes.extend(each.process for each in supervisor._children)
                getattr(stage.wire, away)()
                assert not supervisor.drain(0.3)
                assert supervisor.alive == 0
                raise Asked

    end = End(leave).over()
    assert isinstance(end.error, Asked), end.error
    assert [each.returncode for each in processes] == [-signal.SIGKILL] * 3
    assert len(asked) == 1, "who does not answer for the first child is not asked for the others"
    held = stage.held()
    assert len(held) == 6
    stage.open.touch()
    stage.finish()
    rows = stage.rig.store.ledger.batches.list(stage.run.id)
    assert {each.token for each in rows if each.takeovers} >= held


def note_take_overs(patch: pytest.MonkeyPatch, store: MongoStore, asked: list[str | None]) -> None:
    """Those that are asked for on behalf of one worker."""
    batches = store.ledger.batches
    take_over = batches.take_over

    def noted(*, worker: str | None = None) -> Sequence[Batch]:
        asked.extend([worker] if worker else [])
        return take_over(worker=worker)

    patch.setattr(batches, "take_over", noted)


@pytest.mark.parametrize("how", ["drain", "kill"])
def test_children_are_told_at_once_though_the_parent_waits_for_the_ledger(stage: Stage, how: str) -> None:
    """Its thread asks for a dead child's batches, and the wire is frozen; the other child is well."""
    stage.open.touch()
    hanging = stage.address(heartbeatFrequencyMS=120_000)  # so long the driver waits for an answer
    with store_at(hanging, stage.settings) as store:
        supervisor = stage.supervisor(store, uri=stage.direct)
        with ParentProcess(store, stage.settings, supervisor):
            stage.rig.finish(stage.run)
            dead, well = (each.process for each in supervisor._children)
            stage.wire.freeze()
            try:
                dead.kill()
                happens(lambda: dead.returncode is not None)  # it was seen, and is being buried
                end = End(lambda: supervisor.drain(60) if how == "drain" else supervisor.kill())
                happens(lambda: well.poll() is not None)
                assert end.thread.is_alive()
            finally:
                stage.wire.thaw()
            assert end.over().error is None
            assert supervisor.alive == 0
    assert well.returncode == (0 if how == "drain" else -signal.SIGKILL)


def test_leaving_a_parent_does_not_wait_for_a_ledger_that_hangs(stage: Stage) -> None:
    """Its roles end by themselves."""
    hanging = stage.address(heartbeatFrequencyMS=120_000)
    leases = stage.rig.store.ledger.leases
    rows = stage.rig.client[stage.rig.store.database]["whimbrel_leases"]
    roles = {"sweep", f"coordinator:{stage.run.id}"}
    with store_at(hanging, stage.settings) as store:
        with contextlib.ExitStack() as inside:
            inside.enter_context(ParentProcess(store, stage.settings, None))
            happens(lambda: {each["_id"] for each in rows.find()} == roles)
            stage.wire.freeze()
            try:
                for role in roles:  # it does not renew them: its threads hang
                    happens(lambda role=role: leases.lead(role, "another", 60))  # type: ignore[misc]
                left = End(inside.pop_all().close).over()
            finally:
                stage.wire.thaw()
        assert left.error is None
