"""The dashboard over a real MongoDB, in this process, without workers: what needs no browser."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS
from tests.servers.serve import eventually
from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.dashboard.app import install
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

Docs = Database[dict[str, Any]]
ALL = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
BROWSER = {
    "Origin": "http://localhost:3000",
    "Accept": "text/html",
}  # what a browser says when it sends a form
Instances = Callable[..., TestClient]


@pytest.fixture(scope="module")
def docs(client: MongoClient[dict[str, Any]]) -> Iterator[Docs]:
    """One database for the tests of a module."""
    name = f"test_{secrets.token_hex(4)}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture(scope="module")
def instances(mongo_uri: str, docs: Docs) -> Iterator[Instances]:
    """Gives a client of a new instance; all of a module have one ledger."""
    with ExitStack() as stack:

        def start(tokens: str = ALL, base: str = "http://localhost:3000", **given: Any) -> TestClient:
            options = {
                "mongodb_uri": mongo_uri,
                "mongodb_db_name": docs.name,
                "api_rate": "100000/minute",
                "rabbitmq_url": None,
            }
            settings = Settings(**(options | given))
            system = System(settings, WorkerPool(workers=1, slots=1, source=None), workers=False)
            app = create_app(system, read_tokens(tokens))
            install(app, system, read_tokens(tokens))
            client = TestClient(app, base_url=base, follow_redirects=False, raise_server_exceptions=False)
            stack.enter_context(client)
            eventually(lambda: system.ready)
            return client

        yield start


@pytest.fixture(scope="module")
def shared(instances: Instances) -> TestClient:
    """One instance for the tests of a module."""
    return instances()


@pytest.fixture
def visitor(shared: TestClient) -> Iterator[TestClient]:
    """The same without cookies."""
    shared.cookies.clear()
    yield shared
    shared.cookies.clear()


def log_in(client: TestClient, scope: str = "admin", **headers: str) -> Any:
    answer = client.post("/dashboard/login", data={"token": TOKENS[scope]}, headers=BROWSER | headers)
    assert answer.status_code == 303, answer.text
    return answer
