"""MongoDB over HTTP: whether it answers, what it is, and counts by each kind of mark."""

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from whimbrel.api.app import create_app
from whimbrel.api.deployment import System
from whimbrel.api.routes import database as routes
from whimbrel.bootstrap import Opened
from whimbrel.domain.migrations.migration import Migration
from whimbrel.errors import TooSlow
from whimbrel.mongo.store import MongoStore
from whimbrel.mongo.survey import MongoSurvey
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

MIGRATIONS = """
from whimbrel import Migration

marked = Migration(name="marked", collection="goods", filter={"kind": "a"}, update=[{"$set": {"x": 1}}])
gone = Migration(name="gone", collection="goods", mark="filter", filter={"old": {"$exists": True}}, update=[{"$unset": "old"}])
"""


@pytest.fixture
def migrations(tmp_path: Path) -> str:
    path = tmp_path / "these.py"
    path.write_text(MIGRATIONS)
    return str(path)


def test_what_answers(still: TestClient, database: Docs) -> None:
    health = still.get("/db/health")
    assert (health.status_code, health.json()["connection"]) == (200, "connected")
    told = still.get("/db/status").json()
    host, port = told["primary"].split(":")
    assert (told["isConnected"], told["host"], told["port"]) == (True, host, int(port))
    assert (told["name"], told["version"], told["reason"]) == (
        database.name,
        database.client.server_info()["version"],
        None,
    )
    assert told["replicaSet"] == database.client.admin.command("hello")["setName"]
    assert 0 < still.get("/db/ping").json()["responseTimeMs"] < 10_000


def test_the_configuration_without_secrets(settings: Settings, database: Docs) -> None:
    secret = settings.model_copy(
        update={"mongodb_uri": f"{settings.mongodb_uri}&authMechanismProperties=AWS_SESSION_TOKEN:hidden-one"}
    )
    assert "?" in str(settings.mongodb_uri)
    with serving(secret, workers=0) as client:
        answer = client.get("/db/info")
        told = answer.json()
        assert "hidden-one" not in answer.text + client.get("/db/health").text
    assert told["uri"].endswith("authMechanismProperties=***")
    assert (told["name"], told["embedded"], told["sampleCollection"]) == (database.name, False, "somemodels")
    assert {"whimbrel_runs", "whimbrel_batches", "whimbrel_failures"} <= set(told["ledger"])
    assert told["options"]["appName"] == "whimbrel"
    assert told["options"]["serverSelectionTimeoutMs"] == 10_000


def test_passwords_are_masked() -> None:
    uri = "mongodb://app:pa:ss@one:1,two:2/?tlsCertificateKeyFilePassword=word&ssl=true&proxyPassword=other"
    masked = Opened(uri, None, "").address  # type: ignore[arg-type]
    assert (
        masked
        == "mongodb://app:***@one:1,two:2/?tlsCertificateKeyFilePassword=***&ssl=true&proxyPassword=***"
    )


