"""What every page sends: its headers, its files, its errors; and the list of runs, whatever runs there are."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS
from tests.integration.dashboard.conftest import Docs, Instances, log_in
from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.dashboard.app import install
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.run import Run, Scope
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
NOW = datetime.now(UTC)


@pytest.fixture
def admin(visitor: TestClient) -> TestClient:
    log_in(visitor, "admin")
    return visitor


def run_of(name: str, status: str = "completed", **given: Any) -> dict[str, Any]:
    """A run's row, by what matters here."""
    return {"_id": name, "status": status, "createdAt": NOW - timedelta(days=3), **given}


Put = Callable[..., None]


@pytest.fixture
def put(shared: TestClient, docs: Docs) -> Iterator[Put]:
    """Stores runs as if they had been at work; they are gone afterwards."""
    ledger = shared.app.state.system.deployment.store.ledger  # type: ignore[attr-defined]
    sample = Run(
        id="sample", migration="split-name", version=1, database=docs.name, collection="people", filter=b"\5\0\0\0\0", mark="marker",
        status_field="status", declarative=True, claim=False, adopt="ours", scope=Scope("all"), legs=("pending",), batch_size=10, max_attempts=1,
        retry_delay=1.0, timeout=1.0, code_hash="", created_at=NOW, updated_at=NOW,
    )  # fmt: skip
    ledger.runs.add(sample, "test")
    row: Mapping[str, Any] = docs["whimbrel_runs"].find_one_and_delete({"_id": "sample"}) or {}

    def add(*runs: dict[str, Any]) -> None:
        docs["whimbrel_runs"].insert_many([{**row, **each} for each in runs])

    yield add
    docs["whimbrel_runs"].delete_many({})


def test_pages_allow_nothing_from_elsewhere(admin: TestClient) -> None:
    for address in ("/", "/dashboard/login", "/dashboard/nothing", "/dashboard/frame"):
        headers = admin.get(address, headers=PAGE, follow_redirects=True).headers
        assert headers["content-security-policy"] == POLICY, address
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["content-type"] == "text/html; charset=utf-8"


def test_pages_have_nothing_inline(admin: TestClient, put: Put) -> None:
    put(run_of("20261130-aaaaaa"))
    for address in ("/", "/dashboard/login", "/dashboard/nothing"):
        text = admin.get(address, headers=PAGE, follow_redirects=True).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", text), address
        assert not re.search(r"(src|href)=\"(?![/#])", text), address
        assert "http" not in re.sub(r"http-equiv", "", text), address


def test_at_the_front_browsers_get_a_page_and_programs_an_index(admin: TestClient) -> None:
    for accept in (
        None,
        "*/*",
        "application/json",
        "application/json, text/html;q=0.5",
        "text/html;q=0",
        "text/plain",
    ):
        answer = admin.get("/", headers={"Accept": accept} if accept else {})
        assert answer.json()["name"] == "Whimbrel", accept
    for accept in (PAGE["Accept"], "text/html", "text/html, application/json"):
        assert "<h1>Runs</h1>" in admin.get("/", headers={"Accept": accept}).text
    head = admin.head("/", headers=PAGE)
    assert (head.status_code, head.content) == (200, b"")


def test_files_are_kept_for_ever_at_addresses_of_their_content(admin: TestClient) -> None:
    text = admin.get("/", headers=PAGE).text
    found = set(re.findall(r'(?:src|href)="(/dashboard/static/[^"#]+)', text))
    assert {address.rpartition("/")[2] for address in found} >= {
        "dashboard.css",
        "frame.js",
        "runs.js",
        "favicon.svg",
        "page_runs.css",
    }
    for address in found:
        answer = admin.get(address)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content
    version = found.pop().split("/")[3]
    other = admin.get(f"/dashboard/static/{'0' * len(version)}/frame.js")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    for name in ("nothing.js", "..%2fapp.py", "__init__.py"):
        assert admin.get(f"/dashboard/static/{version}/{name}").status_code == 404


def test_modules_import_only_what_is_there(admin: TestClient) -> None:
    folder = Path(__file__).parents[3] / "src/whimbrel/dashboard/static"
    for module in folder.glob("*.js"):
        for name in re.findall(r"""(?:from|import)\s+["']\./([\w.]+)["']""", module.read_text()):
            assert (folder / name).is_file(), (module.name, name)


def test_errors_are_pages(admin: TestClient) -> None:
    for address, status, said in (
        ("/dashboard/nothing", 404, "Nothing here"), ("/?status=odd", 422, "status"), ("/?cursor=odd", 422, "That is no cursor"),
        ("/?nothing=1", 422, "nothing"), ("/?from=yesterday", 422, "Give a time"),
    ):  # fmt: skip
        answer = admin.get(address, headers=PAGE)
        assert answer.status_code == status, address
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert said in answer.text, answer.text
    head = admin.head("/dashboard/nothing", headers=PAGE)
    assert (head.status_code, head.content) == (404, b"")
    assert admin.get("/migrate/nothing", headers=PAGE).json()["code"] == "not_found"  # of the API


