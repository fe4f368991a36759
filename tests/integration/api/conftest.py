"""The API over a real MongoDB: with workers where something shall move, without where it shall stand still."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from starlette.testclient import TestClient

from tests.servers.rabbit import RabbitNode
from tests.servers.serve import eventually
from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.samples.seeder import documents
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

Docs = Database[dict[str, Any]]
TOKENS = {"read": "r" * 20, "operate": "o" * 20, "admin": "a" * 20}


@contextmanager
def serving(
    settings: Settings, *, workers: int, tokens: str = "", source: str | None = None
) -> Iterator[TestClient]:
    """The application, ready; its workers, if any, are real processes."""
    system = System(settings, WorkerPool(workers=workers or 1, slots=2, source=source), workers=workers > 0)
    app = create_app(system, read_tokens(tokens))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        eventually(lambda: client.get("/health/ready").status_code == 200)
        yield client


def ended(client: TestClient, migration_id: str, seconds: float = 60) -> dict[str, Any]:
    """The run, when it has ended."""
    found: dict[str, Any] = {}

    def over() -> bool:
        nonlocal found
        found = client.get(f"/migrate/status/{migration_id}").json()["migration"]
        return found["endTime"] is not None

    eventually(over, seconds)
    return found


def seed(database: Docs, count: int, **options: Any) -> None:
    """Sample documents, with the index that the phases use."""
    database["somemodels"].create_index([("status", 1), ("_id", 1)])
    database["somemodels"].insert_many(list(documents(count, **options)))


@pytest.fixture
def settings(mongo_uri: str, database: Docs) -> Settings:
    """Short times, a database of the test's own, the ledger broker."""
    return Settings(
        mongodb_uri=mongo_uri, mongodb_db_name=database.name, retry_delay=20, api_rate="10000/minute", whimbrel_lease=3, whimbrel_grace=1,
        whimbrel_statement=0.9, whimbrel_sweep=0.2, whimbrel_idle_poll=0.05, whimbrel_broker_look=0.3, rabbitmq_url=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def refused(client: MongoClient[dict[str, Any]]) -> Iterator[Docs]:
    """The database of `refusing`."""
    name = f"test_{secrets.token_hex(4)}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture(scope="module")
def refusing(mongo_uri: str, refused: Docs) -> Iterator[TestClient]:
    """One server of a module, without workers, for what it refuses: nothing that another test sees is changed."""
    settings = Settings(
        mongodb_uri=mongo_uri, mongodb_db_name=refused.name, rabbitmq_url=None, api_rate="10000/minute"
    )
    with serving(settings, workers=0) as client:
        yield client


@pytest.fixture
def still(settings: Settings) -> Iterator[TestClient]:
    """No workers: what is started stays where it is."""
    with serving(settings, workers=0) as client:
        yield client


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    """With a worker process."""
    with serving(settings, workers=1) as client:
        yield client


@pytest.fixture(params=["ledger", "rabbitmq"])
def both(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    """With a worker process, once with each broker."""
    url = None
    if request.param == "rabbitmq":
        node: RabbitNode = request.getfixturevalue("node")
        url = node.url
    with serving(settings.model_copy(update={"rabbitmq_url": url}), workers=1) as client:
        yield client
