"""What somebody hostile, or a broken client, may send: over a socket, to a live server. It answers, lives, and has changed nothing."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from tests.integration.api.conftest import TOKENS, Docs, seed
from tests.servers.serve import Serve, eventually

LIVING = {"whimbrel_leases", "whimbrel_workers", "whimbrel_audit", "whimbrel_answers"}
ADMIN = f"Authorization: Bearer {TOKENS['admin']}\r\n"
JSON = "Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def docs(client: MongoClient[dict[str, Any]]) -> Iterator[Docs]:
    found = client["hostile"]
    client.drop_database(found.name)
    seed(found, 5)
    yield found
    client.drop_database(found.name)


@pytest.fixture(scope="module")
def server(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Without workers, with tokens, and with a run that has been cancelled."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    environment = {"MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "API_TOKENS": tokens}
    with Serve(environment, folder, "--no-workers", token=TOKENS["admin"]) as it:
        it.wait()
        run = it.client.post("/migrate").json()["migrationId"]
        assert it.client.delete(f"/migrate/cancel/{run}").status_code == 200
        eventually(lambda: it.run(run)["status"] == "cancelled")
        yield it


def http(method: str, target: str, body: bytes = b"", head: str = ADMIN + JSON) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{head}{length}\r\n".encode() + body


def ask(it: Serve, request: bytes) -> Said:
    """Send these bytes, whatever they are, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", it.port), timeout=60) as wire:
        wire.sendall(request)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Said(int(first.split(" ")[1]), headers, body)


def contents(docs: Docs) -> dict[str, list[dict[str, Any]]]:
    """Everything but what a living server writes of itself."""
    names = set(docs.list_collection_names()) - LIVING
    return {name: list(docs[name].find().sort("_id", 1)) for name in sorted(names)}


def start(**fields: Any) -> bytes:
    return http("POST", "/migrate", json.dumps(fields).encode())


def posted(body: bytes, kind: str = "application/json", target: str = "/migrate") -> bytes:
    return http("POST", target, body, f"{ADMIN}Content-Type: {kind}\r\n")


