"""`whimbrel serve` as a process: in which order it starts, what it waits for, how it ends, what it refuses."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo.uri_parser import parse_uri

from tests.full import EVERYTHING
from tests.integration.api.conftest import Docs
from tests.servers.proxy import Proxy
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import Serve, eventually
from whimbrel.cli.api_server import listen

PROGRAM = [sys.executable, "-m", "whimbrel.cli.main", "serve"]
MIGRATIONS = """
import os
import time

from whimbrel import migration


@migration(collection="things", batch_size=20)
def slowly(document):
    time.sleep(float(os.environ["NAP"]))
    return {"$inc": {"n": 1}}


@migration(collection="things", timeout=120)
def asleep(document):
    time.sleep(60)
    return {"$inc": {"n": 1}}
"""


@pytest.fixture
def environment(mongo_uri: str, database: Docs, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "moving.py"
    file.write_text(MIGRATIONS)
    return {
        "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "WHIMBREL_MIGRATIONS": str(file),
        "WHIMBREL_CONNECT_SECONDS": "0.5", "NAP": "0.01",
    }  # fmt: skip


@pytest.fixture
def wire(mongo_uri: str) -> Iterator[Proxy]:
    """A network to MongoDB."""
    ((host, port),) = parse_uri(mongo_uri)["nodelist"]
    with Proxy(host, port) as found:
        yield found


def through(wire: Proxy, mongo_uri: str) -> str:
    """The address of the other end of a network."""
    ((host, port),) = parse_uri(mongo_uri)["nodelist"]
    return mongo_uri.replace(f"{host}:{port}", f"127.0.0.1:{wire.port}").replace(
        "replicaSet=whimbrel", "directConnection=true"
    )


def refusals(it: Serve) -> list[dict[str, Any]]:
    """What the log says of attempts that failed."""
    lines = [line for line in it.said().splitlines() if line.startswith("{")]
    return [row for row in map(json.loads, lines) if row["event"] == "not ready"]


def waits_for(it: Serve, words: str) -> None:
    """It is alive and not ready, says why, and tries again at growing pauses."""
    eventually(lambda: words in it.client.get("/health/ready").json()["reason"])
    eventually(lambda: len(refusals(it)) >= 3)
    assert it.client.get("/health/live").status_code == 200
    ready = it.client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
    start = it.client.post("/migrate", json={"migration": "slowly"})
    assert (start.status_code, start.json()["code"]) == (503, "not_ready")
    rows = [row for row in refusals(it) if words in row["reason"]]
    pauses = [row["seconds_to_next_attempt"] for row in rows]
    assert rows
    assert pauses == sorted(pauses)


def works(it: Serve, database: Docs) -> None:
    """It is ready, and carries a run out."""
    it.wait()
    database["things"].insert_many({"_id": number} for number in range(40))
    run = it.ended(it.client.post("/migrate", json={"migration": "slowly"}).json()["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", 40)


def test_mongodb_that_is_missing_at_the_start_is_waited_for(
    environment: dict[str, str], wire: Proxy, mongo_uri: str, database: Docs, tmp_path: Path
) -> None:
    wire.cut()
    uri = through(wire, mongo_uri)
    with Serve(environment | {"MONGODB_URI": uri}, tmp_path, "--workers", "1") as it:
        waits_for(it, f"@127.0.0.1:{wire.port}/")
        wire.heal()
        works(it, database)


def test_rabbitmq_that_is_missing_at_the_start_is_waited_for(
    environment: dict[str, str], node: RabbitNode, database: Docs, tmp_path: Path
) -> None:
    with Proxy("127.0.0.1", node.port) as wire:
        wire.cut()
        url = node.url.replace(str(node.port), str(wire.port))
        with Serve(environment | {"RABBITMQ_URL": url}, tmp_path, "--workers", "1") as it:
            waits_for(it, "RabbitMQ")
            wire.heal()
            works(it, database)


def test_it_ends_at_once_while_it_waits(
    environment: dict[str, str], wire: Proxy, mongo_uri: str, tmp_path: Path
) -> None:
    wire.cut()
    uri = through(wire, mongo_uri)
    changes = {"MONGODB_URI": uri, "WHIMBREL_CONNECT_SECONDS": "600"}
    with Serve(environment | changes, tmp_path) as it:
        it.process.tell(signal.SIGTERM)
        assert it.process.code() == 0


def moving(it: Serve, database: Docs, migration: str, count: int) -> str:
    """A run that workers work on."""
    it.wait()
    database["things"].insert_many({"_id": number} for number in range(count))
    run = str(it.client.post("/migrate", json={"migration": migration}).json()["migrationId"])
    eventually(lambda: database["whimbrel_batches"].find_one({"status": "running"}))
    return run


def children(it: Serve) -> list[psutil.Process]:
    return psutil.Process(it.process.pid).children()


def test_sigterm_drains_and_another_start_goes_on(
    environment: dict[str, str], database: Docs, tmp_path: Path
) -> None:
    with Serve({**environment, "NAP": "0.2"}, tmp_path, "--workers", "1") as first:
        run = moving(first, database, "slowly", 300)
        eventually(lambda: database["whimbrel_batches"].find_one({"status": "done"}))
        at_work = children(first)
        with first.client.stream("GET", f"/migrate/events/{run}") as stream:
            pieces = stream.iter_text()
            assert "event: progress" in next(pieces)
            first.process.tell(signal.SIGTERM)
            events = "".join(pieces)  # it ends, although the run goes on
        assert "event: end" not in events
        assert first.process.code(60) == 0
        assert f"{first.url}/ (dashboard)" in first.said()
        assert "graceful shutdown exceeded" not in first.said()
    assert at_work
    assert not any(each.is_running() for each in at_work)
    assert not database["whimbrel_batches"].find_one({"status": "running"}), "what they held was given back"
    assert 0 < database["things"].count_documents({"n": 1}) < 300
    with Serve(environment, tmp_path, "--workers", "1", "--no-dashboard") as second:
        second.wait()
        assert second.get("/", headers={"Accept": "text/html"})["name"] == "Whimbrel"
        assert "(dashboard)" not in second.said()
        assert second.ended(run)["changed"] == 300
    assert database["things"].count_documents({"n": 1}) == 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_second_signal_does_not_wait_for_the_workers(
    environment: dict[str, str], database: Docs, tmp_path: Path, number: signal.Signals
) -> None:
    with Serve(environment, tmp_path, "--workers", "1") as it:
        moving(it, database, "asleep", 1)
        at_work = children(it)
        it.process.tell(number)
        eventually(lambda: not listens(it.port))
        it.process.tell(number)
        assert it.process.code(25) == 0  # draining would last 30 seconds
    assert at_work
    assert not any(each.is_running() for each in at_work)
    assert not database["whimbrel_batches"].find_one({"status": "running"})
    assert database["things"].count_documents({"n": {"$exists": False}}) == 1


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_busy_port(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = ends(environment | {"PORT": port}, tmp_path)
    assert done.returncode == 76
    assert f"Port {port} of 127.0.0.1 cannot be used: Address already in use. Set PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_part_of_an_answer_waits_for_an_acknowledgement(host: str) -> None:
    """Of the part before it, that is; on a connection that is kept open those come 40 ms late."""

    async def option() -> int:
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            asked.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = listen(host, 0)
        async with await asyncio.start_server(accepted, sock=listening):
            _, ours = await asyncio.open_connection(*listening.getsockname()[:2])
            found = await asked
            ours.close()
            return found

    assert asyncio.run(option())


def ends(changes: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    quiet = {"LOG_LEVEL": "error", "HOST": "127.0.0.1", "API_TOKENS": "", "RABBITMQ_URL": "", "PORT": "0"}
    return subprocess.run(
        PROGRAM, env={**os.environ, **quiet, **changes}, cwd=cwd, capture_output=True, text=True, timeout=90,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


NOBODY = "mongodb://127.0.0.1:1/"  # errors of settings do not wait for a server
ALL_AT_ONCE = {
    "PORT": "abc", "BATCH_SIZE": "0", "CRON_SCHEDULE": "nonsense", "ENABLE_SCHEDULER": "perhaps", "LOG_FORMAT": "xml",
    "LOG_LEVEL": "loud", "RABBITMQ_EXCHANGE": "", "HOST": "", "MAX_RETRIES": "1.5",
}  # fmt: skip
BAD: list[tuple[dict[str, str], int, list[str]]] = [
    (ALL_AT_ONCE, 64, [f"{name}={value!r}" for name, value in ALL_AT_ONCE.items()]),
    ({"PORT": "70000"}, 64, ["PORT='70000'"]),
    ({"API_TOKENS": "nonsense"}, 64, ["API_TOKENS: entry 1"]),
    ({"API_TOKENS": "read:" + "r" * 20 + ",root:" + "s3cret" * 5}, 64, ["API_TOKENS: entry 2"]),
    ({"API_RATE": "often"}, 64, ["API_RATE=often"]),
    ({"MONGODB_URI": "nonsense"}, 64, ["MONGODB_URI=*** cannot be read"]),
    ({"MONGODB_URI": "mongodb://me:s3cret@h:port/"}, 64, ["MONGODB_URI=mongodb://me:***@h:port/"]),
    ({"RABBITMQ_URL": "nonsense"}, 64, ["RABBITMQ_URL=***"]),
    ({"RABBITMQ_URL": "http://me:s3cret@h/"}, 64, ["RABBITMQ_URL=http://me:***@h/"]),
    ({"HOST": "0.0.0.0"}, 64, ["HOST=0.0.0.0 can be reached from other machines"]),  # noqa: S104
    ({"HOST": "203.0.113.7", "API_TOKENS": "read:" + "r" * 20}, 64, ["HOST=203.0.113.7 is no address of this"]),
    ({"WHIMBREL_LEASE": "0.5"}, 64, ["WHIMBREL_LEASE"]),
    ({"WHIMBREL_MIGRATIONS": "missing.py"}, 65, ["There is no file missing.py"]),
    ({"MONGODB_URI": "", "WHIMBREL_MONGOD": "/nix"}, 72, ["WHIMBREL_MONGOD is /nix"]),
]  # fmt: skip


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    call: Callable[[Any], Any] = lambda bad: ends({"MONGODB_URI": NOBODY, **bad[0]}, tmp_path)  # noqa: E731
    tried = BAD if EVERYTHING else BAD[::2]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(call, tried))
    for (changes, code, said), done in zip(tried, answers, strict=True):
        assert done.returncode == code, (changes, done.stderr)
        line = done.stderr.splitlines()[-1]
        assert line.startswith("error: "), (changes, done.stderr)
        assert all(words in line for words in said), (changes, done.stderr)
        assert "s3cret" not in done.stderr, changes
        assert "Traceback" not in done.stderr, (changes, done.stderr)
