"""The whole REST API, driven by its own OpenAPI document: examples, boundaries, random requests, and sequences of them.

`make fuzz` does it longer, with a random seed: FUZZ_EXAMPLES requests of a kind and sequences of them.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo.database import Database

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TOKEN = "f" * 20
EXAMPLES = os.environ.get(
    "FUZZ_EXAMPLES"
)  # of each kind; without it, the few of schemathesis.toml, always the same
SEED = os.environ.get("FUZZ_SEED", "1")
HOW = ["--max-examples", EXAMPLES, "--seed", SEED] if EXAMPLES else ["--generation-deterministic"]


class Server:
    """`whimbrel serve` as its users start it, with a database of its own, and without workers."""

    def __init__(self, mongo_uri: str, database: str) -> None:
        self.log: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "whimbrel.cli.main", "serve", "--no-workers"],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={
                **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database, "RABBITMQ_URL": "", "HOST": "127.0.0.1",
                "PORT": "0", "API_TOKENS": f"admin:{TOKEN}", "API_RATE": "1000000/second",
            },
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().removeprefix("Serves ").partition("/ ")[0]
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.log.extend(self._process.stdout)

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while not self._ready():
            assert time.monotonic() < end, "it did not become ready"
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health/ready", timeout=30).status_code == 200
        except httpx2.ConnectError:  # the address is said before anybody listens
            return False

    def end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._reader.join(10)
            if self._process.stdout is not None:
                self._process.stdout.close()


@pytest.fixture
def server(mongo_uri: str, database: Database[dict[str, Any]]) -> Iterator[Server]:
    found = Server(mongo_uri, database.name)
    try:
        yield found
    finally:
        found.end()


@pytest.mark.timeout(24 * 3600 if EXAMPLES else 1200)
def test_the_server_does_what_its_document_says(server: Server) -> None:
    """All checks of schemathesis: no 5xx, no undocumented status, header or field, no nonsense accepted, no sense refused."""
    asked = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx2.post(f"{server.url}/seed/bulk/200", headers=asked, timeout=60).status_code == 201
    # It is built for the first that asks, and schemathesis waits for ten seconds only.
    assert httpx2.get(f"{server.url}/openapi.json", headers=asked, timeout=60).status_code == 200
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml",
            "run", f"{server.url}/openapi.json", "--no-color", "--phases", "examples,coverage,fuzzing,stateful", "--exclude-method", "HEAD",  # it does what GET does
            *HOW,
        ],
        cwd=ROOT, env={**os.environ, "FUZZ_TOKEN": TOKEN}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, "see what it found, above"
    assert httpx2.get(f"{server.url}/health", timeout=30).json()["status"] == "OK"
    assert server.end() == 0
    assert not [line for line in server.log if '"error"' in line]