def by(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


NESTED = {"$or": [{"a": 1}, {"b": [{"$and": [{"$where": "sleep(1000) || true"}]}]}]}
DEEP = b'{"filters": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}"
LONG = "x" * 10_240
TABLE: dict[str, tuple[bytes, int, str]] = {
    **{
        f"batchSize {size}": (posted(f'{{"batchSize": {size}}}'.encode()), 422, "invalid")
        for size in ("0", "-5", '"abc"', '"5"', "1e9", "1000000000", "1.5", "true", "[]", "{}", "NaN", "1e400", "-1e400")
    },
    "batchSize of 4,000 digits": (posted(b'{"batchSize": ' + b"9" * 4000 + b"}"), 422, "invalid"),
    "batchSize of 400,000 digits": (posted(b'{"batchSize": ' + b"9" * 400_000 + b"}"), 400, "malformed"),
    "batchSize in the path": (http("POST", "/migrate/batch/1e9"), 422, "invalid"),
    "count 1e9": (http("POST", "/seed/some-model", b'{"count": 1e9}'), 422, "invalid"),
    "count -1 in the path": (http("POST", "/seed/bulk/-1"), 422, "invalid"),
    "$where in $or in an array": (start(filters=NESTED), 422, "filter_refused"),
    "$function in $expr": (start(filters={"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}}), 422, "filter_refused"),
    "$where spelled by an escape": (posted(b'{"filters": {"\\u0024where": "1"}}'), 422, "filter_refused"),
    "an unknown operator": (start(filters={"a": {"$nix": 1}}), 422, "filter_refused"),
    "a filter that is a text": (start(filters="status"), 422, "invalid"),
    "a filter of 21 levels": (posted(b'{"filters": ' + b'{"a":' * 22 + b"1" + b"}" * 22 + b"}"), 422, "filter_refused"),
    "a field name with NUL": (start(filters={"a\0b": 1}), 422, "filter_refused"),
    "an integer of 70 bits": (start(filters={"a": 2**70}), 422, "filter_refused"),
    "a key twice in filters": (posted(b'{"filters": {"a": {"$lt": 0}, "a": {"$exists": true}}}'), 400, "malformed"),
    "NaN in a filter": (posted(b'{"filters": {"a": {"$gte": NaN}}}'), 422, "filter_refused"),
    "a double that is too large in a filter": (posted(b'{"filters": {"a": {"$lt": 1e400}}}'), 422, "filter_refused"),
    "a date with an operator beside it": (start(filters={"a": {"$date": "2020-01-01", "$gt": 1}}), 422, "filter_refused"),
    "an expression among values": (start(filters={"a": {"$in": [{"$regex": "x"}]}}), 422, "filter_refused"),
    "half a reference": (start(filters={"a": {"$ref": "c"}}), 422, "filter_refused"),
    "half a surrogate pair as a name": (posted(b'{"migration": "\\ud800"}'), 422, "invalid"),
    "half a surrogate pair in a filter": (posted(b'{"filters": {"a": "\\udfff"}}'), 422, "filter_refused"),
    "half a surrogate pair as a key": (posted(b'{"\\ud800": 1}'), 422, "invalid"),
    "a body of 2 MB": (posted(b'{"migration": "' + b"a" * 2_000_000 + b'"}'), 413, "too_large"),
    "2 MB of blanks": (posted(b" " * 2_000_000), 413, "too_large"),
    "2 MB to a DELETE": (http("DELETE", "/seed/clear", b" " * 2_000_000), 413, "too_large"),
    "9 MB of ids": (posted(b'{"ids": [' + b"1," * 4_500_000 + b"1]}", target="/migrate/bulk"), 413, "too_large"),
    "JSON of 10,000 levels": (posted(DEEP), 400, "malformed"),
    "arrays of 10,000 levels": (posted(b"[" * 10_000 + b"]" * 10_000), 400, "malformed"),
    "JSON that does not end": (posted(b'{"batchSize": '), 400, "malformed"),
    "JSON twice": (posted(b"{}{}"), 400, "malformed"),
    "bytes that are no UTF-8": (posted(b'{"migration": "\xff\xfe"}'), 400, "malformed"),
    "UTF-16": (posted('{"batchSize": 5}'.encode("utf-16")), 400, "malformed"),
    "a type that nobody knows": (posted(b"{}", "application/x-nothing"), 415, "unsupported_type"),
    "a form": (posted(b"batchSize=5", "application/x-www-form-urlencoded"), 415, "unsupported_type"),
    "XML": (posted(b"<a/>", "application/xml"), 415, "unsupported_type"),
    "no type": (http("POST", "/migrate", b"{}", ADMIN), 415, "unsupported_type"),
    "a type of 10 KB": (posted(b"{}", LONG), 415, "unsupported_type"),
    "an array": (posted(b"[]"), 422, "invalid"),
    "a number": (posted(b"5"), 422, "invalid"),
    "an id with slashes": (http("GET", "/migrate/status/a/b/c"), 404, "not_found"),
    "an id with written slashes": (http("GET", "/migrate/status/..%2F..%2Fetc"), 404, "not_found"),
    "an id with NUL": (http("DELETE", "/migrate/cancel/%00"), 404, "run_unknown"),
    "an id that is no UTF-8": (http("DELETE", "/migrate/cancel/%ff%fe"), 404, "run_unknown"),
    "an id of 10 KB": (http("DELETE", f"/migrate/cancel/{LONG}"), 422, "invalid"),
    "an id of operators": (http("DELETE", "/migrate/cancel/%7B%22$gt%22:%22%22%7D"), 404, "run_unknown"),
    "a batch of 10 KB": (http("GET", f"/migrate/batch/{LONG}"), 422, "invalid"),
    "a queue of somebody else": (http("DELETE", "/queue/purge/celery"), 404, "queue_unknown"),
    "a cursor of NULs": (http("GET", "/migrate/jobs?parentJobId=%00&cursor=%00"), 404, "run_unknown"),
    "a limit of 1e9": (http("GET", "/migrate?limit=1000000000"), 422, "invalid"),
    "no token": (http("POST", "/migrate", b"", ""), 401, "unauthenticated"),
    "a wrong token": (http("POST", "/migrate", b"", by("w" * 20)), 401, "unauthenticated"),
    "a token of 10 KB": (http("POST", "/migrate", b"", by(LONG)), 401, "unauthenticated"),
    "an empty token": (http("POST", "/migrate", b"", by("")), 401, "unauthenticated"),
    "a token of another kind": (http("POST", "/migrate", b"", f"Authorization: Basic {TOKENS['admin']}\r\n"), 401, "unauthenticated"),
    "a token with a blank": (http("POST", "/migrate", b"", by(TOKENS["admin"] + " x")), 401, "unauthenticated"),
    "a reader that starts": (http("POST", "/migrate", b"", by(TOKENS["read"])), 403, "forbidden"),
    "an operator that clears": (http("DELETE", "/seed/clear?confirm=DELETE_ALL_DATA", b"", by(TOKENS["operate"])), 403, "forbidden"),
    "an operator that purges": (http("DELETE", "/queue/purge-all", b"", by(TOKENS["operate"])), 403, "forbidden"),
    "clearing without a word": (http("DELETE", "/seed/clear"), 400, "confirmation_missing"),
    "clearing with another word": (http("DELETE", "/seed/clear?confirm=yes"), 400, "confirmation_missing"),
    "CR LF written in an id": (http("DELETE", "/migrate/cancel/a%0d%0aX-Evil:%201"), 404, "run_unknown"),
    "CR in an Idempotency-Key": (http("POST", "/migrate", b"", f"{ADMIN}Idempotency-Key: a\rX-Evil: 1\r\n"), 400, "malformed"),
    "LF in an Idempotency-Key": (http("POST", "/migrate/batch/0", b"", f"{ADMIN}Idempotency-Key: a\nX-Evil: 1\r\n"), 422, "invalid"),
    "NUL in an Idempotency-Key": (http("POST", "/migrate", b"", f"{ADMIN}Idempotency-Key: a\0b\r\n"), 400, "malformed"),
    "an empty Idempotency-Key": (http("POST", "/migrate", b"", f"{ADMIN}Idempotency-Key: \r\n"), 422, "invalid"),
    "an Idempotency-Key of 10 KB": (http("POST", "/migrate", b"", f"{ADMIN}Idempotency-Key: {LONG}\r\n"), 422, "invalid"),
    "a request id with CR": (http("POST", "/migrate", b"", f"{ADMIN}X-Request-Id: a\rX-Evil: 1\r\n"), 400, "malformed"),
    "a request id with NUL": (http("POST", "/migrate", b"", f"{ADMIN}X-Request-Id: \0\r\n"), 400, "malformed"),
    "a header of 200 KB": (http("POST", "/migrate", b"", f"{ADMIN}X-Long: {'x' * 200_000}\r\n"), 431, "head_too_large"),
    "two lengths": (http("POST", "/migrate", b"", f"{ADMIN}Content-Length: 1\r\nContent-Length: 2\r\n"), 400, "malformed"),
    "a length below nothing": (http("POST", "/migrate", b"", f"{ADMIN}Content-Length: -1\r\n"), 400, "malformed"),
    "a blank in the path": (http("POST", "/migrate /x"), 400, "malformed"),
    "bytes that are no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed"),
    "no host": (b"GET /migrate HTTP/1.1\r\n\r\n", 400, "malformed"),
    "an unknown method": (http("BREW", "/migrate"), 405, "method_not_allowed"),
    "an unknown path": (http("POST", "/migrate/nothing"), 404, "not_found"),
    "a path out of the root": (http("GET", "/static-offline-docs/..%2f..%2f..%2fetc/passwd"), 404, "not_found"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(TABLE))
def test_it_answers_lives_and_has_changed_nothing(server: Serve, docs: Docs, name: str) -> None:
    request, status, code = TABLE[name]
    before = contents(docs)
    said = ask(server, request)
    assert (said.status, said.told["code"]) == (status, code), said.told
    assert said.told["success"] is False
    assert said.told["error"].strip().endswith((".", "?"))
    assert said.told["timestamp"].endswith("Z")
    assert said.headers["content-type"].startswith("application/json")
    assert "x-evil" not in said.headers
    assert server.client.get("/health/live").status_code == 200
    assert contents(docs) == before
    assert "Traceback" not in server.said()


def test_a_null_where_it_is_optional_is_none(server: Serve, docs: Docs) -> None:
    """`batchSize: null` is as if it were not there."""
    before = contents(docs)
    said = ask(server, start(batchSize=None, dryRun=True))
    assert (said.status, said.told["totalDocuments"]) == (200, 5)
    assert contents(docs) == before


def test_every_route_wants_its_token(server: Serve, docs: Docs) -> None:
    """Without one, with an unknown one, and with one that may only read."""
    before = contents(docs)
    openapi = server.client.get("/openapi.json").json()
    operations = [
        (method.upper(), path, it)
        for path, methods in openapi["paths"].items()
        for method, it in methods.items()
    ]
    guarded = [each for each in operations if each[2].get("security")]
    for method, path, _ in guarded:
        target = re.sub(r"\{[^}]*\}", "5", path)
        assert ask(server, http(method, target, b"", "")).status == 401, (method, path)
        assert ask(server, http(method, target, b"", by("w" * 20))).status == 401, (method, path)
        if method not in ("GET", "HEAD"):
            assert ask(server, http(method, target, b"", by(TOKENS["read"]))).status == 403, (method, path)
    open_ = {(method, path) for method, path, it in operations if not it.get("security")}
    assert all(method in ("GET", "HEAD") for method, _ in open_)
    assert {path for _, path in open_} <= {
        "/", "/health", "/health/live", "/health/ready", "/metrics", "/db/health", "/queue/health", "/queue/consumers/health",
        "/seed/docs",
    }  # fmt: skip
    assert len(guarded) > 45
    assert contents(docs) == before


TWICE = {
    b'{"x": 1, "x": 1}': ("'x'", "'the top'"),
    b'{"filters": {"data.score": {"$lt": 0}, "data.score": {"$exists": true}}}': ("'data.score'", "'filters'"),
    b'{"filters": {"$or": [{"a": 1}, {"b": {"$gt": 1, "\\u0024gt": 2}}]}}': ("'$gt'", "'filters.$or[1].b'"),
    b'{"ids": [1, {"$oid": "0", "$oid": "1"}]}': ("'$oid'", "'ids[1]'"),
    b'{"x": {"y": {"z": 1, "z": 2}}, "x": 1}': ("'z'", "'x.y'"),
}  # fmt: skip


@pytest.mark.parametrize("body", TWICE)
def test_of_two_equal_keys_none_is_taken_on_any_route(server: Serve, docs: Docs, body: bytes) -> None:
    before = contents(docs)
    openapi = server.client.get("/openapi.json").json()
    routes = [
        (method.upper(), path)
        for path, methods in openapi["paths"].items()
        for method, it in methods.items()
        if "requestBody" in it
    ]
    assert len(routes) > 15
    key, place = TWICE[body]
    for method, path in routes if key == "'x'" else routes[:2]:
        said = ask(server, http(method, re.sub(r"\{[^}]*\}", "5", path), body))
        assert (said.status, said.told["code"]) == (400, "malformed"), path
        assert f"has the key {key} twice in one object, at {place}" in said.told["error"]
    assert contents(docs) == before


def cancel(it: Serve, run: str) -> int:
    return ask(it, http("DELETE", f"/migrate/cancel/{run}")).status


def test_ten_cancels_at_once_cancel_once(server: Serve, docs: Docs) -> None:
    run = ask(server, start()).told["migrationId"]
    with ThreadPoolExecutor(10) as pool:
        answers = sorted(pool.map(lambda _: cancel(server, run), range(10)))
    assert answers == [200] + [409] * 9
    eventually(lambda: server.run(run)["status"] == "cancelled")
    assert cancel(server, run) == 409
    over = {"run": run, "what": "run cancelled"}
    eventually(lambda: docs["whimbrel_audit"].count_documents(over) > 0)  # it is told after the status
    assert docs["whimbrel_audit"].count_documents(over) == 1
    assert docs["somemodels"].count_documents({"status": "pending"}) == 5


def free(it: Serve, runs: list[str]) -> None:
    """Cancel these runs, and wait until they are."""
    for run in runs:
        cancel(it, run)
    eventually(lambda: all(it.run(run)["status"] == "cancelled" for run in runs))


def test_of_ten_runs_at_once_one_works_and_nine_wait(server: Serve, docs: Docs) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: ask(server, start()), range(10)))
    runs = [each.told["migrationId"] for each in answers]
    assert [each.status for each in answers] == [202] * 10

    def states() -> list[str]:
        return sorted(server.run(run)["status"] for run in runs)

    eventually(lambda: states() == ["queued"] * 9 + ["running"])
    working = next(run for run in runs if server.run(run)["status"] == "running")
    eventually(
        lambda: all(
            working in server.run(run)["message"] for run in runs if server.run(run)["status"] == "queued"
        )
    )
    free(server, runs)


def test_of_ten_exclusive_runs_at_once_nine_are_refused(server: Serve, docs: Docs) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: ask(server, start(exclusive=True)), range(10)))
    refused = [each.told["code"] for each in answers if each.status == 409]
    assert sorted(each.status for each in answers) == [202] + [409] * 9
    assert set(refused) == {"collection_busy"}
    (run,) = [each.told["migrationId"] for each in answers if each.status == 202]
    assert ask(server, start(exclusive=True)).status == 409
    waiting = ask(server, start()).told["migrationId"]
    eventually(lambda: server.run(run)["status"] == "running")
    assert server.run(waiting)["status"] == "queued"
    free(server, [run, waiting])
    assert len(set(docs["whimbrel_runs"].distinct("_id", {"active": True}))) == 0
