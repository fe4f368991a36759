"""Reads the signals of the database's health, by as few commands as possible, each with a time limit of its own."""

import json
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from whimbrel.domain.health.hello_answers import hello_readings, majority_reading, other_hosts
from whimbrel.domain.health.members_left_out import Newcomers
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.replica_set_status import ALONE, COMMAND, member_readings
from whimbrel.domain.health.server_status import UNUSED, oplog_window, server_readings
from whimbrel.domain.health.signals import SIGNALS, Reads
from whimbrel.mongo.driver_errors import sentence
from whimbrel.mongo.member_hellos import MemberHellos
from whimbrel.mongo.unanswered_statements import APP_NAME

T = TypeVar("T")

ANSWER_SECONDS = 1.0  # that each command may take
RARELY = 10.0  # seconds between two looks at what changes slowly
NOT_ALLOWED = 13  # Unauthorized
MEMBER_SIGNALS = ("member-lag", "member-silence", "members-down", "majority-lag")
SERVER_SIGNALS = (
    "flow-control", "flow-control-lagged", "cache-dirty", "cache-updates", "cache-used", "application-evictions", "ticket-queue",
    "write-conflicts", "oplog-window", "connections-free", "operation-latency",
)  # fmt: skip
# What others have under way: what waits for its turn, for a lock or for a majority, and no cursor that waits for news.
OF_OTHERS: Mapping[str, Any] = {
    "active": True, "desc": {"$regex": "^conn"}, "appName": {"$not": {"$regex": f"^{APP_NAME}"}}, "ns": {"$not": {"$regex": r"^(local|config)\."}},
    "$or": [
        {"op": {"$in": ["query", "insert", "update", "remove"]}},
        *({f"command.{name}": {"$exists": True}} for name in ("find", "insert", "update", "delete", "aggregate", "findAndModify", "count", "distinct")),
    ],
}  # fmt: skip
MOST_OTHERS = 100  # that are counted
BUILDING: Mapping[str, Any] = {
    "$or": [{"command.createIndexes": {"$exists": True}}, {"msg": {"$regex": "^Index Build"}}]
}


