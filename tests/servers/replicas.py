"""A replica set of several mongod, to be killed and cut off from one another: `with ReplicaSet() as replicas: ...`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.servers.processes import (
    Child,
    ServerFailed,
    Started,
    free_ports,
    listening,
    make_folder,
    pause,
    remove_folder,
)
from whimbrel.mongo.embedded import find_mongod

NAME: Final = "whimbrel_test"
_SECONDS: Final = 60.0
_FOLLOWING: Final = (1, 2)  # PRIMARY, SECONDARY
# The answers that the secondaries have already asked for are under way for so long.
_SETTLE_SECONDS: Final = 0.25


class Member:
    """One mongod, on a port that stays the same over its restarts."""

    def __init__(self, folder: Path, port: int, parameters: Mapping[str, object], oplog: int) -> None:
        self.folder, self.port, self._parameters, self._oplog = folder, port, parameters, oplog
        self.child: Child | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def uri(self) -> str:
        """Of this member alone."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def start(self, binary: Path) -> None:
        """Starts it, and waits until it listens. Raises ServerFailed."""
        self.folder.mkdir(exist_ok=True)
        arguments = [
            *(str(binary), "--dbpath", str(self.folder), "--replSet", NAME),
            *("--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket", "--quiet"),
            *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", str(self._oplog)),
            # Rolling back goes from the last checkpoint on. At the usual minute, it takes a busy machine another one.
            *("--syncdelay", "2"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            # Else a primary sends on to a secondary that is frozen, as much as the network's buffers hold.
            *("--setParameter", "oplogFetcherUsesExhaust=false"),
        ]
        for name, value in self._parameters.items():
            arguments += ["--setParameter", f"{name}={value}"]
        self.child = Child(arguments, log=self.folder / "mongod.log")
        deadline = time.monotonic() + _SECONDS
        while not listening(self.port):
            if not self.child.alive():
                raise ServerFailed(f"mongod ended: {self.child.tail()}")
            pause(deadline, f"mongod does not listen: {self.child.tail()}")

    def answering(self) -> bool:
        return self.child is not None and not self.child.frozen and self.child.alive()

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        self._running().kill()

    def freeze(self) -> None:
        self._running().freeze()

    def thaw(self) -> None:
        self._running().thaw()

    @contextmanager
    def client(self) -> Iterator[MongoClient[dict[str, Any]]]:
        """To this member, whatever its state."""
        with MongoClient[dict[str, Any]](
            self.uri, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000, socketTimeoutMS=15_000
        ) as found:
            yield found

    def _running(self) -> Child:
        if self.child is None:
            raise ServerFailed(f"The member on port {self.port} was never started")
        return self.child


class ReplicaSet(Started):
    """`size` members. Without a primary, they elect one after `election` seconds. Raises ServerFailed.

    `parameters`: server parameters that the members are started with. `oplog`: its size, in megabytes.
    """

    def __init__(
        self, size: int = 3, *, election: float = 1.5, oplog: int = 256, **parameters: object
    ) -> None:
        self._binary = find_mongod()
        self._election = election
        self.folder = make_folder()
        self.members = [
            Member(self.folder / str(number), port, parameters, oplog)
            for number, port in enumerate(free_ports(size))
        ]

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(f'127.0.0.1:{each.port}' for each in self.members)}/?replicaSet={NAME}"

    def start(self) -> None:
        for member in self.members:
            member.start(self._binary)
        settings = {
            "electionTimeoutMillis": int(self._election * 1000),
            "heartbeatIntervalMillis": 500,
            "heartbeatTimeoutSecs": max(1, round(self._election)),
            "catchUpTimeoutMillis": 2000,
        }
        members = [
            {"_id": number, "host": f"127.0.0.1:{each.port}"} for number, each in enumerate(self.members)
        ]
        with self.members[0].client() as client:
            client.admin.command("replSetInitiate", {"_id": NAME, "members": members, "settings": settings})
            self._elect(client)
        self.wait_secondaries()

    def _elect(self, client: MongoClient[dict[str, Any]]) -> None:
        """Has a member elected at once: by themselves they first wait for the election timeout."""
        deadline = time.monotonic() + _SECONDS
        while self._find_primary() is None:
            with suppress(PyMongoError):  # as long as the others have not heard of the set
                client.admin.command("replSetStepUp")
            pause(deadline, f"The replica set has no primary within {_SECONDS:g} s")

    def wait_primary(self, seconds: float = _SECONDS) -> Member:
        """The member that takes writes, as soon as there is one. Raises ServerFailed."""
        deadline = time.monotonic() + seconds
        while (found := self._find_primary()) is None:
            pause(deadline, f"The replica set has no primary within {seconds:g} s")
        return found

    def wait_secondaries(self, seconds: float = _SECONDS) -> Member:
        """The primary, when all the others follow it, and have rolled back what it does not know."""
        deadline = time.monotonic() + seconds
        while True:
            primary = self.wait_primary(seconds)
            with suppress(PyMongoError), primary.client() as client:
                status = client.admin.command("replSetGetStatus")
                # A member that comes back says SECONDARY also before it rolls back; but not in this primary's term.
                terms = [each["optime"]["t"] for each in status["members"] if each["state"] in _FOLLOWING]
                if terms == [status["term"]] * len(self.members):
                    return primary
            pause(deadline, f"Not all of the replica set follow within {seconds:g} s")

    def primary(self) -> Member:
        """The member that takes writes now; waits for one during an election."""
        return self.wait_primary()

    def secondaries(self) -> list[Member]:
        primary = self.primary()
        return [each for each in self.members if each is not primary]

    def kill_primary(self) -> Member:
        """SIGKILL; returns the dead member, for `restart`."""
        primary = self.primary()
        primary.kill()
        return primary

    def restart(self, member: Member) -> None:
        """Starts a member again, after a SIGKILL if it runs; waits until it listens."""
        if member.child is not None and member.child.alive():
            member.kill()
        member.start(self._binary)

    def step_down(self) -> Member:
        """The primary hands over, and stays a secondary for ten seconds; returns it."""
        primary = self.primary()
        with primary.client() as client:
            client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
        return primary

    def stop_secondaries(self) -> Member:
        """Freezes all secondaries, and returns the primary: what is written to it (w=1) from now on reaches no other.

        It stays primary for less than `election` seconds. Kill it, then `continue_secondaries`: they elect another,
        and after `restart` the old one rolls back what it wrote alone.
        """
        primary = self.primary()
        for member in self.members:
            if member is not primary:
                member.freeze()
        # Each has a question under way, whose answer it would read when it is thawed. This note uses the answers up.
        with primary.client() as client:
            client.admin.command("appendOplogNote", 1, data={"note": "cut off"}, writeConcern={"w": 1})
        time.sleep(_SETTLE_SECONDS)
        return primary

    def continue_secondaries(self) -> None:
        """Thaws whoever is frozen."""
        for member in self.members:
            if member.child is not None and member.child.frozen:
                member.thaw()

    def close(self) -> None:
        for member in self.members:
            if member.child is not None and member.child.alive():
                member.kill()
        remove_folder(self.folder)

    def _find_primary(self) -> Member | None:
        """Of two that say so, the one that was elected last is right."""
        found: list[tuple[Any, int]] = []
        for number, member in enumerate(self.members):
            if member.answering():
                with suppress(PyMongoError), member.client() as client:
                    said = client.admin.command("hello")
                    if said["isWritablePrimary"]:
                        found.append((said["electionId"], number))
        return self.members[max(found)[1]] if found else None
