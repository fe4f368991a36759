"""The attacks over real sockets, on `whimbrel serve` as a user starts it: nothing is left behind, and the next request is answered."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from tests.integration.api.conftest import TOKENS, Docs, seed
from tests.servers.serve import Serve, eventually

STREAMS = 3
ADMIN = f"Authorization: Bearer {TOKENS['admin']}\r\n"


@pytest.fixture(scope="module")
def docs(client: MongoClient[dict[str, Any]]) -> Iterator[Docs]:
    found = client["attacked"]
    client.drop_database(found.name)
    seed(found, 5)
    yield found
    client.drop_database(found.name)


@pytest.fixture(scope="module")
def server(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    environment = {
        "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "API_TOKENS": tokens, "API_STREAMS": str(STREAMS)    }  # fmt: skip
    folder = tmp_path_factory.mktemp("attacked")
    with Serve(environment, folder, "--no-workers", token=TOKENS["admin"]) as it:
        it.wait()
        yield it
        assert "Traceback" not in it.said()


@pytest.fixture(scope="module")
def crowd(server: Serve) -> Iterator[httpx2.Client]:
    """A client that comes by a new connection each time."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    with httpx2.Client(base_url=server.url, limits=limits, timeout=60) as found:
        yield found


def said(it: Serve, request: bytes) -> tuple[int, Any]:
    """Status and body, of an answer after which the server closes."""
    with socket.create_connection(("127.0.0.1", it.port), timeout=60) as wire:
        wire.sendall(request)
        found = b""
        while piece := wire.recv(65536):
            found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_the_flood_of_those_without_a_token_leaves_nothing(
    server: Serve, crowd: httpx2.Client, docs: Docs
) -> None:
    """Each says that it is somebody else, by another token, key and address."""

    def attack(number: int) -> int:
        headers = {
            "Authorization": f"Bearer {number:020}", "Idempotency-Key": f"k{number}", "X-Forwarded-For": f"10.0.{number // 250}.{number % 250}",
        }  # fmt: skip
        return crowd.post("/migrate", headers=headers, json={}).status_code

    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(attack, range(200)))
    assert found == {401: 200}
    assert docs["whimbrel_audit"].count_documents({"who": {"$regex": "^api:"}}) == 0
    assert docs["whimbrel_answers"].count_documents({}) == 0
    assert docs["whimbrel_runs"].count_documents({}) == 0
    answer = server.client.post("/queue/consumers/start", headers={"X-Forwarded-For": "10.9.9.9"})
    assert answer.status_code == 200
    row = docs["whimbrel_audit"].find_one({"what": "POST /queue/consumers/start"})
    assert row is not None
    assert row["who"].endswith("@127.0.0.1"), "nobody's word is taken for where a request comes from"


def test_the_bomb_is_refused_with_and_without_a_token(server: Serve) -> None:
    body = b"[" + b"[]," * 2_700_000 + b"[]]"
    head = f"POST /migrate/bulk HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    with ThreadPoolExecutor(4) as pool:
        without = pool.map(lambda _: said(server, head.encode() + b"\r\n" + body)[0], range(4))
        by_admin = pool.map(lambda _: said(server, f"{head}{ADMIN}\r\n".encode() + body)[0], range(4))
        assert list(without) == [401] * 4
        assert set(by_admin) <= {400, 503}
    assert server.client.get("/health/ready").status_code == 200


def test_streams_are_bounded_and_their_places_are_given_back(server: Serve) -> None:
    run = server.client.post("/migrate").json()["migrationId"]
    path = f"/migrate/events/{run}"
    with ExitStack() as stack:
        streams = [stack.enter_context(server.client.stream("GET", path)) for _ in range(STREAMS)]
        assert [each.status_code for each in streams] == [200] * STREAMS
        for each in (path, "/queue/monitoring?stream=true"):
            refused = server.client.get(each)
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
        assert server.client.get("/migrate?limit=1").status_code == 200

    def opened() -> bool:
        with server.client.stream("GET", path) as found:
            return found.status_code == 200

    eventually(opened)
    unknown = server.client.get("/migrate/events/nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "run_unknown")


def test_under_a_flood_of_reads_it_answers_or_says_so_and_probes_are_heard(
    server: Serve, crowd: httpx2.Client
) -> None:
    headers = {"authorization": f"Bearer {TOKENS['read']}"}

    def read(number: int) -> tuple[int, str]:
        path = "/health/ready" if number % 20 == 0 else "/migrate?limit=100"
        answer = crowd.get(path, headers=headers)
        assert answer.status_code != 503 or int(answer.headers["retry-after"]) > 0, path
        return answer.status_code, path

    with ThreadPoolExecutor(48) as pool:
        found = Counter(pool.map(read, range(400)))
    assert found[200, "/migrate?limit=100"] > 0
    assert found[200, "/health/ready"] == 20
    assert {status for status, _ in found} <= {200, 503}
    assert server.client.get("/migrate?limit=1").status_code == 200
