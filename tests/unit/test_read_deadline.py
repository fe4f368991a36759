"""Which requests have a deadline for all their statements together: reads that end, and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from whimbrel.api.app import create_app
from whimbrel.api.deployment import System
from whimbrel.api.middleware.read_deadline import SECONDS, ReadDeadline
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

GOING_ON = {"text/event-stream", "application/x-ndjson"}
COSTLY = ["/seed/stats", "/db/count", "/migrate/rollback/r", "/dashboard/start", "/dashboard/runs/r/cleanup"]


def given(method: str, path: str) -> list[float]:
    """The seconds that a request gets; none: as many as it takes."""
    seconds: list[float] = []

    @contextmanager
    def within(number: float) -> Iterator[None]:
        seconds.append(number)
        yield

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """Answers nothing."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        """Goes nowhere."""

    scope = {"type": "http", "method": method, "path": path}
    anyio.run(ReadDeadline(app, within), scope, receive, send)
    return seconds


def streams() -> list[str]:
    system = System(Settings(), WorkerPool(workers=1, slots=1, source=None), workers=False)
    paths: dict[str, Any] = create_app(system, ()).openapi()["paths"]
    return [
        path
        for path, operations in paths.items()
        if "get" in operations and GOING_ON & operations["get"]["responses"]["200"].get("content", {}).keys()
    ]


def test_what_is_sent_for_long_has_none() -> None:
    found = streams()
    assert len(found) >= 4
    for path in found:
        assert given("GET", path.replace("{migrationId}", "20261130-abcdef")) == [], path


@pytest.mark.parametrize("path", COSTLY)
def test_what_looks_at_documents_has_none(path: str) -> None:
    assert given("GET", path) == []


def test_changes_have_none_and_all_other_reads_one() -> None:
    assert given("POST", "/migrate/pause/r") == given("DELETE", "/freeze") == []
    for path in ("/", "/dashboard/runs/20261130-abcdef", "/migrate/status/20261130-abcdef", "/health"):
        assert given("GET", path) == given("HEAD", path) == [SECONDS]
