"""The user's own checks against a real HTTP server: what it answers, and what runs are told. One that hangs delays nothing."""

# ruff: noqa: F811  fixtures are imported by their names

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.servers.serve import eventually
from whimbrel.domain.health.own_checks import own_checks
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import Level
from whimbrel.engine.operating.checks_apart import Apart
from whimbrel.engine.operating.health_preflight import health_findings
from whimbrel.engine.operating.health_settings import change_thresholds, ignore_signal
from whimbrel.engine.sampling.sampler import Sampler
from whimbrel.health_checks.http_check import HttpCheck
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.ports import Watching

Docs = Database[dict[str, Any]]


class Service(ThreadingHTTPServer):
    """Answers what the test says. `hangs`: until it is set, nothing is answered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers, self.body = 200, dict[str, str](), b""
        self.hangs = threading.Event()
        self.hangs.set()
        self.asked: list[tuple[str, str | None]] = []

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def finds(self, *values: str, kind: str = "vector") -> None:
        """As Prometheus answers."""
        rows: Any = [{"metric": {"le": value}, "value": [1.5, value]} for value in values]
        result = rows if kind == "vector" else [1.5, values[0]]
        self.status = 200
        self.body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.server.hangs.wait(30)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as found:
        serving = threading.Thread(target=found.serve_forever, args=(0.01,))
        serving.start()
        yield found
        found.hangs.set()
        found.shutdown()
        serving.join()


def http(service: Service, userinfo: str = "") -> HttpCheck:
    (check,) = own_checks(f"[payments]\nurl = 'http://{userinfo}{service.at}/health?token=abc'".encode())
    return HttpCheck(check)


def promql(service: Service, more: str = "slow = 1\nstop = 5") -> HttpCheck:
    text = f"[p99]\nprometheus = 'http://{service.at}/prom/'\nquery = 'max(a{{b=\"c d\"}}) > 0'\nunit = 's'\n{more}"
    (check,) = own_checks(text.encode())
    return HttpCheck(check)


def test_200_is_go_429_and_503_are_stop_and_all_else_is_unknown(service: Service) -> None:
    check = http(service, "user:pass%40word@")
    found = {}
    for status in (200, 429, 503, 204, 401, 404, 500):
        service.status = status
        found[status] = check.read().value
    assert found == {200: 0.0, 429: 1.0, 503: 1.0, 204: None, 401: None, 404: None, 500: None}
    reading = check.read()
    assert reading.problem == "it answers 500, which is neither 200 (go) nor 429 or 503 (stop)"
    assert (reading.host, reading.how) == (service.at, f"GET http://{service.at}/health?***")
    pair = base64.b64encode(b"user:pass@word").decode()
    assert service.asked[0] == ("/health?token=abc", f"Basic {pair}")


def test_a_redirection_is_not_followed_and_a_closed_port_is_unknown(service: Service) -> None:
    service.status, service.headers = 302, {"Location": f"http://{service.at}/elsewhere"}
    assert "it answers 302" in http(service).read().problem
    assert [path for path, _ in service.asked] == ["/health?token=abc"]
    (check,) = own_checks(b"[payments]\nurl = 'http://user:secret@127.0.0.1:1/'")
    reading = HttpCheck(check).read()
    assert reading.problem.startswith("it cannot be asked: ")
    assert "secret" not in repr(reading)


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example"])
def test_a_host_that_can_be_no_name_is_unknown(host: str) -> None:
    (check,) = own_checks(f"[payments]\nurl = 'http://user:secret@{host}/'".encode())
    assert HttpCheck(check).read().problem.startswith("it cannot be asked: ")


def test_a_port_that_repeats_what_it_is_sent_shows_no_secret() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(65536))

        echoing = threading.Thread(target=echo)
        echoing.start()
        (check,) = own_checks(f"[a]\nurl = 'http://127.0.0.1:{server.getsockname()[1]}/?secret'".encode())
        reading = HttpCheck(check).read()
        echoing.join()
    assert reading.problem == "its answer is no HTTP that can be read"
    assert "secret" not in repr(reading)


def test_a_query_yields_a_number_the_worst_of_several_or_is_unknown(service: Service) -> None:
    check = promql(service)
    service.finds("0.5", "7.25", "1")
    assert check.read() == Reading("p99", 7.25, service.at, f"PromQL at http://{service.at}/prom/")
    path, _ = service.asked[0]
    assert urlsplit(path).path == "/prom/api/v1/query"
    assert parse_qs(urlsplit(path).query) == {"query": ['max(a{b="c d"}) > 0']}
    service.finds("2.5", kind="scalar")
    assert check.read().value == 2.5
    service.finds("4", "3")
    assert promql(service, "low = true\nstop = 1").read().value == 3.0
    why: dict[str, Callable[[], None]] = {
        "yields nothing now": service.finds,
        "no finite number": lambda: service.finds("NaN"),
        "no finite": lambda: service.finds("+Inf"),
        "yields a matrix": lambda: service.finds("1", kind="matrix"),
        "without a result": lambda: setattr(service, "body", b"<html>"),
        "in a way": lambda: setattr(service, "body", b'{"status": "success", "data": {"resultType": "scalar", "result": [1, 1' + b"0" * 400 + b"]}}"),
        "in a way that cannot be read": lambda: setattr(service, "body", b'{"status": "success", "data": {"resultType": "vector", "result": [5]}}'),
        "longer than 1,000,000 bytes": lambda: setattr(service, "body", b" " * 1_000_001),
    }  # fmt: skip
    for problem, prepare in why.items():
        prepare()
        reading = check.read()
        assert reading.value is None
        assert problem in reading.problem
    service.status, service.body = 400, b'{"status": "error", "error": "parse \\u001b[31m error"}'
    assert check.read().problem == r"Prometheus answers 400 without a result: parse \x1b[31m error"


def test_one_that_hangs_is_given_up_and_answers_again_later(service: Service) -> None:
    apart = Apart(http(service))
    service.hangs.clear()
    assert apart.look().problem == "it has not answered yet"
    service.hangs.set()
    eventually(lambda: apart.look().value == 0.0)
    service.hangs.clear()
    eventually(lambda: "did not answer within 1 s" in apart.look().problem)
    service.hangs.set()
    eventually(lambda: apart.look().value == 0.0)


def test_a_check_that_hangs_delays_no_other_signal(service: Service, store: MongoStore) -> None:
    service.hangs.clear()
    one = Sampler(
        store, store.health_reader(), name="one", apart=[Apart(http(service)), Apart(promql(service))]
    )
    for _ in range(3):
        one.tick()
    assert {name: one.latest.signals[name].level for name in ("payments", "p99", "disk-used")} == {
        "payments": Level.UNKNOWN, "p99": Level.UNKNOWN, "disk-used": Level.OK,
    }  # fmt: skip
    assert not service.hangs.is_set(), "three samples were taken before it answered anything"


def test_checks_count_like_other_signals_and_are_shown_and_changed_by_those_who_lack_them(
    service: Service, store: MongoStore, database: Docs
) -> None:
    service.finds("0.5")
    prometheus = promql(service)
    one = Sampler(store, store.health_reader(), name="one", apart=[Apart(prometheus)])

    def level(of: str = "p99") -> Level:
        time.sleep(0.02)
        one.tick()
        return store.ledger.health.verdict().signals[of].level

    eventually(lambda: level() is Level.OK)
    service.finds("7")
    eventually(lambda: level() is Level.STOP)
    verdict = store.ledger.health.verdict()
    assert verdict.share == 0.0
    assert verdict.explain().endswith(f"the check p99 7 s > 5 s on {service.at}.")
    assert verdict.checks == (prometheus.signal,)
    change_thresholds(store.ledger, "p99", slow=8, stop=9, who="test")
    assert store.ledger.health.settings().of("p99").slow == 8
    ignore_signal(store.ledger, "p99", seconds=60, who="test", why="")
    one.tick()
    assert store.ledger.health.verdict().reasons == ()
    assert any(row.values.get("p99") == 7 for row in store.ledger.health.history(minutes=False))


def test_the_command_line_shows_checks_and_refuses_a_bad_file_before_anything_else(
    service: Service, commands: Commands, database: Docs, tmp_path: Path
) -> None:
    service.status = 503
    file = tmp_path / "checks.toml"
    file.write_text(f"[payments]\nurl = 'http://user:secret@{service.at}/'\n")
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_HEALTH="on", WHIMBREL_HEALTH_CHECKS=str(file))
    rows = {row["name"]: row for row in json.loads(commands("health", "--json").out)["signals"]}
    assert (rows["payments"]["value"], rows["payments"]["stop"], rows["payments"]["host"]) == (1.0, 0.5, service.at)  # fmt: skip
    said = commands("health").out
    assert "payments" in said
    assert "secret" not in said
    assert "is ignored until" in commands("health", "payments", "--ignore", "1h").out
    assert "has no threshold 'slow'" in commands("health", "payments", "--slow", "0.1", code=64).err
    file.write_text("[payments]\nurl = 'http://user:secret'\n")
    for words in (["status"], ["run", "some-model"], ["worker"], ["serve"], ["health"]):
        error = " ".join(commands(*words, code=64).err.split())
        assert f"WHIMBREL_HEALTH_CHECKS={file}: In the check 'payments', url cannot be read" in error, words
        assert "secret" not in error
    commands.set(WHIMBREL_HEALTH_CHECKS="", WHIMBREL_HEALTH_IGNORE_MEMBERS="a b")
    assert "write host:port" in commands("status", code=64).err


def test_a_store_that_watches_lists_its_checks_in_preflight(
    service: Service, mongo_uri: str, database: Docs
) -> None:
    service.status = 500
    with connected(mongo_uri, database.name, SHORT, watching=Watching((http(service),))) as store:
        (finding,) = health_findings(store)
    assert finding.level == "unknown"
    assert finding.detail is not None
    assert finding.detail["unread"] == {"payments": "it answers 500, which is neither 200 (go) nor 429 or 503 (stop)"}  # fmt: skip
    assert finding.detail["absent"]["disk-used"] == f"the database {database.name} has nothing yet"