def test_without_mongodb(settings: Settings) -> None:
    away = settings.model_copy(
        update={"mongodb_uri": "mongodb://127.0.0.1:1/", "whimbrel_connect_seconds": 0.3}
    )
    system = System(away, WorkerPool(workers=1, slots=1, source=None), workers=False)
    with TestClient(
        create_app(system, ()), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        health = client.get("/db/health")
        assert (health.status_code, health.json()["connection"]) == (503, "disconnected")
        assert health.json()["success"] is True
        told = client.get("/db/status").json()
        assert (told["isConnected"], told["host"], told["version"]) == (False, None, None)
        assert told["reason"]
        for path in ("info", "ping", "count", "pending-count", "success-count"):
            answer = client.get(f"/db/{path}")
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_mongodb_that_goes_away(still: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    system: System = still.app.state.system  # type: ignore[attr-defined]
    with MongoStoreAway(system.deployment.store, monkeypatch):
        assert still.get("/db/health").json()["connection"] == "disconnected"
        assert still.get("/db/status").json()["isConnected"] is False
        assert (still.get("/db/ping").status_code, still.get("/db/ping").json()["code"]) == (503, "transient")


class MongoStoreAway:
    """A store whose server cannot be selected: its client looks at a port where nobody is."""

    def __init__(self, store: MongoStore, monkeypatch: pytest.MonkeyPatch) -> None:
        from pymongo import MongoClient  # noqa: PLC0415

        self._store, self._patch = store, monkeypatch
        self._client: MongoClient[Any] = MongoClient("mongodb://127.0.0.1:1/", serverSelectionTimeoutMS=200)

    def __enter__(self) -> None:
        self._patch.setattr(self._store, "client", self._client)

    def __exit__(self, *_: object) -> None:
        self._patch.undo()
        self._client.close()


@pytest.mark.parametrize("exact", ["true", "false"])
def test_counts_of_the_sample(still: TestClient, database: Docs, exact: str) -> None:
    asked = {"exact": exact}
    assert still.get("/db/count", params=asked).json()["count"] == 0  # there is no collection yet
    assert still.get("/db/pending-count", params=asked).json()["count"] == 0
    seed(database, 7)
    seed(database, 5, status="success")
    seed(database, 3, status="failed")
    everything = still.get("/db/count", params=asked).json()
    assert (everything["count"], everything["collection"]) == (15, f"{database.name}.somemodels")
    assert (everything["method"], everything["exact"]) == (
        ("counted", True) if exact == "true" else ("metadata", False)
    )
    pending = still.get("/db/pending-count", params=asked).json()
    assert (pending["count"], pending["method"]) == (7, "counted")
    assert "'status' is 'pending'" in pending["meaning"]
    assert still.get("/db/success-count", params=asked).json()["count"] == 5


def test_counts_by_other_marks(settings: Settings, database: Docs, migrations: str) -> None:
    mark = "_whimbrel.marked_v1"
    goods = database["goods"]
    goods.insert_many([{"kind": "a", "old": 1} for _ in range(4)])
    goods.insert_many([{"kind": "b"} for _ in range(3)])
    for ending in ("", "/u", "/s", "/f"):
        goods.insert_one({"kind": "a", "_whimbrel": {"marked_v1": f"20990101-aaaaaa.1{ending}"}})
    assert goods.count_documents({mark: {"$exists": True}}) == 4
    with serving(settings, workers=0, source=migrations) as client:

        def count(what: str, migration: str) -> int:
            told = client.get(f"/db/{what}", params={"migration": migration}).json()
            assert (told["migration"], told["exact"]) == (migration, True)
            return int(told["count"])

        assert (count("count", "marked"), count("count", "gone")) == (11, 11)
        assert (count("pending-count", "marked"), count("success-count", "marked")) == (4, 3)
        assert (count("pending-count", "gone"), count("success-count", "gone")) == (4, 7)
        words = client.get("/db/success-count?migration=gone").json()["meaning"]
        assert "leaves no trace" in words


def test_counting_that_takes_too_long(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["somemodels"].insert_many([{"status": "pending" if n % 4 else "success"} for n in range(40_000)])
    monkeypatch.setattr(routes, "LONGEST", 0.001)
    monkeypatch.setattr(routes, "QUICKLY", 0.001)
    slow = still.get("/db/pending-count")
    assert (slow.status_code, slow.json()["code"]) == (503, "too_slow")
    assert "exact=false" in slow.json()["error"]
    about = still.get("/db/pending-count?exact=false").json()
    assert (about["method"], about["exact"]) == ("sampled", False)
    assert 25_000 < about["count"] < 35_000

    def too_slow(*_: Any) -> float:
        raise TooSlow("operation exceeded time limit")

    monkeypatch.setattr(MongoSurvey, "share", too_slow)
    assert still.get("/db/pending-count?exact=false").json()["code"] == "too_slow"


def test_what_is_left_and_what_is_done_make_the_whole_by_any_estimate(
    store: MongoStore, database: Docs
) -> None:
    it = Migration(
        name="gone", collection="goods", mark="filter", filter={"old": 1}, update=[{"$unset": "old"}]
    ).definition
    assert routes.succeeded(it).others
    assert routes.pending(it).query == routes.succeeded(it).query == {"old": 1}
    assert store.survey_of(database.name, "goods").share({"old": 1}) == 0.0
    database["goods"].insert_many([{"old": 1}, {"old": 2}])
    assert store.survey_of(database.name, "goods").share({"old": 1}) == 0.5


@pytest.mark.parametrize("path", ["count", "pending-count", "success-count"])
def test_what_cannot_be_counted(refusing: TestClient, path: str) -> None:
    unknown = refusing.get(f"/db/{path}?migration=some-modle")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "migration_unknown")
    odd = refusing.get(f"/db/{path}?exact=perhaps")
    assert (odd.status_code, odd.json()["details"][0]["field"]) == (422, "query.exact")


def test_scopes(settings: Settings) -> None:
    with serving(settings, workers=0, tokens=f"read:{TOKENS['read']}") as client:
        assert client.get("/db/health").status_code == 200  # as /health: for probes
        for path in ("status", "info", "ping", "count", "pending-count", "success-count"):
            assert client.get(f"/db/{path}").status_code == 401
            reading = {"authorization": f"Bearer {TOKENS['read']}"}
            assert client.get(f"/db/{path}", headers=reading).status_code == 200
