"""MongoDB takes connections and answers nothing: pages and the API say so soon, and heal."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.integration.api.conftest import TOKENS
from tests.integration.dashboard.conftest import Instances, log_in
from tests.servers.proxy import Proxy, through
from tests.servers.serve import eventually

PAGES = ("/", "/dashboard/workers", "/dashboard/health", "/dashboard/audit")
READS = ("/migrate/jobs", "/health/signals", "/migrate/scheduler/schedules", "/queue/workers/stats")
HTML = {"Accept": "text/html"}
DRIVER = 10.0  # seconds that the driver needs at least to find out by itself


@pytest.fixture(scope="module")
def proxy(mongo_uri: str) -> Iterator[Proxy]:
    server = urlsplit(mongo_uri)
    assert server.hostname
    assert server.port
    with Proxy(server.hostname, server.port) as found:
        yield found


def test_who_reads_is_told_soon_that_mongodb_does_not_answer(
    proxy: Proxy, instances: Instances, mongo_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whimbrel.api.middleware.read_deadline.SECONDS", 0.5)
    client = instances(mongodb_uri=through(mongo_uri, proxy.port))
    log_in(client)
    token = {"Authorization": f"Bearer {TOKENS['read']}"}
    proxy.freeze()
    for address in PAGES:
        began = time.monotonic()
        page = client.get(address, headers=HTML)
        assert time.monotonic() - began < DRIVER, address
        assert page.status_code == 503, address
        assert page.headers["content-type"].startswith("text/html")
        assert "MongoDB" in page.text
    for address in READS:
        began = time.monotonic()
        answer = client.get(address, headers=token)
        assert time.monotonic() - began < DRIVER, address
        assert (answer.status_code, "MongoDB" in answer.json()["error"]) == (503, True), address
    proxy.thaw()
    eventually(lambda: client.get("/", headers=HTML).status_code == 200)
    eventually(lambda: client.get(READS[0], headers=token).status_code == 200)
