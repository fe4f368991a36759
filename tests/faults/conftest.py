"""Fault tests have a mongod of their own: some of them kill it."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SHORT
from tests.faults.rig import Rig
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
        found = Rig(store, home, tokens)
        yield found
        found.stop()
        store.client.drop_database(name)
