"""A steady load of GET requests, in a process of its own: `with Load(url, rate) as load: load.begin(paths); ... load.end()`.

Open loop: each request is due at a moment that no answer moves, and its latency counts from that moment. A request that
finds every connection busy waits, and its wait counts: an answer that is late cannot hide those behind it.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

CONNECTIONS = 32  # kept open; so many requests can be under way at a time
PATIENCE = 60.0  # seconds after which a request counts as an error


@dataclass
class Answers:
    """What came of the requests to one path."""

    latencies: list[float] = field(default_factory=list)  # seconds since the request was due
    late: list[float] = field(default_factory=list)  # seconds that the client itself sent it too late
    errors: list[str] = field(default_factory=list)

    def add(self, other: "Answers") -> None:
        self.latencies += other.latencies
        self.late += other.late
        self.errors += other.errors


class Load:
    """The client's process, ready before it is told to begin."""

    def __init__(self, url: str, rate: float) -> None:
        self._url, self._rate = url, rate

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load", self._url, str(self._rate)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, paths: Sequence[str]) -> None:
        """From now on, in turn, evenly spaced."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(paths) + "\n")
        self._process.stdin.flush()

    def end(self) -> list[Answers]:
        """No more; what was answered, path by path, when all is."""
        told, _ = self._process.communicate()
        return [Answers(**each) for each in json.loads(told)]


class _Client:
    """Threads that take the next request when it is due, each with a connection of its own."""

    def __init__(self, url: str, rate: float, paths: Sequence[str]) -> None:
        self._address, self._paths, self._pause = urlsplit(url).netloc, paths, 1 / rate
        self._began = time.monotonic()
        self._next, self._lock = 0, threading.Lock()
        self._over = threading.Event()
        self._found: dict[str, Answers] = defaultdict(Answers)
        self._threads = [threading.Thread(target=self._live) for _ in range(CONNECTIONS)]
        for each in self._threads:
            each.start()

    def stop(self) -> list[Answers]:
        self._over.set()
        for each in self._threads:
            each.join()
        return [self._found[path] for path in self._paths]

    def _live(self) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        connection.connect()
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            path, due = self._paths[number % len(self._paths)], self._began + number * self._pause
            waiting = due - time.monotonic()
            if self._over.wait(max(0.0, waiting)):
                break
            sent = time.monotonic()
            error = _ask(connection, path)
            over = time.monotonic()
            with self._lock:
                found = self._found[path]
                found.latencies.append(over - due)
                if waiting > 0:  # else it waited for a connection: that is the server's doing
                    found.late.append(sent - due)
                found.errors += [error] if error else []
        connection.close()


def _ask(connection: http.client.HTTPConnection, path: str) -> str:
    """What is wrong with the answer; nothing where it is one of success."""
    try:
        connection.request("GET", path)
        found = connection.getresponse()
        body = found.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()  # the next request opens it again
        return f"{path}: {type(error).__name__}: {error}"
    return "" if found.status == 200 else f"{path}: {found.status}: {body[:200].decode(errors='replace')}"


def main() -> None:
    url, rate = sys.argv[1], float(sys.argv[2])
    print("ready", flush=True)
    paths: list[str] = json.loads(sys.stdin.readline())
    client = _Client(url, rate, paths)
    sys.stdin.read()
    found: list[dict[str, Any]] = [vars(each) for each in client.stop()]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
