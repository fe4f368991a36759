"""`whimbrel serve` as a process of its own, to be asked, told and killed: `with Serve(environment, folder) as it: ...`."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.servers.processes import Child, Started, free_ports

_SECONDS: Final = 90.0
_SHORT: Final = {
    "RETRY_DELAY": "20", "WHIMBREL_LEASE": "3", "WHIMBREL_GRACE": "1", "WHIMBREL_STATEMENT": "0.9",
    "WHIMBREL_SWEEP": "0.2", "WHIMBREL_IDLE_POLL": "0.05", "WHIMBREL_BROKER_LOOK": "0.3", "LOG_FORMAT": "json",
    "API_RATE": "100000/minute", "MONGODB_URI": "", "RABBITMQ_URL": "", "API_TOKENS": "", "HOST": "127.0.0.1",
}  # fmt: skip


class Serve(Started):
    """One instance on a free port. `changes` to the environment; short times unless they say otherwise."""

    def __init__(self, changes: Mapping[str, str], folder: Path, *arguments: str, token: str = "") -> None:
        (self.port,) = free_ports(1)
        self._environment = {**os.environ, **_SHORT, "PORT": str(self.port), **changes}
        self._folder, self._arguments = folder, arguments
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.client = httpx2.Client(base_url=self.url, headers=headers, timeout=60)
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> Child:
        assert self.child is not None, "it was not started"
        return self.child

    def start(self) -> None:
        """Until the port answers; nothing need be ready."""
        self.launch()
        eventually(self.answers)

    def launch(self) -> None:
        self.child = Child(
            [sys.executable, "-m", "whimbrel.cli.main", "serve", *self._arguments],
            log=self._folder / f"serve-{self.port}.log",
            environment=self._environment,
        )

    def answers(self) -> bool:
        """Whether it is alive. Fails when it has ended."""
        assert self.process.alive(), self.said()
        try:
            return self.client.get("/health/live").status_code == 200
        except httpx2.TransportError:
            return False

    def wait(self) -> None:
        """Until it is ready."""
        eventually(lambda: self.client.get("/health/ready").status_code == 200)

    def said(self) -> str:
        """All that it and its workers have written, of every start."""
        return self.process.log.read_text(errors="replace")

    def get(self, path: str, **options: Any) -> Any:
        """The answer's JSON. Fails where it is none of success."""
        found = self.client.get(path, **options)
        assert found.status_code == 200, found.text
        return found.json()

    def run(self, migration_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/migrate/status/{migration_id}")["migration"]
        return found

    def ended(self, migration_id: str) -> dict[str, Any]:
        """The run, when it has ended."""
        eventually(lambda: self.run(migration_id)["endTime"] is not None)
        return self.run(migration_id)

    def close(self) -> None:
        self.client.close()
        if self.child is not None and self.child.alive():
            self.child.terminate()


def eventually(what: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """What comes about, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return found