class MongoHealthReader:
    """Implements `whimbrel.ports.health.HealthReader`. `to_member`: returns a client of one member. `ignored`: members that a person has named."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        to_member: Callable[[str, float], MongoClient[Any]],
        *,
        replica_set: bool,
        ignored: frozenset[str] = frozenset(),
    ) -> None:
        self._client, self._database, self._replica_set = client, database, replica_set
        self._ignored, self._newcomers = ignored, Newcomers()
        self._hellos = MemberHellos(to_member)
        self._status: tuple[float, Mapping[str, Any]] | None = None  # the last serverStatus, and when
        self._elected: object = None  # what the last hello said of the primary
        self._rare: dict[
            str, tuple[Hashable, float, Any]
        ] = {}  # by name: of what, when it was read, and what came
        self._alone = True  # whether the set has one member only
        self._grantee = ""  # the user, as a grant names it

    def read(self, *, own_slots: int, namespaces: Collection[str]) -> Sequence[Reading]:
        return [
            *self._replication(),
            *self._server(own_slots),
            *self._disk(),
            *self._others(),
            *self._index_builds(frozenset(namespaces)),
        ]

    def close(self) -> None:
        self._hellos.close()

    def _command(self, command: str | dict[str, Any], database: str = "admin") -> Mapping[str, Any]:
        with pymongo.timeout(ANSWER_SECONDS):
            found: Mapping[str, Any] = self._client[database].command(command)
        return found

    def _rarely(self, name: str, read: Callable[[], T], *, of: Hashable = None) -> T:
        """Repeats what was read lately, of the same thing. What could not be read is tried again at the next sample."""
        now = time.monotonic()
        known_of, at, known = self._rare.get(name, (None, float("-inf"), None))
        if known_of == of and now - at < RARELY:
            repeated: T = known
            return repeated
        found = read()
        self._rare[name] = of, now, found
        return found

    # one command each

    def _replication(self) -> Sequence[Reading]:
        """By `hello`, which every user may ask: a new primary. By `replSetGetStatus`: the members; else by `hello` to each of them."""
        if not self._replica_set:
            return [_absent(name) for name in ("new-primary", *MEMBER_SIGNALS)]
        try:
            hello = self._command("hello")
        except PyMongoError as error:
            return self._unread(("new-primary", *MEMBER_SIGNALS), "hello", error)
        elected = hello.get("electionId"), hello.get("me")
        changed = self._elected is not None and elected != self._elected
        self._elected = elected
        new = Reading("new-primary", float(changed), str(hello.get("me", "")), "hello.electionId")
        try:
            status = self._command(COMMAND)
        except PyMongoError as error:
            return [new, *self._by_hello(hello), *self._unread(("members-down",), COMMAND, error)]
        self._alone = len(status["members"]) == 1
        return [new, *member_readings(status, self._config(status), self._ignored, self._newcomers)]

    def _config(self, status: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns the set's configuration, which is read again as soon as it has changed; None where it cannot be read."""
        version = tuple((row.get("configVersion"), row.get("configTerm")) for row in status["members"])
        try:
            found: Mapping[str, Any] = self._rarely(
                "config", lambda: self._command("replSetGetConfig")["config"], of=version
            )
        except PyMongoError:
            return None
        return found

    def _by_hello(self, hello: Mapping[str, Any]) -> Sequence[Reading]:
        answers, silent = self._hellos.ask(other_hosts(hello))
        readings = hello_readings(hello, answers, silent, self._ignored, self._newcomers)
        return [majority_reading(hello), *readings]

    def _server(self, own_slots: int) -> Sequence[Reading]:
        try:
            status = self._command({"serverStatus": 1, **dict.fromkeys(UNUSED, 0), "oplog": 1})
        except PyMongoError as error:
            self._status = None
            return self._unread(SERVER_SIGNALS, "serverStatus", error)
        now, before = time.monotonic(), self._status
        self._status = now, status
        earlier, seconds = (before[1], now - before[0]) if before else (None, 0.0)
        return [*server_readings(status, earlier, seconds, own_slots=own_slots), self._oplog(status)]

    def _oplog(self, status: Mapping[str, Any]) -> Reading:
        if self._alone:
            return Reading("oplog-window", None, absent=ALONE)
        try:
            stats = self._rarely("oplog", lambda: self._command({"collStats": "oplog.rs"}, "local"))
        except PyMongoError:
            return oplog_window(status, None, None)
        return oplog_window(status, float(stats["size"]), float(stats["maxSize"]))

    def _disk(self) -> Sequence[Reading]:
        how = "dbStats.fsUsedSize"
        try:
            stats = self._rarely("disk", lambda: self._command("dbStats", self._database))
        except PyMongoError as error:
            return self._unread(("disk-used",), how, error)
        used, total = stats.get("fsUsedSize"), stats.get("fsTotalSize")
        if not total and not stats.get("collections"):
            return [Reading("disk-used", None, absent=f"the database {self._database} has nothing yet")]
        if used is None or not total:
            return [Reading("disk-used", None, how=how, problem=f"{how} is not in the server's answer")]
        return [Reading("disk-used", float(used) / float(total) * 100, self._host, how)]

    def _others(self) -> Sequence[Reading]:
        """What others have under way at this moment: whether there is anybody whom a run could hurt."""
        how, name = "$currentOp", "other-operations"
        try:
            with pymongo.timeout(ANSWER_SECONDS):
                found = list(self._client.admin.aggregate([
                    {"$currentOp": {"allUsers": True}},
                    {"$match": OF_OTHERS},
                    {"$limit": MOST_OTHERS},
                    {"$project": {"_id": 1}},
                ]))  # fmt: skip
        except PyMongoError as error:
            return self._unread((name,), how, error)
        return [Reading(name, float(len(found)), self._host, how)]

    def _index_builds(self, namespaces: frozenset[str]) -> Sequence[Reading]:
        def look() -> int:
            with pymongo.timeout(ANSWER_SECONDS):
                found = self._client.admin.aggregate([
                    {"$currentOp": {"allUsers": True}},
                    {"$match": {"ns": {"$in": list(namespaces)}, **BUILDING}},
                    {"$limit": 1},
                ])  # fmt: skip
                return len(list(found))

        how = "$currentOp"
        try:
            building = self._rarely("index-build", look, of=namespaces)
        except PyMongoError as error:
            return self._unread(("index-build",), how, error)
        return [Reading("index-build", float(building), self._host, how)]

    @property
    def _host(self) -> str:
        address = self._client.primary
        return f"{address[0]}:{address[1]}" if address else ""

    # what cannot be read

    def _unread(self, names: Sequence[str], how: str, error: PyMongoError) -> list[Reading]:
        denied = isinstance(error, OperationFailure) and error.code == NOT_ALLOWED
        return [
            self._denied(name, how)
            if denied and SIGNALS[name].needs is not Reads.NOTHING
            else Reading(name, None, how=how, problem=sentence(error))
            for name in names
        ]

    def _denied(self, name: str, how: str) -> Reading:
        grant = self._grant(SIGNALS[name].needs)
        return Reading(name, None, how=how, problem=f"not allowed: grant it by {grant}", grant=grant)

    def _grant(self, role: str) -> str:
        """Returns the statement that lets this user read."""
        if not self._grantee:
            self._grantee = self._named_user()
        return f'{self._grantee}, [{{role: "{role}", db: "admin"}}])'

    def _named_user(self) -> str:
        try:
            users = self._command("connectionStatus")["authInfo"]["authenticatedUsers"]
        except PyMongoError:
            users = []
        if not users:
            return 'db.getSiblingDB("admin").grantRolesToUser(USER'
        return f"db.getSiblingDB({_quoted(users[0]['db'])}).grantRolesToUser({_quoted(users[0]['user'])}"


def _absent(name: str) -> Reading:
    return Reading(name, None, absent="this server is stand-alone")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
