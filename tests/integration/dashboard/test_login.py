"""Login by a token, and the session that comes of it: for all instances, until it ends."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from tests.integration.api.conftest import TOKENS
from tests.integration.dashboard.conftest import ALL, BROWSER, Docs, Instances, log_in
from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.api.middleware import rate_limits
from whimbrel.cli.api_server import read_proxies
from whimbrel.dashboard.app import install
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_page_sends_strangers_to_the_login_and_they_come_back(visitor: TestClient) -> None:
    answer = visitor.get("/dashboard/runs?state=failed&kind=rollback", headers=PAGE)
    assert answer.status_code == 303
    place = urlsplit(answer.headers["location"])
    assert place.path == "/dashboard/login"
    assert parse_qs(place.query) == {"next": ["/dashboard/runs?state=failed&kind=rollback"]}
    form = visitor.get(answer.headers["location"], headers=PAGE)
    assert form.status_code == 200
    action = re.search(r'action="([^"]+)"', form.text)
    assert action is not None
    sent = visitor.post(action[1].replace("&amp;", "&"), data={"token": TOKENS["read"]}, headers=BROWSER)
    assert (sent.status_code, sent.headers["location"]) == (303, "/dashboard/runs?state=failed&kind=rollback")
    assert visitor.get("/", headers=PAGE).status_code == 200


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example", "https://evil.example/", "/\\evil.example", "\\/evil.example", "javascript:alert(1)", "/\t/evil.example", "",
        "evil.example", "/dashboard/login?next=/", "/dashboard/logout", "///evil.example", "/%0d%0aSet-Cookie:a=b\r\n", "http:evil",
    ],
)  # fmt: skip
def test_after_the_login_nobody_is_sent_elsewhere(visitor: TestClient, wanted: str) -> None:
    answer = visitor.post(
        "/dashboard/login", params={"next": wanted}, data={"token": TOKENS["read"]}, headers=BROWSER
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_wrong_token_is_refused_in_the_form(visitor: TestClient, docs: Docs) -> None:
    before = docs["whimbrel_sessions"].count_documents({})
    for body in (
        {"token": "w" * 20},
        {"token": ""},
        {},
        {"token": TOKENS["read"][:-1]},
        {"other": TOKENS["read"]},
    ):
        answer = visitor.post("/dashboard/login?next=/dashboard/runs", data=body, headers=BROWSER)
        assert answer.status_code == 401
        assert answer.headers["content-type"].startswith("text/html")
        assert "none of the tokens" in answer.text
        assert "next=%2Fdashboard%2Fruns" in answer.text
        assert "set-cookie" not in answer.headers
        assert "w" * 20 not in answer.text
    assert docs["whimbrel_sessions"].count_documents({}) == before


def test_the_ledger_knows_neither_the_secret_nor_the_token(visitor: TestClient, docs: Docs) -> None:
    log_in(visitor, "operate")
    secret = visitor.cookies["whimbrel"]
    row = docs["whimbrel_sessions"].find_one({"_id": hashlib.sha256(secret.encode()).hexdigest()})
    assert row is not None
    assert row["scope"] == "operate"
    left = row["expiresAt"] - datetime.now(UTC).replace(tzinfo=None)
    assert timedelta(hours=11, minutes=58) < left <= timedelta(hours=12, minutes=2)
    text = str(row)
    token = TOKENS["operate"]
    assert secret not in text
    assert token not in text
    assert hashlib.sha256(token.encode()).hexdigest() not in text


def test_a_session_is_for_the_api_too_as_far_as_its_scope_goes(visitor: TestClient, docs: Docs) -> None:
    log_in(visitor, "read")
    assert visitor.get("/migrate").status_code == 200
    refused = visitor.post("/freeze", json={}, headers=BROWSER)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    log_in(visitor, "operate")
    assert visitor.post("/freeze", json={"note": "by a session"}, headers=BROWSER).status_code == 201
    assert visitor.delete("/freeze", headers=BROWSER).status_code == 200
    row = docs["whimbrel_audit"].find_one({"why": "by a session"})
    assert row is not None
    assert row["who"] == "api:operate-2@testclient"


def test_the_bearer_counts_and_not_the_cookie(visitor: TestClient) -> None:
    log_in(visitor, "admin")
    for token, status in (("w" * 20, 401), (TOKENS["read"], 403)):
        answer = visitor.post("/freeze", json={}, headers=BROWSER | {"Authorization": f"Bearer {token}"})
        assert answer.status_code == status


def test_logins_and_logouts_are_audited(visitor: TestClient, docs: Docs) -> None:
    log_in(visitor, "operate")
    visitor.post("/dashboard/logout", headers=BROWSER)
    newest = docs["whimbrel_audit"].find().sort("at", -1).limit(2)
    assert [(row["what"], row["who"]) for row in newest] == [
        ("POST /dashboard/logout", "api:operate-2@testclient"), ("POST /dashboard/login", "api:operate-2@testclient"),
    ]  # fmt: skip


def test_a_logout_ends_the_session_everywhere(visitor: TestClient, instances: Instances) -> None:
    log_in(visitor)
    secret = visitor.cookies["whimbrel"]
    other = instances()
    other.cookies.set("whimbrel", secret)
    assert other.get("/", headers=PAGE).status_code == 200  # begun there, and good here
    answer = visitor.post("/dashboard/logout", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/login")
    assert "whimbrel" not in visitor.cookies
    assert other.get("/", headers=PAGE).status_code == 303
    assert other.get("/migrate").status_code == 401


def test_a_new_login_ends_the_session_before_it(visitor: TestClient, docs: Docs) -> None:
    log_in(visitor, "read")
    first = visitor.cookies["whimbrel"]
    log_in(visitor, "read")
    assert visitor.cookies["whimbrel"] != first
    assert docs["whimbrel_sessions"].find_one({"_id": hashlib.sha256(first.encode()).hexdigest()}) is None


def test_a_session_that_is_not_used_ends_and_one_that_is_used_lasts(visitor: TestClient, docs: Docs) -> None:
    log_in(visitor)
    key = {"_id": hashlib.sha256(visitor.cookies["whimbrel"].encode()).hexdigest()}
    soon = datetime.now(UTC) + timedelta(hours=1)
    docs["whimbrel_sessions"].update_one(key, {"$set": {"expiresAt": soon}})
    assert visitor.get("/migrate").status_code == 200
    row = docs["whimbrel_sessions"].find_one(key)
    assert row is not None
    assert row["expiresAt"] > soon.replace(tzinfo=None) + timedelta(hours=10)
    docs["whimbrel_sessions"].update_one(
        key, {"$set": {"expiresAt": datetime.now(UTC) - timedelta(seconds=5)}}
    )
    assert visitor.get("/migrate").status_code == 401
    assert visitor.get("/", headers=PAGE).status_code == 303


def test_a_token_that_is_withdrawn_ends_its_sessions_for_good(
    visitor: TestClient, instances: Instances
) -> None:
    log_in(visitor, "operate")
    secret = visitor.cookies["whimbrel"]
    without = instances(tokens=f"read:{TOKENS['read']}")
    without.cookies.set("whimbrel", secret)
    assert without.get("/migrate").status_code == 401
    assert visitor.get("/migrate").status_code == 401  # also where the token is still known


def test_a_token_whose_scope_is_lowered_takes_its_sessions_along(
    visitor: TestClient, instances: Instances
) -> None:
    log_in(visitor, "admin")
    lowered = instances(tokens=f"ops=read:{TOKENS['admin']}")
    lowered.cookies.set("whimbrel", visitor.cookies["whimbrel"])
    assert lowered.get("/migrate").status_code == 200
    assert lowered.post("/freeze", json={}, headers=BROWSER).status_code == 403


def test_a_token_has_so_many_sessions_and_no_more(
    visitor: TestClient, docs: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whimbrel.mongo.ledger.sessions.MOST", 3)
    secrets = []
    for _ in range(5):
        visitor.cookies.clear()
        log_in(visitor, "read")
        secrets.append(visitor.cookies["whimbrel"])
    kept = [
        docs["whimbrel_sessions"].find_one({"_id": hashlib.sha256(each.encode()).hexdigest()})
        for each in secrets
    ]
    assert [row is not None for row in kept] == [False, False, True, True, True]


def test_failed_logins_are_limited(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "REFUSALS", "5/day")
    client = instances()
    found = [
        client.post("/dashboard/login", data={"token": f"{number:020}"}, headers=BROWSER)
        for number in range(8)
    ]
    assert [answer.status_code for answer in found] == [401] * 5 + [429] * 3
    assert "Try again in" in found[-1].text
    assert found[-1].headers["content-type"].startswith("text/html")
    assert int(found[-1].headers["retry-after"]) > 0
    log_in(client)  # the right token is let in all the same


def test_what_a_form_has_sent_is_not_sent_again_by_the_page_that_refuses_it(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that wait ask for their address again: that of a form would send the token, or the guess, every two seconds."""
    monkeypatch.setattr(rate_limits, "REFUSALS", "1/day")
    client = instances()
    address = "/dashboard/login?next=%2Fdashboard%2Fhealth"
    found = [client.post(address, data={"token": "w" * 20}, headers=BROWSER) for _ in range(2)]
    assert found[1].status_code == 429
    assert "error.js" not in found[1].text
    assert 'http-equiv="refresh"' not in found[1].text
    assert 'href="/dashboard/login?next=%2Fdashboard%2Fhealth"' in found[1].text


