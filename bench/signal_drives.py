"""Makes each signal of the database's health bad for real, on a set of three with a run at work."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from pymongo import MongoClient, WriteConcern
from tests.integration.sampling.driving import fail_point, locked, parameter, writing
from tests.servers.replicas import ReplicaSet

from bench.application import Application
from bench.system import Bench
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Verdict
from whimbrel.engine.operating.health_settings import change_thresholds
from whimbrel.engine.operating.run_view import view
from whimbrel.errors import WhimbrelError

POLL = 0.1  # seconds
CALM, LIMIT = 180.0, 60.0  # seconds in which all must be good again, and in which a signal must be noticed
CHECK = "own-check"
LOOPS = 20  # of an application that more statements keep busy than there are tickets for


class Service(BaseHTTPRequestHandler):
    """The user's own check."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(Service.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@dataclass(frozen=True)
class Stage:
    """Where it happens."""

    replicas: ReplicaSet
    bench: Bench
    run: str

    @property
    def ledger(self) -> Any:
        return self.bench.store.ledger

    def verdict(self) -> Verdict | None:
        try:
            found: Verdict = self.ledger.health.verdict()
        except WhimbrelError:
            return None
        return found

    def documents(self) -> int:
        with contextlib.suppress(WhimbrelError):
            return view(self.ledger, self.ledger.runs.get(self.run)).counts.changed
        return 0


@dataclass(frozen=True)
class Drive:
    """A signal, and what makes it bad. `levels`: those that it is to reach."""

    signal: str
    how: str
    act: Callable[[Stage], AbstractContextManager[object]]
    levels: tuple[Level, ...] = (Level.SLOW, Level.STOP)


