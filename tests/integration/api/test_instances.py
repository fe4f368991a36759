"""Two instances behind a load balancer that gives each connection to the next one: whoever is asked, the answer is the same.

Only the second has a worker.
"""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from tests.integration.api.conftest import Docs, seed
from tests.servers.proxy import Balancer
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import Serve, eventually


@dataclass(frozen=True, slots=True)
class Pair:
    """Both instances, and a client of the front that comes by a new connection each time."""

    first: Serve
    second: Serve
    front: httpx2.Client
    docs: Docs

    def seed(self, count: int) -> None:
        self.docs["somemodels"].delete_many({})
        seed(self.docs, count)

    def start(self, **body: Any) -> str:
        answer = self.front.post("/migrate", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["migrationId"])

    def free(self) -> None:
        """End what runs are left."""
        live = [run for run in self.second.get("/migrate")["migrations"] if run["endTime"] is None]
        for run in live:
            self.front.delete(f"/migrate/cancel/{run['migrationId']}")
        for run in live:
            self.second.ended(run["migrationId"])


@pytest.fixture(scope="module", params=["ledger", "rabbitmq"])
def instances(
    request: pytest.FixtureRequest,
    mongo_uri: str,
    client: MongoClient[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    url = ""
    if request.param == "rabbitmq":
        node: RabbitNode = request.getfixturevalue("rabbit_node")
        node.start()
        url = node.url
    docs = client[f"instances_{secrets.token_hex(4)}"]
    folder = tmp_path_factory.mktemp("instances")
    changes = {"MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "RABBITMQ_URL": url}
    limits = httpx2.Limits(max_keepalive_connections=0)
    with ExitStack() as stack:
        first = stack.enter_context(Serve(changes, folder, "--no-workers"))
        second = stack.enter_context(Serve(changes, folder, "--workers", "1"))
        balancer = stack.enter_context(Balancer(first.port, second.port))
        front = httpx2.Client(base_url=f"http://127.0.0.1:{balancer.port}", limits=limits, timeout=60)
        stack.enter_context(front)
        first.wait()
        second.wait()
        yield Pair(first, second, front, docs)
    client.drop_database(docs.name)


@pytest.fixture
def pair(instances: Pair) -> Iterator[Pair]:
    yield instances
    instances.free()


def test_the_front_goes_to_both(pair: Pair) -> None:
    pids = [pair.front.get("/health").json()["pid"] for _ in range(4)]
    assert pids[:2] == pids[2:]
    assert set(pids) == {pair.first.process.pid, pair.second.process.pid}


def test_an_idempotency_key_holds_for_both(pair: Pair) -> None:
    pair.seed(20)
    before = len(pair.first.get("/migrate")["migrations"])
    key = {"Idempotency-Key": secrets.token_hex(8)}
    answers = [pair.front.post("/migrate", headers=key) for _ in range(4)]
    assert {each.status_code for each in answers} == {202}
    assert [each.headers.get("idempotency-replayed") for each in answers] == [None, "true", "true", "true"]
    assert len({each.json()["migrationId"] for each in answers}) == 1
    key = {"Idempotency-Key": secrets.token_hex(8)}
    with ThreadPoolExecutor(10) as pool:
        statuses = list(
            pool.map(lambda _: pair.front.post("/seed/bulk/10", headers=key).status_code, range(10))
        )
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert pair.docs["somemodels"].count_documents({}) == 30
    assert len(pair.second.get("/migrate")["migrations"]) == before + 1


def test_pages_go_on_at_the_other(pair: Pair) -> None:
    pair.seed(20)
    ids = [pair.start(maxDocsPerSecond=1) for _ in range(5)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = pair.front.get("/migrate", params={"limit": "2", **cursor}).json()
        found += [each["migrationId"] for each in page["migrations"]]
        cursor = {"cursor": page["nextCursor"]}
    assert found[:5] == ids[::-1]


def test_a_run_is_watched_at_one_and_worked_on_by_the_other(pair: Pair) -> None:
    pair.seed(200)
    run = pair.first.client.post("/migrate", json={"batchSize": 20, "maxDocsPerSecond": 40}).json()[
        "migrationId"
    ]
    with pair.first.client.stream("GET", f"/migrate/events/{run}") as stream:
        text = "".join(stream.iter_text())
    told = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]
    done = [each["processedItems"] for each in told]
    assert done == sorted(done)
    assert len(set(done)) > 2, "progress was seen"
    assert (told[-1]["status"], told[-1]["changed"]) == ("completed", 200)
    batches = pair.first.get(f"/migrate/jobs?parentJobId={run}")["jobs"]
    workers = {each["batch"]["worker"].split(":")[1] for each in batches if each["batch"]["worker"]}
    assert workers == {str(pair.second.process.pid)}


def test_a_run_of_one_is_paused_paced_and_cancelled_by_the_other(pair: Pair) -> None:
    pair.seed(400)
    run = pair.second.client.post("/migrate", json={"batchSize": 20, "maxDocsPerSecond": 40}).json()[
        "migrationId"
    ]
    eventually(lambda: pair.second.run(run)["processedItems"] > 0)
    assert pair.first.client.post(f"/migrate/pause/{run}").status_code == 200
    eventually(lambda: pair.second.run(run)["status"] == "paused")
    at_rest = pair.docs["somemodels"].count_documents({"status": "success"})
    assert (
        pair.first.client.patch(f"/migrate/settings/{run}", json={"maxDocsPerSecond": 41}).status_code == 200
    )
    assert pair.second.run(run)["maxDocsPerSecond"] == 41
    assert pair.docs["somemodels"].count_documents({"status": "success"}) == at_rest < 400
    assert pair.first.client.post(f"/migrate/resume/{run}").status_code == 200
    eventually(lambda: pair.docs["somemodels"].count_documents({"status": "success"}) > at_rest)
    assert pair.first.client.delete(f"/migrate/cancel/{run}").status_code == 200
    assert pair.second.ended(run)["status"] == "cancelled"
    answer = pair.second.client.delete(f"/migrate/cancel/{run}")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_forbids")
    changed = pair.docs["somemodels"].count_documents({"status": "success"})
    assert pair.first.run(run)["changed"] == changed < 400


def test_consumers_are_switched_for_both(pair: Pair) -> None:
    pair.seed(100)
    assert pair.first.client.post("/queue/consumers/stop").json()["changed"] is True
    assert pair.second.client.post("/queue/consumers/stop").json()["changed"] is False
    for each in (pair.first, pair.second):
        assert each.get("/queue/consumer-status")["consumers"] == "stopped"
    run = pair.start(batchSize=10)
    eventually(lambda: "stopped" in pair.second.run(run)["message"])
    assert pair.second.client.post("/queue/consumers/start").json()["changed"] is True
    assert pair.first.get("/queue/consumer-status")["consumers"] == "started"
    assert pair.first.ended(run)["changed"] == 100


def test_a_run_outlives_the_instance_that_started_it(pair: Pair) -> None:
    """The last test of its pair: the first instance is killed, and started again."""
    pair.seed(200)
    run = pair.first.client.post("/migrate", json={"batchSize": 20, "maxDocsPerSecond": 150}).json()[
        "migrationId"
    ]
    pair.first.process.kill()
    assert pair.second.ended(run)["changed"] == 200
    pair.first.start()
    pair.first.wait()
    assert pair.first.run(run)["status"] == "completed"
