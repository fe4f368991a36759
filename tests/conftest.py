"""What all tests share: a real MongoDB, started by the run itself, and a database of its own for each test."""

import gc
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from pymongo import MongoClient
from pymongo.database import Database

from tests.databases import Databases
from tests.full import EVERYTHING, LEFT_OUT
from tests.servers import preloaded
from tests.servers.rabbit import RabbitNode
from tests.shared_routes import share_routes
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.mongo import store as mongo_store
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore, connected

# A shell makes its children in the background ignore Ctrl-C, and they theirs: the programs that are tested shall hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers that a few thousand small tests start write to memory: a disk that each of their writes waits for takes most of the time.
MEMORY, ROOM = Path("/dev/shm"), 8 * 2**30  # noqa: S108  folders in it have random names
if not EVERYTHING and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# A busy machine is not well, and runs would rightly wait: the tests of the health turn it on.
os.environ["WHIMBREL_HEALTH"] = "off"

# Many tests let documents fail on purpose: the tests of the failure budget turn it on.
os.environ["WHIMBREL_MAX_FAILURE_RATE"] = os.environ["WHIMBREL_MAX_NEW_CAUSE"] = "off"

# The machine may stand still for a second at any time. `make test` tries the same examples each time, `make chaos` others.
settings.register_profile("shared machine", deadline=None, derandomize=not EVERYTHING)
settings.load_profile("shared machine")

# Short times, so that lost leases are found within a test's patience.
SHORT = Times(
    lease=1.5,
    grace=0.6,
    statement=0.5,
    chunk=0.5,
    tick=0.05,
    sweep=0.2,
    idle_poll=0.05,
    control=0.05,
    broker=0.3,
    notes=float(
        "inf"
    ),  # after each chunk, whatever that costs: what a test sees does not depend on the machine
)

# For what counts calls and claims exactly: a mongod that stands still for a while must make no statement be sent again, and end no lease.
PATIENT = replace(SHORT, lease=15, grace=5, statement=4)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `make chaos` runs; a name there that no test has any more is an error."""
    named = {each: [item for item in items if item.nodeid.startswith(each)] for each in LEFT_OUT}
    if config.args == config.getini("testpaths"):
        gone = [each for each, found in named.items() if not found]
        if gone:
            raise pytest.UsageError(f"tests/full.py names tests that are not there: {', '.join(gone)}")
    if not EVERYTHING:
        left = {item for found in named.values() for item in found}
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=list(left))


def pytest_collection_finish() -> None:
    """The tests themselves stay as they are: the collector of garbage need not look through them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _once() -> Iterator[None]:
    """What takes most of the time of many tests is done once: Whimbrel's imports, also for its worker processes, and the API's routes."""
    with pytest.MonkeyPatch.context() as patch:
        preloaded.share_imports()
        # The address is the same each time; to read it takes as long as ten statements.
        patch.setattr(mongo_store, "check_uri", cache(mongo_store.check_uri))
        share_routes(patch)
        yield


@pytest.fixture(scope="session")
def mongo_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a mongod that lives as long as this test run."""
    home: Path = tmp_path_factory.mktemp("whimbrel")
    with embedded(home) as uri:
        yield uri


@pytest.fixture(scope="session")
def client(mongo_uri: str) -> Iterator[MongoClient[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_uri) as found:
        yield found


@pytest.fixture(scope="session")
def databases(client: MongoClient[dict[str, Any]]) -> Iterator[Databases]:
    found = Databases(client)
    yield found
    found.close()


@pytest.fixture
def database(
    request: pytest.FixtureRequest, client: MongoClient[dict[str, Any]], databases: Databases
) -> Iterator[Database[dict[str, Any]]]:
    """A database without documents; with the ledger's empty collections where the test has a store, or settings of a server.

    A test that asks for `client` looks at the server itself, such as its oplog: its database has had no other test.
    """
    if (
        not {"store", "patient_store", "settings"} & set(request.fixturenames)
        or "client" in signature(request.function).parameters
    ):
        name = databases.new()
        yield client[name]
        databases.drop(name)
        return
    name, threads = databases.take(), set(threading.enumerate())
    yield client[name]
    databases.give_back(name, threads)


@pytest.fixture
def store(mongo_uri: str, database: Database[dict[str, Any]], databases: Databases) -> Iterator[MongoStore]:
    """The ledger and collections of the test's database, by short times."""
    with connected(mongo_uri, database.name, SHORT) as found:
        found.prepare()
        databases.learn(database.name)
        yield found


@pytest.fixture
def patient_store(
    mongo_uri: str, database: Database[dict[str, Any]], databases: Databases
) -> Iterator[MongoStore]:
    """The same, by times that outlast a MongoDB that stands still for a while."""
    with connected(mongo_uri, database.name, PATIENT) as found:
        found.prepare()
        databases.learn(database.name)
        yield found


@pytest.fixture(scope="session")
def rabbit_node() -> Iterator[RabbitNode]:
    """A RabbitMQ of this test run's own. It fails, and says what to install, where there is none."""
    with RabbitNode() as found:
        yield found


@pytest.fixture
def node(rabbit_node: RabbitNode) -> RabbitNode:
    """The node, running, without queues."""
    rabbit_node.start()
    for name in rabbit_node.queues():
        rabbit_node.delete_queue(name)
    return rabbit_node
