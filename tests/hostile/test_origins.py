"""Pages of other sites: they may neither operate a server, nor read it under a name of theirs, nor keep it busy."""

import asyncio

import pytest
from starlette.testclient import TestClient
from starlette.types import Message

from tests.hostile.conftest import ALL, LET_IN, Doors, by
from whimbrel.api.middleware.same_origin import authority
from whimbrel.errors import SettingsInvalid

Headers = dict[str, str]

FOREIGN: dict[str, Headers] = {
    "a page of another site": {"Origin": "http://evil.example"},
    "the same, as browsers say it": {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    "a form, without an origin": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a page of another port": {"Origin": "http://localhost:8080"},
    "the same, as browsers say it ": {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8080"},
    "a frame without an origin": {"Origin": "null"},
    "a file": {"Origin": "file://"},
    "an extension": {"Origin": "chrome-extension://abcdef"},
    "two that contradict": {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
    "two that contradict, the other way": {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:3000"},
    "a name that begins like ours": {"Origin": "http://localhost:3000.evil.example"},
    "a name with ours as a user": {"Origin": "http://localhost:3000@evil.example"},
    "another spelling of cross-site": {"Sec-Fetch-Site": "Cross-Site"},
}
OWN: dict[str, Headers] = {
    "no browser": {},
    "our own page": {"Origin": "http://localhost:3000"},
    "the same, as browsers say it": {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:3000"},
    "a person": {"Sec-Fetch-Site": "none"},
    "capitals": {"Origin": "HTTP://LocalHost:3000"},
}
CHANGES = [
    ("POST", "/migrate"),
    ("POST", "/seed/bulk/5"),
    ("POST", "/queue/consumers/stop"),
    ("PUT", "/migrate/scheduler/schedules/x"),
    ("PATCH", "/migrate/settings/x"),
    ("DELETE", "/queue/purge-all"),
    ("POST", "/nothing"),
]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_page_changes_nothing(doors: Doors, name: str) -> None:
    client = doors()
    for method, path in CHANGES:
        answer = client.request(method, path, headers=FOREIGN[name])
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin"), path


def test_nor_with_a_token(doors: Doors) -> None:
    client = doors(ALL)
    for name in ("a page of another site", "the same, as browsers say it", "a frame without an origin"):
        assert client.post("/migrate", headers=FOREIGN[name] | by("admin")).status_code == 403, name


@pytest.mark.parametrize("name", OWN)
def test_our_own_page_and_programs_may(doors: Doors, name: str) -> None:
    assert doors().post("/migrate", headers=OWN[name]).status_code == LET_IN


def test_a_foreign_page_cannot_keep_it_busy_by_reads_but_a_link_works(doors: Doors) -> None:
    client = doors()
    asked = client.get("/db/count", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"})
    assert asked.status_code == 403
    linked = client.get("/docs", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert linked.status_code == 200


CROSS = {"Sec-Fetch-Site": "cross-site"}
READS_OF_OTHERS: dict[str, Headers] = {
    "a script, in a browser that names only the origin": {"Origin": "http://evil.example"},
    "a script without an origin": {"Origin": "null"},
    "an event stream": CROSS | {"Origin": "http://evil.example", "Sec-Fetch-Mode": "cors", "Accept": "text/event-stream"},
    "a frame": CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    "an object": CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "object"},
    "a picture": CROSS | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "a page of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    "a web socket": {
        "Origin": "http://evil.example", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    },
    "a question before a request": {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
}  # fmt: skip


@pytest.mark.parametrize("name", READS_OF_OTHERS)
def test_a_foreign_page_reads_nothing_and_holds_nothing(doors: Doors, name: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in ("/migrate", "/migrate/events/x", "/db/count", "/health"):
            answer = doors().request(method, path, headers=READS_OF_OTHERS[name])
            assert answer.status_code == 403, (method, path)
            assert not [each for each in answer.headers if each.startswith("access-control")]


def test_a_link_from_elsewhere_may_be_followed(doors: Doors) -> None:
    linked = CROSS | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert doors().get("/docs", headers=linked).status_code == 200
    assert doors().get("/docs").headers["cross-origin-resource-policy"] == "same-origin"


def answered(client: TestClient, method: str, target: str, host: str) -> int:
    """The status of a request with this first line: clients that write a whole address into it are meant for proxies."""
    told: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        told.append(message)

    path = target.partition("?")[0]
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "http_version": "1.1", "headers": [(b"host", host.encode())], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3000), "state": {},
    }  # fmt: skip

    async def asked() -> None:
        await client.app(scope, receive, send)

    asyncio.run(asked())
    status: int = told[0]["status"]
    return status


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost:3000/health/live", "localhost:3000", 200),
        (
            "http://localhost:3000/health/live",
            "evil.example",
            200,
        ),  # the first line counts, says the standard
        ("HTTP://LOCALHOST/health/live", "localhost", 200),
        ("http://localhost:3000", "localhost", 200),
        ("http://localhost/nothing", "localhost", 404),
        ("http://evil.example/health/live", "localhost:3000", 403),
        ("http://localhost@evil.example/health/live", "localhost", 403),
        ("http:///health/live", "localhost", 403),
        ("ftp://localhost/health/live", "localhost", 404),
    ],
)
def test_a_whole_address_in_the_first_line_is_read(doors: Doors, target: str, host: str, status: int) -> None:
    assert answered(doors(), "GET", target, host) == status
    changed = answered(doors(), "POST", target.replace("health/live", "migrate"), host)
    assert changed == (LET_IN if status == 200 and "live" in target else 405 if status == 200 else status)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", ""]
)
def test_an_empty_body_is_no_excuse_for_its_type(doors: Doors, kind: str) -> None:
    answer = doors().post("/migrate", headers={"Content-Type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_type")
    assert doors().post("/migrate", headers={"Content-Type": "application/json"}).status_code == LET_IN


REBOUND = [
    "evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.5:3000", "0.0.0.0:3000",
    "[fe80::1]:3000", "localhost@evil.example", "nonsense nonsense", "", "localhost:99999", "127.0.0.1,evil.example",
]  # fmt: skip
OURS = ["localhost", "localhost:3000", "LOCALHOST.:3000", "127.0.0.1:9", "127.0.0.5", "[::1]", "[::1]:3000"]


@pytest.mark.parametrize("host", REBOUND)
def test_a_name_that_nobody_gave_is_refused(doors: Doors, host: str) -> None:
    client = doors()
    for method, path in (("GET", "/migrate"), ("GET", "/openapi.json"), *CHANGES):
        answer = client.request(method, path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_host"), path


@pytest.mark.parametrize("host", OURS)
def test_names_of_this_machine_are_known(doors: Doors, host: str) -> None:
    assert doors().get("/migrate", headers={"Host": host}).status_code == LET_IN


def test_the_address_that_it_listens_on_is_known(doors: Doors) -> None:
    assert doors(host="192.0.2.7").get("/migrate", headers={"Host": "192.0.2.7:3000"}).status_code == LET_IN
    assert doors(host="0.0.0.0").get("/migrate", headers={"Host": "0.0.0.0:3000"}).status_code == 403  # noqa: S104


def test_configured_names_are_known_and_no_others(doors: Doors) -> None:
    client = doors(ALL, api_hosts="whimbrel.example.org, api:8443")
    for host, status in {
        "whimbrel.example.org": LET_IN, "whimbrel.example.org:444": LET_IN, "api:8443": LET_IN, "localhost:3000": LET_IN,
        "api": 403, "api:3000": 403, "example.org": 403, "10.1.2.3:3000": 403,
    }.items():  # fmt: skip
        assert client.get("/migrate", headers={"Host": host} | by("read")).status_code == status, host


def test_with_tokens_any_name_will_do_unless_some_are_configured(doors: Doors) -> None:
    assert (
        doors(ALL).get("/migrate", headers={"Host": "balancer.internal"} | by("read")).status_code == LET_IN
    )


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics"])
def test_probes_and_prometheus_may_ask_by_address(doors: Doors, path: str) -> None:
    for client in (doors(), doors(ALL, api_hosts="whimbrel.example.org")):
        assert client.get(path, headers={"Host": "10.1.2.3:3000"}).status_code in (200, 503)
        assert client.get(path, headers={"Host": "[2001:db8::7]:3000"}).status_code in (200, 503)
        assert client.get(path, headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        # A proxy that hands the name on, and one that changes it
        ({}, {"Host": "w.example.org", "Origin": "https://w.example.org"}, LET_IN),
        ({}, {"Host": "backend:3000", "Origin": "https://w.example.org"}, 403),
        ({}, {"Host": "backend:3000", "Origin": "https://w.example.org", "Sec-Fetch-Site": "same-origin"}, LET_IN),
        ({"api_hosts": "backend,w.example.org"}, {"Host": "backend:3000", "Origin": "https://w.example.org"}, LET_IN),
        ({"api_hosts": "backend,w.example.org"}, {"Host": "backend", "Origin": "https://w.example.org:8443"}, 403),
        ({"api_hosts": "backend,w.example.org:8443"}, {"Host": "backend", "Origin": "https://w.example.org:8443"}, LET_IN),
        ({"api_hosts": "backend"}, {"Host": "backend", "Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
    ],
)  # fmt: skip
def test_pages_behind_a_proxy(doors: Doors, settings: Headers, headers: Headers, status: int) -> None:
    assert doors(ALL, **settings).post("/migrate", headers=headers | by("operate")).status_code == status


def test_names_that_are_none_are_refused_at_the_start(doors: Doors) -> None:
    for given in ("http://x", "a b", "x:port", "*", "x/y"):
        with pytest.raises(SettingsInvalid, match="API_HOSTS"):
            doors(api_hosts=given)


def test_addresses_have_one_spelling() -> None:
    assert authority("[::0001]:80") == authority("[::1]:80")
    assert authority("Example.ORG.") == authority("example.org")
    assert authority("x:70000") is None
