"""Fault tests have a mongod of their own: some of them kill it."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SHORT
from tests.faults.rig import PATIENT, Rig
from tests.servers.replicas import ReplicaSet
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import connected


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("faults")
    with embedded(found):
        yield found


@pytest.fixture
def rig(home: Path, tmp_path: Path) -> Iterator[Rig]:
    name = f"faults_{secrets.token_hex(4)}"
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    with embedded(home) as uri, connected(uri, name, SHORT) as store:
        found = Rig(store, home, tokens, uri)
        yield found
        found.stop()
        store.client.drop_database(name)


SESSION = 60.0  # seconds: the least that the server takes
LONG_DOCUMENTS = 2


@dataclass(frozen=True, slots=True)
class LongRun:
    """A run that takes longer than the server keeps a session that it has not heard of."""

    rig: Rig
    run: Run
    started: float


@pytest.fixture(scope="session")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LongRun]:
    """Begun early, so that it goes on beside the other tests; it sleeps nearly all the time.

    Sessions end after one minute instead of thirty, the least that the server takes.
    """
    folder = tmp_path_factory.mktemp("long")
    limits = {"localLogicalSessionTimeoutMinutes": int(SESSION / 60), "logicalSessionRefreshMillis": 5000}
    with ReplicaSet(1, **limits) as server, connected(server.uri, "long", SHORT) as store:
        rig = Rig(store, folder, folder, server.uri)
        rig.environment |= PATIENT | {"MONGODB_URI": server.uri}  # a batch that is lost sleeps once more
        rig.seed(LONG_DOCUMENTS)
        run = rig.start("napping", batch_size=1)
        rig.parent(workers=1, slots=2)
        yield LongRun(rig, run, time.monotonic())
        rig.stop()
