"""The stream of all runs, of a real server: what a client hears, how it comes back, and how it ends."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.api.conftest import Docs, seed
from tests.servers.serve import Serve, eventually

LINE = {
    "migrationId", "migration", "kind", "of", "collection", "status", "phase", "state", "share", "reason", "reasonSince", "progress",
    "processedItems", "totalItems", "throughput", "etaSeconds", "failed", "conflicts", "openFailures", "deadFailures", "createdAt",
    "startTime", "endTime", "undoneBy",
}  # fmt: skip


class Heard:
    """The events of a client, as they come."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.over = threading.Event()
        self.headers: dict[str, str] = {}

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event["data"] for event in list(self.events) if event["event"] == name]

    def states(self, run: str) -> list[str]:
        return [each["after"] for each in self.of("state") if each["migrationId"] == run]

    def read(self, lines: Iterator[str]) -> None:
        event: dict[str, Any] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if not line and "data" in event:
                self.events.append(event)
            if not line:
                event = {}
            elif name == "data":
                event["data"] = json.loads(value)
            else:
                event[name] = value


@contextmanager
def listening(it: Serve, last_id: str | None = None) -> Iterator[Heard]:
    heard = Heard()

    def listen() -> None:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        with it.client.stream("GET", "/migrate/stream", headers=headers) as stream:
            assert stream.status_code == 200
            heard.headers.update(stream.headers)
            heard.read(stream.iter_lines())
        heard.over.set()

    threading.Thread(target=listen, daemon=True).start()
    eventually(lambda: heard.events)
    yield heard


def test_what_goes_on_is_heard_and_who_comes_back_misses_nothing(
    mongo_uri: str, database: Docs, tmp_path: Path
) -> None:
    seed(database, 40)
    database["somemodels"].insert_many(
        {"status": "pending", "data": number} for number in range(3)
    )  # they fail
    environment = {"MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "MAX_RETRIES": "0"}
    with Serve(environment, tmp_path, "--workers", "1") as it:
        it.wait()
        with listening(it) as heard:
            assert (heard.headers["cache-control"], heard.headers["x-accel-buffering"]) == ("no-cache", "no")
            assert heard.headers["content-type"].startswith("text/event-stream")
            assert [event["event"] for event in heard.events[:1]] == ["snapshot"]
            assert heard.of("snapshot")[0]["runs"] == []
            run = it.client.post("/migrate", json={"force": True}).json()["migrationId"]
            eventually(lambda: "completed_with_failures" in heard.states(run))
            last = [each for each in heard.of("run") if each["migrationId"] == run][-1]
            line = next(
                row for row in it.get("/migrate?slim=true")["migrations"] if row["migrationId"] == run
            )
            assert last == line
            assert line.keys() == LINE
            assert (last["status"], last["processedItems"], last["deadFailures"]) == (
                "completed_with_failures",
                43,
                3,
            )
            assert sum(each["new"] for each in heard.of("failures")) == 3
            known = next(each["id"] for each in reversed(heard.events) if "id" in each)  # a beat has none
            it.client.post("/freeze", json={"note": "peak season"})
            eventually(lambda: heard.of("freeze"))
            assert heard.of("freeze") == [{"frozen": True, "until": None, "note": "peak season"}]
            with listening(it, known) as again:
                eventually(lambda: again.of("freeze"))
                assert {event["event"] for event in again.events} <= {"freeze", "beat"}
                with listening(it, "elsewhere-7") as stranger:
                    eventually(lambda: len(stranger.events) > 1)
                    assert [event["event"] for event in stranger.events[:2]] == ["reload", "snapshot"]
                    assert stranger.of("snapshot")[0]["freeze"]["frozen"] is True
                    it.process.tell(signal.SIGTERM)
                    for each in (heard, again, stranger):
                        assert each.over.wait(60)
        assert it.process.code(60) == 0
        assert '"error"' not in it.said()
