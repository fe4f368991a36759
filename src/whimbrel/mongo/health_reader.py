"""Reads the signals of the database's health, by as few commands as possible, each with a time limit of its own."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.replica_set_status import ALONE, COMMAND, member_readings
from whimbrel.domain.health.server_status import UNUSED, oplog_window, server_readings
from whimbrel.domain.health.signals import SIGNALS, Reads
from whimbrel.mongo.driver_errors import sentence

ANSWER_SECONDS = 1.0  # that each command may take
RARELY = 10.0  # seconds between two looks at what changes slowly
NOT_ALLOWED = 13  # Unauthorized
GRANT = (
    'not allowed: grant it by db.getSiblingDB("admin").grantRolesToUser(USER, [{{role: "{}", db: "admin"}}])'
)
MEMBER_SIGNALS = ("member-lag", "member-silence", "members-down")
SERVER_SIGNALS = (
    "flow-control", "flow-control-lagged", "cache-dirty", "cache-updates", "cache-used", "application-evictions", "ticket-queue",
    "write-conflicts", "oplog-window", "connections-free",
)  # fmt: skip
BUILDING: Mapping[str, Any] = {
    "$or": [{"command.createIndexes": {"$exists": True}}, {"msg": {"$regex": "^Index Build"}}]
}


class MongoHealthReader:
    """Implements `whimbrel.ports.health.HealthReader`."""

    def __init__(self, client: MongoClient[Any], database: str, *, replica_set: bool) -> None:
        self._client, self._database, self._replica_set = client, database, replica_set
        self._status: tuple[float, Mapping[str, Any]] | None = None  # the last serverStatus, and when
        self._elected: object = None  # what the last hello said of the primary
        self._rare: dict[str, tuple[float, Any]] = {}  # by name: when it was read, and what came

    def read(self, *, own_slots: int, namespaces: Collection[str]) -> Sequence[Reading]:
        return [
            *self._primary(),
            *self._members(),
            *self._server(own_slots),
            *self._rarely("disk-used", self._disk),
            *self._rarely("index-build", lambda: self._index_builds(namespaces)),
        ]

    def _command(self, command: str | dict[str, Any], database: str = "admin") -> Mapping[str, Any]:
        with pymongo.timeout(ANSWER_SECONDS):
            found: Mapping[str, Any] = self._client[database].command(command)
        return found

    def _rarely(self, name: str, read: Callable[[], Sequence[Reading]]) -> Sequence[Reading]:
        """Repeats what was read lately. What could not be read is tried again at the next sample: it counts as unread meanwhile."""
        now = time.monotonic()
        if name in self._rare and now - self._rare[name][0] < RARELY:
            known: Sequence[Reading] = self._rare[name][1]
            return known
        readings = read()
        if not any(reading.problem for reading in readings):
            self._rare[name] = now, readings
        return readings

    # one command each

    def _primary(self) -> Sequence[Reading]:
        """By `hello`, which every user may ask: a new primary, and the lag of the majority in whole seconds."""
        if not self._replica_set:
            return [_absent("new-primary"), _absent("majority-lag")]
        try:
            hello = self._command("hello")
        except PyMongoError as error:
            return _unread(("new-primary", "majority-lag"), "hello", error)
        host = str(hello.get("me", ""))
        elected = hello.get("electionId"), hello.get("me")
        changed = self._elected is not None and elected != self._elected
        self._elected = elected
        last = hello["lastWrite"]
        lag = max(0.0, (last["lastWriteDate"] - last["majorityWriteDate"]).total_seconds() - 1)
        return [
            Reading("new-primary", float(changed), host, "hello.electionId"),
            Reading("majority-lag", lag, host, "hello.lastWrite, in whole seconds"),
        ]

    def _members(self) -> Sequence[Reading]:
        if not self._replica_set:
            return [_absent(name) for name in MEMBER_SIGNALS]
        try:
            status = self._command(COMMAND)
        except PyMongoError as error:
            return _unread(MEMBER_SIGNALS, COMMAND, error)
        return list(member_readings(status, self._rarely_config()))

    def _rarely_config(self) -> Mapping[str, Any] | None:
        now = time.monotonic()
        if "config" not in self._rare or now - self._rare["config"][0] >= RARELY:
            try:
                config = self._command("replSetGetConfig")["config"]
            except PyMongoError:
                config = None
            self._rare["config"] = now, config
        found: Mapping[str, Any] | None = self._rare["config"][1]
        return found

    def _server(self, own_slots: int) -> Sequence[Reading]:
        try:
            status = self._command({"serverStatus": 1, **dict.fromkeys(UNUSED, 0), "oplog": 1})
        except PyMongoError as error:
            self._status = None
            return _unread(SERVER_SIGNALS, "serverStatus", error)
        now, before = time.monotonic(), self._status
        self._status = now, status
        readings = list(
            server_readings(
                status,
                before[1] if before else None,
                now - before[0] if before else 0.0,
                own_slots=own_slots,
            )
        )
        return [*readings, self._oplog(status)]

    def _oplog(self, status: Mapping[str, Any]) -> Reading:
        others = [
            name
            for name, (_, found) in self._rare.items()
            if name == "config" and found and len(found["members"]) > 1
        ]
        if not self._replica_set or not others:
            return Reading("oplog-window", None, absent=ALONE)
        now = time.monotonic()
        if "oplog" not in self._rare or now - self._rare["oplog"][0] >= RARELY:
            try:
                stats = self._command({"collStats": "oplog.rs"}, "local")
                self._rare["oplog"] = now, (float(stats["size"]), float(stats["maxSize"]))
            except PyMongoError:
                self._rare["oplog"] = now, (None, None)
        return oplog_window(status, *self._rare["oplog"][1])

    def _disk(self) -> Sequence[Reading]:
        how = "dbStats.fsUsedSize"
        try:
            stats = self._command("dbStats", self._database)
        except PyMongoError as error:
            return _unread(("disk-used",), how, error)
        used, total = stats.get("fsUsedSize"), stats.get("fsTotalSize")
        if used is None or not total:
            return [Reading("disk-used", None, how=how, problem=f"{how} is not in the server's answer")]
        return [Reading("disk-used", float(used) / float(total) * 100, self._host, how)]

    def _index_builds(self, namespaces: Collection[str]) -> Sequence[Reading]:
        how = "$currentOp"
        try:
            with pymongo.timeout(ANSWER_SECONDS):
                found = list(
                    self._client.admin.aggregate([
                        {"$currentOp": {"allUsers": True}},
                        {"$match": {"ns": {"$in": list(namespaces)}, **BUILDING}},
                        {"$limit": 1},
                    ])
                )  # fmt: skip
        except PyMongoError as error:
            return _unread(("index-build",), how, error)
        return [Reading("index-build", float(len(found)), self._host, how)]

    @property
    def _host(self) -> str:
        address = self._client.primary
        return f"{address[0]}:{address[1]}" if address else ""


def _absent(name: str) -> Reading:
    return Reading(name, None, absent="this server is stand-alone")


def _unread(names: Sequence[str], how: str, error: PyMongoError) -> list[Reading]:
    denied = isinstance(error, OperationFailure) and error.code == NOT_ALLOWED
    return [
        Reading(
            name,
            None,
            how=how,
            problem=GRANT.format(SIGNALS[name].needs)
            if denied and SIGNALS[name].needs is not Reads.NOTHING
            else sentence(error),
        )
        for name in names
    ]