def wait_for(stage: Stage, reached: Callable[[Verdict], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        verdict = stage.verdict()
        if verdict is not None and verdict.age is not None and reached(verdict):
            return True
        time.sleep(POLL)
    return False


# What makes them bad


@contextmanager
def one_secondary_locked(stage: Stage) -> Iterator[None]:
    with writing(stage.bench.store), locked(stage.replicas.secondaries()[0]):
        yield


@contextmanager
def both_secondaries_locked(stage: Stage) -> Iterator[None]:
    with ExitStack() as stack:
        client = stack.enter_context(stage.replicas.primary().client())
        stack.enter_context(parameter(client, flowControlTargetLagSeconds=2))
        stack.enter_context(writing(stage.bench.store))
        for member in stage.replicas.secondaries():
            stack.enter_context(locked(member))
        yield


@contextmanager
def frozen(stage: Stage) -> Iterator[None]:
    member = stage.replicas.secondaries()[0]
    member.freeze()
    try:
        yield
    finally:
        member.thaw()


@contextmanager
def killed(stage: Stage) -> Iterator[None]:
    member = stage.replicas.secondaries()[0]
    member.kill()
    try:
        yield
    finally:
        stage.replicas.restart(member)


@contextmanager
def stepped_down(stage: Stage) -> Iterator[None]:
    stage.replicas.step_down()
    yield
    stage.replicas.wait_secondaries()


@contextmanager
def small_cache(stage: Stage) -> Iterator[None]:
    with stage.replicas.primary().client() as client:

        def size(megabytes: int) -> None:
            client.admin.command(
                {"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={megabytes}M"}
            )

        size(16)
        try:
            with writing(stage.bench.store, size=4000, threads=3):
                yield
        finally:
            size(256)


@contextmanager
def few_tickets(stage: Stage) -> Iterator[None]:
    """More statements than tickets at any moment, each of which takes the server a while: the ledger's writes wait as long as theirs."""
    part, over = 2000, threading.Event()
    application = stage.bench.store.client["application"].get_collection(
        "parts", write_concern=WriteConcern(1)
    )
    application.insert_many([{"_id": number} for number in range(LOOPS * part)])

    def update(first: int) -> None:
        while not over.is_set():
            application.update_many({"_id": {"$gte": first, "$lt": first + part}}, {"$inc": {"n": 1}})

    loops = [threading.Thread(target=update, args=(number * part,)) for number in range(LOOPS)]
    with (
        stage.replicas.primary().client() as client,
        parameter(client, wiredTigerConcurrentWriteTransactions=6),
    ):
        for loop in loops:
            loop.start()
        try:
            yield
        finally:
            over.set()
            for loop in loops:
                loop.join()
    application.drop()


def failing(
    name: str, mode: Any = "alwaysOn", *, threads: int = 0, beside: bool = False, **data: Any
) -> Callable[[Stage], AbstractContextManager[None]]:
    """A fail point of the primary. `threads`: of inserts meanwhile. `beside`: an application is at work, as canaries count then."""

    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        with ExitStack() as stack:
            if beside:
                application = stack.enter_context(Application(stage.replicas.uri, "bench", 100.0))
                application.begin()
                wait_for(stage, lambda verdict: (verdict.signals["other-operations"].value or 0) > 0, LIMIT)
            client = stack.enter_context(stage.replicas.primary().client())
            if threads:
                stack.enter_context(writing(stage.bench.store, threads=threads))
            stack.enter_context(fail_point(client, name, mode, **data))
            yield

    return act


@contextmanager
def index_build(stage: Stage) -> Iterator[None]:
    building: threading.Thread | None = None

    def build() -> None:
        with MongoClient[Any](stage.replicas.uri) as client:
            client[stage.bench.store.database][stage.bench.collection.name].create_index([("tags", 1)])

    with stage.replicas.primary().client() as client:
        with fail_point(client, "hangAfterStartingIndexBuild"):
            building = threading.Thread(target=build)
            building.start()
            yield
        building.join()


def thresholds(signal: str, slow: float, stop: float) -> Callable[[Stage], AbstractContextManager[None]]:
    """The thresholds are moved to the real value, as it cannot be made worse within reason."""

    @contextmanager
    def act(stage: Stage) -> Iterator[None]:
        change_thresholds(stage.ledger, signal, slow=slow, stop=stop, who="bench")
        try:
            yield
        finally:
            change_thresholds(stage.ledger, signal, slow=None, stop=None, who="bench", reset=True)

    return act


@contextmanager
def own_check(_: Stage) -> Iterator[None]:
    Service.status = 503
    try:
        yield
    finally:
        Service.status = 200


SLOW, STOP = (Level.SLOW,), (Level.STOP,)
OURS = {"blockConnection": True, "appName": "whimbrel"}
DRIVES = (
    Drive("member-lag", "`fsync lock` on one secondary", one_secondary_locked),
    Drive("majority-lag", "`fsync lock` on both", both_secondaries_locked),
    Drive("majority-write", "the same", both_secondaries_locked),
    Drive("flow-control-lagged", "the same, with its target at 2 s", both_secondaries_locked, STOP),
    Drive("member-silence", "SIGSTOP of a secondary", frozen, SLOW),
    Drive("members-down", "SIGKILL of a secondary", killed, STOP),
    Drive("flow-control", "the fail point `flowControlTicketOverride`, eight loops of inserts", failing("flowControlTicketOverride", threads=8, numTickets=20), SLOW),
    Drive("cache-dirty", "a cache of 16 MB, three loops of inserts", small_cache),
    Drive("cache-updates", "the same", small_cache),
    Drive("application-evictions", "the same", small_cache, SLOW),
    Drive("cache-used", "the threshold moved below the real value", thresholds("cache-used", 0.001, 0.001), STOP),
    Drive("ticket-queue", "6 tickets, 20 loops that each update 2,000 documents at a time", few_tickets, STOP),
    Drive("read-canary", "the fail point `failCommand` on its `find`, beside an application", failing("failCommand", beside=True, failCommands=["find"], blockTimeMS=120, **OURS)),
    Drive("write-canary", "the same on its `update`", failing("failCommand", beside=True, failCommands=["update"], blockTimeMS=400, **OURS)),
    Drive("write-conflicts", "the fail point `WTWriteConflictException`, two loops of inserts", failing("WTWriteConflictException", {"activationProbability": 0.3}, threads=2), SLOW),
    Drive("operation-latency", "thresholds set to 0", thresholds("operation-latency", 0, 0), STOP),
    Drive("disk-used", "the threshold moved below the real value", thresholds("disk-used", 0.001, 0.001), STOP),
    Drive("connections-free", "the same", thresholds("connections-free", 100, 100), STOP),
    Drive("new-primary", "`replSetStepDown`", stepped_down, STOP),
    Drive("index-build", "the fail point `hangAfterStartingIndexBuild`", index_build, SLOW),
    Drive(CHECK, "a check of one's own that answers 503", own_check, STOP),
    Drive("connections-free", "`serverStatus` refused by the fail point `failCommand`: what cannot be read any more", failing("failCommand", failCommands=["serverStatus"], errorCode=13)),
)  # fmt: skip
