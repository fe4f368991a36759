"""Who has no token, or not the right one: nothing of the request is looked at or kept, and there is an end to it."""

import pytest
from limits.storage import MemoryStorage
from starlette.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tests.hostile.conftest import ALL, LET_IN, Doors, by
from whimbrel.api.authorization import limit_key
from whimbrel.api.json_limits import JsonLimits
from whimbrel.api.middleware import rate_limits, request_bodies
from whimbrel.cli.api_server import read_proxies
from whimbrel.errors import SettingsInvalid

BOMB = b"[" + b"[]," * 2_700_000 + b"[]]"  # 8.1 MB
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """That a body is looked at fails."""

    def looked_at(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(JsonLimits, "feed", looked_at)
    monkeypatch.setattr(request_bodies, "parse", looked_at)


@pytest.mark.usefixtures("unread")
def test_a_body_is_not_looked_at_before_a_token_is(doors: Doors) -> None:
    client = doors(ALL)
    for path in ("/migrate/bulk", "/migrate", "/nothing"):
        answer = client.post(path, content=BOMB, headers=JSON | {"Authorization": "Bearer " + "w" * 20})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), path
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = client.post("/migrate/bulk", content=BOMB, headers=JSON | by("read"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "given",
    [[], ["Bearer"], ["Bearer "], ["Basic eA=="], ["bearer " + "r" * 19], ["Bearer " + "r" * 20, "Bearer " + "r" * 20]],
)  # fmt: skip
def test_what_is_no_token(doors: Doors, given: list[str]) -> None:
    answer = doors(ALL).get("/migrate", headers=[("Authorization", each) for each in given])
    assert answer.status_code == 401


def refused(client: TestClient, number: int) -> int:
    headers = {"Authorization": f"Bearer {number:020}", "Idempotency-Key": str(number)}
    answer = client.post("/migrate", headers=headers)
    assert answer.status_code == 401 or int(answer.headers["retry-after"]) > 0
    return answer.status_code


def test_refusals_are_limited_by_address_and_known_tokens_are_not(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "REFUSALS", "20/minute")
    client = doors(ALL, api_rate="99999/minute")  # one of its own
    found = [refused(client, number) for number in range(60)]
    assert 20 <= found.count(401) < 60  # a window may end meanwhile
    assert set(found) == {401, 429}
    assert client.post("/migrate", headers=by("operate")).status_code == LET_IN
    assert client.get("/health/live").status_code == 200
    scoped = [client.post("/migrate", headers=by("read")).status_code for _ in range(60)]
    assert set(scoped) == {403, 429}


def test_the_rate_counts_who_it_is_and_not_what_is_said(doors: Doors) -> None:
    """Without tokens an `Authorization` says nothing; with some, two callers at one address are two."""
    client = doors(api_rate="3/minute")
    found = [client.post("/migrate", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(5)]
    assert found == [LET_IN] * 3 + [429] * 2
    client = doors(ALL, api_rate="3/minute")
    for scope in ("operate", "admin"):
        found = [client.post("/migrate", headers=by(scope)).status_code for _ in range(4)]
        assert found == [LET_IN] * 3 + [429]


def test_behind_a_proxy_that_is_believed_each_client_has_a_count_of_its_own(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client itself writes before the proxy's word is not believed, nor a proxy that is not named."""
    monkeypatch.setattr(rate_limits, "REFUSALS", "3/day")
    app = ProxyHeadersMiddleware(doors(ALL, api_rate="99998/minute").app, list(read_proxies("10.0.0.0/8")))  # type: ignore[arg-type]

    def asked(source: str, *said: str) -> list[int]:
        client = TestClient(app, base_url="http://localhost:3000", client=(source, 1))  # type: ignore[arg-type]
        return [client.post("/migrate", headers={"X-Forwarded-For": each}).status_code for each in said]

    assert asked("10.0.0.7", *["203.0.113.1"] * 5) == [401] * 3 + [429] * 2
    assert asked("10.0.0.8", "203.0.113.1:4711", "9.9.9.9, 203.0.113.1", "203.0.113.1, 10.0.0.9") == [429] * 3
    assert asked("10.0.0.7", "203.0.113.2", "[2001:db8::1]:4711") == [401] * 2
    assert (
        asked("198.51.100.1", *(f"203.0.113.{number}" for number in range(10, 15))) == [401] * 3 + [429] * 2
    )


def test_a_limiter_does_not_grow_with_its_callers() -> None:
    limit = rate_limits.refusals()
    for number in range(3 * rate_limits.MOST):
        limit.refusal(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}", "requests")
    assert len(limit) == rate_limits.MOST
    storage = limit._limiter.storage
    assert isinstance(storage, MemoryStorage)
    assert len(storage.storage) <= 2 * (rate_limits.MOST + 1)


def test_one_client_has_a_whole_network_of_version_6() -> None:
    assert limit_key("2001:db8:1:2:3::4") == limit_key("2001:db8:1:2:ffff::") != limit_key("2001:db8:1:3::")
    assert limit_key("::ffff:10.0.0.1") == limit_key("10.0.0.1") != limit_key("10.0.0.2")


OPEN = ["/", "/health", "/health/live", "/health/ready", "/metrics", "/db/health", "/docs", "/openapi.json"]


@pytest.mark.parametrize(
    ("public", "left"),
    [("all", set(OPEN)), ("probes", {"/health/live", "/health/ready"}), ("none", set())],
)
def test_open_routes_can_be_closed(doors: Doors, public: str, left: set[str]) -> None:
    client = doors(ALL, api_public=public)
    without = {path: client.get(path).status_code for path in OPEN}
    assert {path for path, status in without.items() if status != 401} == left
    assert 401 not in {client.get(path, headers=by("read")).status_code for path in OPEN}
    assert client.get("/static-offline-docs/redoc.standalone.js").status_code == (
        200 if public == "all" else 401
    )


@pytest.mark.parametrize("given", ["*", "proxy.internal", "10.0.0.1/8", "10.0.0.1;10.0.0.2"])
def test_only_addresses_and_networks_are_proxies(given: str) -> None:
    with pytest.raises(SettingsInvalid, match="API_PROXIES"):
        read_proxies(given)
    assert read_proxies(" 10.0.0.7, 10.0.0.0/8 ,::1") == ["10.0.0.7", "10.0.0.0/8", "::1"]
