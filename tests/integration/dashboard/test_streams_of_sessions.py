"""What is sent to a browser for long ends soon after its session, whichever way that has ended; and the ledger is looked at once for all."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.integration.api.conftest import TOKENS, seed
from tests.integration.dashboard.conftest import ALL, Docs
from tests.servers.serve import Serve, eventually

LogIn = Callable[[], httpx2.Client]


@pytest.fixture(scope="module")
def served(mongo_uri: str, docs: Docs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    environment = {"MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": docs.name, "API_TOKENS": ALL}
    folder = tmp_path_factory.mktemp("serve")
    with Serve(environment, folder, "--workers", "0", token=TOKENS["admin"]) as server:
        server.wait()
        yield server


class Stream:
    """An open stream, and what it has said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.over = threading.Event()
        self.left = False  # by the client

    def beats(self) -> int:
        return self.lines.count("event: beat")


@pytest.fixture
def log_in(served: Serve) -> Iterator[Callable[[], httpx2.Client]]:
    with ExitStack() as stack:

        def begin() -> httpx2.Client:
            browser = httpx2.Client(base_url=served.url, headers={"Origin": served.url}, timeout=60)
            stack.enter_context(browser)
            assert browser.post("/dashboard/login", data={"token": TOKENS["read"]}).status_code == 303
            return browser

        yield begin


@contextmanager
def streaming(client: httpx2.Client, path: str = "/migrate/stream") -> Iterator[Stream]:
    stream = Stream()

    def listen() -> None:
        with client.stream("GET", path) as answer:
            stream.lines.append(f"status {answer.status_code}")
            for line in answer.iter_lines():  # fails where the answer is cut off
                stream.lines.append(line)
                if stream.left:
                    return
        stream.over.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    eventually(lambda: any(line.startswith("data: ") for line in stream.lines))
    yield stream
    stream.left = True
    thread.join()


def key(browser: httpx2.Client) -> dict[str, Any]:
    return {"_id": hashlib.sha256(browser.cookies["whimbrel"].encode()).hexdigest()}


def test_a_stream_ends_with_its_session_and_no_other_does(served: Serve, docs: Docs, log_in: LogIn) -> None:
    leaving, expiring, staying = log_in(), log_in(), log_in()
    seed(docs, 10)
    run = served.client.post("/migrate", json={}).json()["migrationId"]
    with (
        streaming(leaving) as left,
        streaming(leaving, f"/migrate/events/{run}") as run_left,
        streaming(expiring) as expired,
        streaming(staying) as stays,
        streaming(served.client) as of_a_token,
    ):
        assert leaving.post("/dashboard/logout").status_code == 303
        now = datetime.now(UTC)
        docs["whimbrel_sessions"].update_one(
            key(expiring), {"$set": {"expiresAt": now - timedelta(seconds=1)}}
        )
        for each in (left, run_left, expired):
            assert each.over.wait(30)
            assert each.lines[-2:] == [": the session has ended, log in again", ""]
        seen = stays.beats()
        eventually(lambda: stays.beats() > seen + 1)  # more than one look later
        assert not stays.over.is_set()
        assert not of_a_token.over.is_set()
    assert "Traceback" not in served.said()
    assert "without completing" not in served.said()


def test_an_open_stream_is_no_use_of_a_session(served: Serve, docs: Docs, log_in: LogIn) -> None:
    """Else a forgotten tab would keep it for ever."""
    browser = log_in()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    with streaming(browser) as stream:
        docs["whimbrel_sessions"].update_one(key(browser), {"$set": {"expiresAt": until}})
        eventually(lambda: stream.beats() > 1)
        row = docs["whimbrel_sessions"].find_one(key(browser))
        assert row is not None
        assert row["expiresAt"] == until.replace(tzinfo=None)