def test_a_page_waits_for_mongodb_and_says_so() -> None:
    for tokens in ("", f"read:{TOKENS['read']}"):
        system = System(
            Settings(mongodb_uri="mongodb://127.0.0.1:1"),
            WorkerPool(workers=1, slots=1, source=None),
            workers=False,
        )
        app = create_app(system, read_tokens(tokens))
        install(app, system, read_tokens(tokens))
        client = TestClient(app, base_url="http://localhost:3000", follow_redirects=False)  # never started
        answer = client.get("/", headers=PAGE | {"Cookie": "whimbrel=some"})
        assert answer.status_code == 503
        assert "MongoDB has not been asked yet" in answer.text
        assert 'http-equiv="refresh"' in answer.text  # without JavaScript too
        sent = client.post(
            "/dashboard/login",
            data={"token": TOKENS["read"]},
            headers=PAGE | {"Origin": "http://localhost:3000"},
        )
        assert sent.status_code == (503 if tokens else 303)


def test_parts_of_a_page_come_alone_and_only_when_they_have_changed(admin: TestClient, put: Put) -> None:
    put(run_of("20261130-aaaaaa"))
    asked = PAGE | {"X-Parts": "cluster,list,unknown"}
    first = admin.get("/", headers=asked)
    assert sorted(first.json()) == ["cluster", "list"]
    assert "20261130-aaaaaa" in first.json()["list"]
    assert "<html" not in first.text
    same = admin.get("/", headers=asked | {"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    put(run_of("20261130-bbbbbb"))
    changed = admin.get("/", headers=asked | {"If-None-Match": first.headers["etag"]})
    assert "20261130-bbbbbb" in changed.json()["list"]
    admin.cookies.clear()
    assert (
        admin.get("/", headers=asked).json()["code"] == "unauthenticated"
    )  # not a page that would be shown in the page


def test_names_and_messages_are_only_ever_text(admin: TestClient, put: Put) -> None:
    put(
        run_of("20261130-cccccc", "failed", migration="<script>alert(1)</script>", error="<img src=x onerror=alert(2)> \u202ereversed\x1b[31m", collection='"quoted"'),
    )  # fmt: skip
    text = admin.get("/", headers=PAGE).text
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\\u202ereversed\\x1b[31m" in text


def test_a_run_over_its_failure_budget_names_each_cause_and_leads_to_it(admin: TestClient, put: Put) -> None:
    rule = {"rule": "newCause", "value": 99.0, "limit": 20.0, "failures": 99, "documents": 1202, "causes": [{"group": "d0a0e858", "n": 99}]}  # fmt: skip
    put(run_of("20261130-dddddd", "paused", error="All of it, with the commands.", overBudget=[rule]))
    text = admin.get("/dashboard/runs/20261130-dddddd", headers=PAGE).text
    assert "99 documents have failed by a cause that nobody has seen before (20 are the limit)" in text
    assert '<a href="/dashboard/runs/20261130-dddddd/causes/d0a0e858">d0a0e858</a>' in text
    assert "All of it, with the commands." in text
    assert "newCause" not in text


def test_the_head_says_what_holds_runs_back(instances: Instances, docs: Docs) -> None:
    client = instances(tokens="", whimbrel_health="on")
    records = client.app.state.system.deployment.store.ledger.health  # type: ignore[attr-defined]
    read = {"headers": PAGE | {"X-Parts": "cluster"}}

    def line() -> str:
        client.app.state.frame.cluster._line._known.clear()  # type: ignore[attr-defined]
        found: str = client.get("/dashboard/frame", **read).json()["cluster"]  # type: ignore[arg-type]
        return " ".join(re.sub(r"<[^>]+>", " ", found).split())

    reason = Reason("member-lag", Level.SLOW, NOW.timestamp(), "replication lag 2.4 s > 2 s on host2:27017")
    worst = Verdict(share=0.25, level=Level.SLOW, since=NOW.timestamp(), reasons=(reason,), by="test")
    found = ""
    for _ in range(50):  # a coordinator of this process decides each second too
        records.keep(worst, None)
        found = line()
        if "Slowed" in found:
            break
    assert "Slowed to 25 %" in found
    assert "replication lag 2.4 s &gt; 2 s on host2:27017" in found
    client.post("/freeze", json={"note": "peak <season>", "until": "2099-01-01T00:00:00Z"})
    assert "Frozen until 2099-01-01 00:00:00 UTC" in line()
    assert "peak &lt;season&gt;" in line()
    client.delete("/freeze")
    assert "Frozen" not in line()


def test_the_list_has_active_runs_first_and_pages(admin: TestClient, put: Put) -> None:
    put(
        *(run_of(f"20261101-{number:06}", "completed", createdAt=NOW - timedelta(hours=number)) for number in range(60)),
        run_of("20261001-paused", "paused", createdAt=NOW - timedelta(days=30), message="12 documents failed"),
        run_of("20260901-failed", "failed", createdAt=NOW - timedelta(hours=2), endedAt=NOW, error="its code changed"),
    )  # fmt: skip
    seen: list[str] = []
    address = "/"
    for _ in range(3):
        text = admin.get(address, headers=PAGE).text
        seen += re.findall(r'data-run="([^"]+)"', text)
        older = re.search(r'href="(/\?cursor=[^"]+)" rel="next"', text)
        if older is None:
            break
        address = older[1]
    assert seen[0] == "20261001-paused"
    assert len(seen) == len(set(seen)) == 62
    first = admin.get("/", headers=PAGE).text
    assert "12 documents failed" in first
    assert re.search(r"<b>1</b>\s*has failed since yesterday", first)
    chosen = admin.get("/?status=failed,paused", headers=PAGE).text
    assert re.findall(r'data-run="([^"]+)"', chosen) == ["20261001-paused", "20260901-failed"]
    narrow = admin.get(
        "/?status=failed&status=completed&kind=migration&migration=&collection=people&from=2000-01-01&to=",
        headers=PAGE,
    ).text
    assert "20260901-failed" in narrow
    assert "20261001-paused" not in narrow
    assert re.findall(r'data-run="', admin.get("/?collection=elsewhere", headers=PAGE).text) == []


def test_a_failure_is_news_by_when_it_came_and_not_by_when_the_run_was_asked_for(
    admin: TestClient, put: Put
) -> None:
    hour = timedelta(hours=1)
    put(
        run_of("long", "failed", createdAt=NOW - 90 * hour, endedAt=NOW - 1 * hour),
        run_of("longer", "failed", createdAt=NOW - 900 * hour, endedAt=NOW - 23 * hour),
        run_of("old", "failed", createdAt=NOW - 26 * hour, endedAt=NOW - 25 * hour),
        run_of("well", "completed", createdAt=NOW - 2 * hour, endedAt=NOW - 1 * hour),
    )
    found = admin.get("/", headers=PAGE).text
    assert re.search(r"<b>2</b>\s*have failed since yesterday", found)


def test_a_page_costs_the_same_however_many_runs_there_are(admin: TestClient, put: Put) -> None:
    put(
        *(
            run_of(f"r{number:06}", "completed", createdAt=NOW - timedelta(minutes=number))
            for number in range(45)
        )
    )
    put(
        *(
            run_of(f"q{number:06}", "queued", createdAt=NOW - timedelta(minutes=number))
            for number in range(20)
        )
    )
    before = admin.get("/", headers=PAGE).text
    put(
        *(
            run_of(f"x{number:06}", "completed", createdAt=NOW - timedelta(minutes=number))
            for number in range(9000)
        )
    )
    after = admin.get("/", headers=PAGE).text
    for text in (before, after):
        assert len(text.encode()) + sum(len(each) for each in _first_files(admin, text)) < 100_000
        assert len(re.findall(r"<[a-z]", text)) < 2000  # elements; with their texts fewer than 3,000 nodes
    assert abs(len(after) - len(before)) < 2000


def _first_files(client: TestClient, text: str) -> list[bytes]:
    """What a browser loads before it shows the page: style and modules, and what these import."""
    folder = Path(__file__).parents[3] / "src/whimbrel/dashboard/static"
    names, found = set(re.findall(r"/dashboard/static/\w+/([\w.]+)", text)), dict[str, bytes]()
    while names - found.keys():
        name = (names - found.keys()).pop()
        found[name] = (folder / name).read_bytes()
        names |= set(re.findall(r"""from "\./([\w.]+)";""", found[name].decode()))
    return list(found.values())


def test_without_a_dashboard_there_is_the_api_alone(settings_without: Settings) -> None:
    system = System(settings_without, WorkerPool(workers=1, slots=1, source=None), workers=False)
    client = TestClient(
        create_app(system, read_tokens(f"read:{TOKENS['read']}")), base_url="http://localhost:3000"
    )
    assert client.get("/", headers=PAGE).json()["name"] == "Whimbrel"
    for address in ("/dashboard/runs", "/dashboard/login", "/dashboard/static/x/frame.js"):
        assert client.get(address, headers=PAGE).json()["code"] == "not_found"
    assert (
        client.get("/migrate", headers={"Cookie": "whimbrel=some"}).status_code == 401
    )  # nobody asks for sessions


@pytest.fixture
def settings_without() -> Settings:
    return Settings(mongodb_uri="mongodb://127.0.0.1:1")


def test_the_wheel_has_templates_and_files(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    listed = subprocess.run(
        [sys.executable, "-c", LISTING, str(root)], check=True, capture_output=True, text=True, cwd=root
    ).stdout
    packed = set(json.loads(listed))
    for folder in ("templates", "static"):
        for file in (root / "src/whimbrel/dashboard" / folder).iterdir():
            assert f"whimbrel/dashboard/{folder}/{file.name}" in packed


# What hatchling would put into the wheel, without building it.
LISTING = """
import json, sys
from hatchling.builders.wheel import WheelBuilder
builder = WheelBuilder(sys.argv[1])
print(json.dumps([each.distribution_path for each in builder.recurse_included_files()]))
"""