def test_who_cannot_be_logged_out_now_is_told_and_can_try_again() -> None:
    """Before MongoDB is reached, nothing is known of sessions."""
    system = System(Settings(), WorkerPool(workers=1, slots=1, source=None), workers=False)
    app = create_app(system, read_tokens(ALL))
    install(app, system, read_tokens(ALL))
    client = TestClient(app, "http://localhost:3000", raise_server_exceptions=False)
    client.cookies.set("whimbrel", "s" * 43)
    answer = client.post("/dashboard/logout", headers=BROWSER)
    assert answer.status_code == 503
    assert "error.js" not in answer.text
    assert 'http-equiv="refresh"' not in answer.text
    assert "You may still be logged in." in answer.text
    assert re.search(r'<form method="post" action="/dashboard/logout"><button>Log out', answer.text)
    assert "error.js" in client.get("/dashboard/health", headers=PAGE).text  # this one waits


def test_who_guesses_secrets_is_limited_too(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "REFUSALS", "5/day")
    client = instances()
    found = [
        client.get("/migrate", headers={"Cookie": f"whimbrel=guess{number}"}).status_code
        for number in range(8)
    ]
    assert found == [401] * 5 + [429] * 3
    client.cookies.clear()
    assert client.get("/health/live").status_code == 200


