"""No password and no token in any line that is logged or answered, through refusals, lost connections and every route."""

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from pymongo.uri_parser import parse_uri

from tests.integration.api.conftest import TOKENS, Docs, seed
from tests.servers.proxy import Proxy
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import Serve, eventually

PASSWORD = {"mongodb": "hush:mongo@1", "rabbitmq": "hush/rabbit@2"}
STREAMS = {"/migrate/events/{migrationId}", "/migrate/stream"}


@pytest.fixture
def wires(mongo_uri: str, node: RabbitNode) -> Iterator[dict[str, Proxy]]:
    """Networks to both servers, cut."""
    ((_, port),) = parse_uri(mongo_uri)["nodelist"]
    with Proxy("127.0.0.1", port) as mongodb, Proxy("127.0.0.1", node.port) as rabbitmq:
        mongodb.cut()
        rabbitmq.cut()
        yield {"mongodb": mongodb, "rabbitmq": rabbitmq}


@pytest.fixture
def environment(wires: dict[str, Proxy], database: Docs, node: RabbitNode) -> dict[str, str]:
    database.command("createUser", "me", pwd=PASSWORD["mongodb"], roles=["readWrite", "dbAdmin"])
    node.set_user("me", PASSWORD["rabbitmq"])
    host = {
        name: f"me:{quote(PASSWORD[name], safe='')}@127.0.0.1:{wire.port}" for name, wire in wires.items()
    }
    return {
        "MONGODB_URI": f"mongodb://{host['mongodb']}/?directConnection=true&authSource={database.name}",
        "MONGODB_DB_NAME": database.name,
        "RABBITMQ_URL": f"amqp://{host['rabbitmq']}/",
        "API_TOKENS": ",".join(f"{scope}:{token}" for scope, token in TOKENS.items()),
        "WHIMBREL_CONNECT_SECONDS": "0.5",
        "LOG_LEVEL": "debug",
    }


def waits(it: Serve, words: str) -> None:
    eventually(lambda: words in it.client.get("/health/ready").json()["reason"])


def every_get(it: Serve, run: str) -> list[str]:
    """The answers of all GET routes, whatever their status."""
    openapi = it.client.get("/openapi.json")
    targets = [
        re.sub(r"\{migrationId\}", run, path).replace("{batchId}", f"{run}.0").replace("{name}", "default")
        for path, methods in openapi.json()["paths"].items()
        if "get" in methods and path not in STREAMS
    ]
    assert len(targets) > 25
    wrong = {"authorization": f"Bearer {'w' * 20}"}
    with ThreadPoolExecutor(12) as pool:  # many wait for a server that does not answer
        found = list(pool.map(it.client.get, targets))
        found += pool.map(lambda target: it.client.get(target, headers=wrong), targets)
    return [f"{each.url} {each.headers} {each.text}" for each in [openapi, *found]]


def clean(text: str) -> None:
    for secret in (
        *PASSWORD.values(),
        *(quote(each, safe="") for each in PASSWORD.values()),
        *TOKENS.values(),
    ):
        assert secret not in text
    assert "hush" not in text
    assert "w" * 20 not in text, "a token that somebody mistyped"


def test_passwords_and_tokens_stay_inside(
    environment: dict[str, str], wires: dict[str, Proxy], node: RabbitNode, database: Docs, tmp_path: Path
) -> None:
    seed(database, 20)
    with Serve(environment, tmp_path, "--workers", "1", token=TOKENS["admin"]) as it:
        waits(it, "did not answer within 0.5 seconds")
        told = every_get(it, "20990101-aaaaaa")
        wires["mongodb"].heal()
        waits(it, "RabbitMQ at amqp://***@127.0.0.1")
        told += every_get(it, "20990101-aaaaaa")
        wires["rabbitmq"].heal()
        it.wait()
        run = it.client.post("/migrate").json()["migrationId"]
        it.ended(run)
        told += every_get(it, run)
        for wire in wires.values():
            wire.cut()
        eventually(lambda: it.client.get("/health").status_code == 503)
        told += every_get(it, run)
        for wire in wires.values():
            wire.heal()
        it.wait()
        it.process.tell(signal.SIGTERM)
        assert it.process.code(60) == 0
    assert "me:***@127.0.0.1" in it.said()
    clean(it.said())
    clean("\n".join(told))


def test_passwords_that_are_refused_are_not_told(
    environment: dict[str, str], wires: dict[str, Proxy], node: RabbitNode, database: Docs, tmp_path: Path
) -> None:
    for wire in wires.values():
        wire.heal()
    database.command("updateUser", "me", pwd="another")  # noqa: S106
    node.set_user("me", "another")
    with Serve(environment, tmp_path, "--workers", "1", token=TOKENS["admin"]) as it:
        waits(it, "refused the user name or password")
        told = every_get(it, "20990101-aaaaaa")
        database.command("updateUser", "me", pwd=PASSWORD["mongodb"])
        assert it.process.code(60) == 74  # what RabbitMQ refuses, waiting does not mend
    assert "RabbitMQ at amqp://***@127.0.0.1" in it.said()
    clean(it.said())
    clean("\n".join(told))
