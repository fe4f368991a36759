"""A mongod by itself, as many have one on their own machine: `with stand_alone() as port: ...`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.processes import Child, free_ports, listening, make_folder, pause, remove_folder
from whimbrel.mongo.embedded import find_mongod

_SECONDS = 60.0


@contextmanager
def stand_alone(*options: str) -> Iterator[int]:
    """Its port on 127.0.0.1."""
    folder, (port,) = make_folder(), free_ports(1)
    child = Child(
        [str(find_mongod()), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket",
         "--wiredTigerCacheSizeGB", "0.25", *options],
        log=folder / "log",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _SECONDS
        while not listening(port):
            pause(deadline, f"mongod does not listen: {child.tail()}")
        yield port
    finally:
        child.kill()
        remove_folder(folder)