def test_who_guesses_does_not_keep_out_who_has_a_session(
    instances: Instances, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy that is not named, all have one address."""
    monkeypatch.setattr(rate_limits, "REFUSALS", "5/day")
    client = instances()
    log_in(client)
    secret = client.cookies["whimbrel"]
    client.cookies.clear()
    found = [client.get("/migrate", headers={"Cookie": f"whimbrel=guess{number}"}) for number in range(8)]
    assert found[-1].status_code == 429
    assert client.get("/migrate", headers={"Cookie": f"whimbrel={secret}"}).status_code == 200


FOREIGN = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_cookie_does_not_count_for_pages_of_others(visitor: TestClient, headers: dict[str, str]) -> None:
    log_in(visitor, "admin")
    for method, path in (("POST", "/freeze"), ("DELETE", "/freeze"), ("POST", "/dashboard/logout")):
        answer = visitor.request(method, path, headers=headers)
        assert answer.status_code in (401, 403), (method, path)
    assert visitor.get("/freeze").json()["frozen"] is False
    assert visitor.get("/migrate").status_code == 200  # nor is the session over


def test_pages_of_others_cannot_log_in(visitor: TestClient) -> None:
    for headers in FOREIGN[1:5]:
        answer = visitor.post("/dashboard/login", data={"token": TOKENS["read"]}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


def test_the_cookie_over_http(visitor: TestClient) -> None:
    name, *attributes = log_in(visitor).headers["set-cookie"].split("; ")
    assert re.fullmatch(r"whimbrel=[\w-]{43}", name)
    assert sorted(each.lower() for each in attributes) == ["httponly", "path=/", "samesite=strict"]


def test_the_cookie_behind_a_proxy_that_speaks_https(visitor: TestClient) -> None:
    """The proxy is believed, as API_PROXIES names it; another that says the same is not."""
    app = ProxyHeadersMiddleware(visitor.app, list(read_proxies("10.0.0.0/8")))  # type: ignore[arg-type]
    said = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "203.0.113.9",
        "Origin": "https://localhost:3000",
        "Sec-Fetch-Site": "same-origin",
    }
    for address, expected in (("10.1.1.1", "__Host-whimbrel"), ("198.51.100.1", "whimbrel")):
        client = TestClient(app, "http://localhost:3000", client=(address, 1), follow_redirects=False)  # type: ignore[arg-type]
        name, *attributes = log_in(client, **said).headers["set-cookie"].split("; ")
        assert name.startswith(f"{expected}=")
        assert ("secure" in [each.lower() for each in attributes]) is (expected == "__Host-whimbrel")
        secret = name.partition("=")[2]
        assert client.get("/migrate", headers=said | {"Cookie": f"{expected}={secret}"}).status_code == 200
        other = "whimbrel" if expected == "__Host-whimbrel" else "__Host-whimbrel"
        assert client.get("/migrate", headers=said | {"Cookie": f"{other}={secret}"}).status_code == 401


def test_where_no_tokens_are_configured_nobody_logs_in(instances: Instances) -> None:
    client = instances(tokens="")
    assert client.get("/", headers=PAGE).status_code == 200
    for method in ("GET", "POST"):
        answer = client.request(method, "/dashboard/login?next=/dashboard/runs", headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/runs")
    assert "Log out" not in client.get("/", headers=PAGE).text


@pytest.mark.parametrize("public", ["probes", "none"])
def test_the_login_is_open_whatever_else_is_closed(instances: Instances, public: str) -> None:
    client = instances(api_public=public)
    assert client.get("/", headers=PAGE).status_code == 303
    form = client.get("/dashboard/login")
    assert form.status_code == 200
    for address in re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', form.text):
        assert client.get(address).status_code == 200
    log_in(client)
    assert client.get("/", headers=PAGE).status_code == 200
    assert client.get("/docs").status_code == 200


def test_a_form_is_a_form(visitor: TestClient) -> None:
    answer = visitor.post("/dashboard/login", json={"token": TOKENS["read"]}, headers=BROWSER)
    assert answer.status_code == 415
    large = visitor.post("/dashboard/login", data={"token": "x" * 100_000}, headers=BROWSER)
    assert large.status_code == 413
    many = visitor.post("/dashboard/login", data={f"f{number}": "1" for number in range(50)}, headers=BROWSER)
    assert many.status_code == 401
    broken = visitor.post(
        "/dashboard/login",
        content=b"\xff\xfe",
        headers=BROWSER | {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert broken.status_code == 401
    keyed = visitor.post("/dashboard/login", data={"token": "no"}, headers=BROWSER | {"Idempotency-Key": "a"})
    assert keyed.status_code == 401
    assert ALL
