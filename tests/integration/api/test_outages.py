"""What is down is said in one plain sentence; the log has the whole."""

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from aiormq.exceptions import ProbableAuthenticationError
from pymongo.errors import NotPrimaryError, OperationFailure, ServerSelectionTimeoutError, WTimeoutError
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from tests.integration.api.conftest import serving
from tests.servers.serve import eventually
from whimbrel.api.outage_messages import OutageMessages
from whimbrel.brokers.rabbitmq.errors import translated as of_rabbitmq
from whimbrel.errors import BrokerUnavailable, Systemic, WhimbrelError
from whimbrel.mongo.driver_errors import translated
from whimbrel.settings import Settings

ELECTING = "MongoDB has no primary at this moment: its members choose one. Try again."
FULL = "The disk of the embedded MongoDB is full: free some space."
DRIVER = (
    "127.0.0.1:27017: [Errno 111] Connection refused (configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 20000.0ms), "
    "Timeout: 30s, Topology Description: <TopologyDescription id: 65a1b2c3d4e5f60718293a4b, topology_type: Unknown, servers: [...]>"
)
GIBBERISH = ("Errno", "refused", "Topology", "lsid", "clusterTime", "Timeout:")
PATHS = ("/migrate", "/queue/stats", "/db/ping", "/health", "/health/ready", "/db/health", "/queue/health")


def plain(client: TestClient, path: str) -> str:
    """The sentence of a 503."""
    answer = client.get(path)
    assert answer.status_code == 503, (path, answer.text)
    told = answer.json()
    sentence: str = (
        told.get("error") or told.get("reason") or told.get("detail") or told["database"]["detail"]
    )
    assert not [each for each in GIBBERISH if each in answer.text], answer.text
    assert len(sentence) < 300
    return sentence


def test_the_disk_of_the_embedded_mongodb_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mongod that meets a full disk ends; what clients see is a port where nobody is."""
    settings = Settings(
        mongodb_uri=None, whimbrel_home=tmp_path / "home", rabbitmq_url=None, whimbrel_connect_seconds=0.3
    )
    with serving(settings, workers=0) as client, capture_logs() as logs:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
        (server,) = [
            each for each in psutil.Process().children() if str(tmp_path) in " ".join(each.cmdline())
        ]
        server.kill()
        eventually(lambda: client.get("/db/ping").json().get("error") == FULL)
        assert {plain(client, path) for path in PATHS} == {FULL}
        started = client.post("/migrate", headers={"Idempotency-Key": "one"})
        assert (started.status_code, started.json()["error"]) == (503, FULL)
        assert client.get("/db/status").json()["reason"] == FULL
        monkeypatch.undo()  # there is room again
        eventually(lambda: client.get("/health/ready").status_code == 200)
        assert client.get("/migrate").status_code == 200
    whole = [each for each in logs if each["event"] == "a dependency is down"]
    assert any("refused" in each["reason"] for each in whole), "the log has what the driver says"


def raised(error: Exception) -> WhimbrelError:
    """What the border makes of a driver's error."""
    with pytest.raises(WhimbrelError) as found, translated():
        raise error
    return found.value


@pytest.mark.parametrize(
    ("error", "embedded", "sentence"),
    [
        (ServerSelectionTimeoutError(DRIVER), False, "MongoDB does not answer: check that it runs, and that MONGODB_URI is right."),
        (ServerSelectionTimeoutError(DRIVER), True, "The embedded MongoDB does not answer: it is being started again."),
        (OperationFailure("no space", 14031), False, "The disk of MongoDB is full: free some space there."),
        (OperationFailure("write failed: No space left on device", 8), True, FULL),
        (
            OperationFailure('not authorized on app to execute command { find: "whimbrel_runs", lsid: { id: UUID("x") } }', 13), False,
            "MongoDB does not allow this user to do that: grant it readWrite on the database.",
        ),
        (OperationFailure("operation exceeded time limit", 50), False, "MongoDB took too long for that: try again, or ask for less."),
        (OperationFailure("operation was interrupted", 262), False, "MongoDB could not carry that out at this moment: try again."),
        (OperationFailure("Authentication failed.", 18), False, "MongoDB refuses the user name or password: check MONGODB_URI."),
        (OperationFailure("bad auth", 8000), False, "MongoDB refuses the user name or password: check MONGODB_URI."),
        (OperationFailure("not primary", 10107), False, ELECTING),
        (OperationFailure("The server is in quiesce mode", 91), True, ELECTING),
        (NotPrimaryError("not primary"), False, ELECTING),
        (ServerSelectionTimeoutError("No primary available for writes, Timeout: 1.0s, Topology"), False, ELECTING),
        (ServerSelectionTimeoutError('No replica set members match selector "Primary()", Timeout: 1.0s'), False, ELECTING),
        (WTimeoutError("waiting for replication timed out", 64), False, "Too few members of MongoDB's replica set have answered in time: check that they run."),
        (
            ServerSelectionTimeoutError("SSL handshake failed: h:1: certificate verify failed: self-signed certificate"), False,
            "MongoDB and Whimbrel do not agree on TLS: check the certificates, and the tls options in MONGODB_URI.",
        ),
        (
            ServerSelectionTimeoutError("nowhere.invalid:27017: [Errno -2] Name or service not known"), False,
            "The name of MongoDB's host is not known to the network: check MONGODB_URI.",
        ),
    ],
)  # fmt: skip
def test_each_kind_has_its_sentence(error: Exception, embedded: bool, sentence: str) -> None:
    with capture_logs() as logs:
        assert OutageMessages(embedded=embedded).sentence_for(raised(error)) == sentence
    assert str(error)[:20] in logs[0]["reason"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(111, "Connect call failed ('127.0.0.1', 1)"), "does not answer: check that it runs, and that RABBITMQ_URL is right."),
        (OSError(-2, "Name or service not known"), "is not known to the network: check RABBITMQ_URL."),
        (OSError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "do not agree on TLS: check the certificates, and scheme and port in RABBITMQ_URL."),
        (TimeoutError(), "does not answer: check that it runs, and that RABBITMQ_URL is right."),
        (ProbableAuthenticationError("ACCESS_REFUSED"), "does not let us in: check RABBITMQ_URL, and what its user may do."),
    ],
)  # fmt: skip
def test_each_kind_of_rabbitmq_too(error: Exception, said: str) -> None:
    async def meets() -> None:
        with of_rabbitmq("amqp://app:XJX@queue.example.com/"):
            raise error

    with pytest.raises(WhimbrelError) as found:
        asyncio.run(meets())
    sentence = OutageMessages(embedded=True).sentence_for(found.value)
    assert sentence.endswith(said)
    assert "queue.example.com" in sentence
    assert "XJX" not in sentence
    assert "Errno" not in sentence


def test_what_nobody_shortened_is_its_first_sentence() -> None:
    found = OutageMessages(embedded=True)
    assert found.sentence_for(Systemic("It broke at 5.0.3. Then more was said.")) == "It broke at 5.0.3."
    assert len(found.sentence_for(Systemic("x" * 5000))) < 350
    away = BrokerUnavailable("RabbitMQ at amqp://here does not answer.")
    assert found.sentence_for(away, lost="The disk is full.") == "RabbitMQ at amqp://here does not answer."
