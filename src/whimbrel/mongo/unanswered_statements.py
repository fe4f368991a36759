"""Ends statements that got no answer, and tells when they have ended (hole H13).

A statement goes on in the server when its connection breaks, or its process dies. `killSessions` and time limits stop it
only between two documents, however long one document takes. And the server does not yet know of a statement that is
still unread in the buffer of a connection. So connections are checked: one that the server no longer lists has been read
to its end, and nothing runs for it.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from bson.binary import Binary
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from whimbrel.errors import Refused, Systemic
from whimbrel.mongo.driver_errors import translated

LOOK = 0.02  # seconds between two checks
APP_NAME = "whimbrel"
LONGEST_NAME = 128  # bytes that the server accepts

Row = Mapping[str, Any]


def app_name(worker: str | None) -> str:
    """Returns the name of a worker process's connections in the server; other processes of ours have no worker name."""
    if not worker:
        return APP_NAME
    room = LONGEST_NAME - len(APP_NAME) - 1
    return f"{APP_NAME} {worker.encode()[-room:].decode(errors='ignore')}"  # what tells workers apart is at the end


class CommandMonitor(CommandListener):
    """Notes which of the server's connections a thread's commands use."""

    def __init__(self) -> None:
        self._threads = threading.local()

    @contextmanager
    def used(self) -> Iterator[set[int | None]]:
        """Collects the connections by which this thread sends `update` commands."""
        connections: set[int | None] = set()
        self._threads.used = connections
        try:
            yield connections
        finally:
            self._threads.used = None

    def started(self, event: CommandStartedEvent) -> None:
        connections: set[int | None] | None = getattr(self._threads, "used", None)
        if connections is not None and event.command_name == "update":
            connections.add(event.server_connection_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


class UnansweredStatements:
    """The unanswered statements of one session. `lasts`: seconds until a statement's fence has passed, whenever it is read."""

    def __init__(self, session: ClientSession, lasts: float) -> None:
        self._session, self._lasts = session, lasts
        listeners = session.client.options.event_listeners
        self._wire = next((listener for listener in listeners if isinstance(listener, CommandMonitor)), None)
        # When the last statement was sent, by connection (None: unknown).
        self._sent: dict[int | None, float] = {}

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes a statement that gets no answer; use it around the sending."""
        with self._wire.used() if self._wire else nullcontext({None}) as used:
            try:
                yield
            except OperationFailure:
                raise  # an answer
            except BaseException:
                self._sent |= dict.fromkeys(used, time.monotonic())
                raise

    def end_all(self) -> bool:
        """Tells the statements to end, and returns whether none of them can change a document any more. Raises Transient."""
        if not self._sent:
            return True
        now = time.monotonic()
        waiting = {connection for connection, sent_at in self._sent.items() if now - sent_at <= self._lasts}
        try:
            at_work, connections_listed = self._find_doubtful()
        except (Refused, Systemic):  # this user may not ask, so wait
            at_work, connections_listed = False, waiting
        if not at_work:
            self._sent = {connection: self._sent[connection] for connection in connections_listed & waiting}
        return not self._sent

    def _find_doubtful(self) -> tuple[bool, set[int | None]]:
        """Returns whether a statement is at work, and which connections may still bring one.

        After a failover the numbers are another server's and may belong to any client, so only time settles those.
        """
        client, lsid = self._session.client, Binary(self._session.session_id["id"], 4)
        end_sessions(client, [lsid])
        own_statements = {"lsid.id": lsid, "active": True}
        known_connections = {"connectionId": {"$in": [*filter(None, self._sent)]}}
        own_connections = {**known_connections, **_of_application(client.options.pool_options.appname)}
        rows = _connections(client, {"$or": [own_statements, own_connections]})
        at_work = any(row.get("active") and row.get("lsid", {}).get("id") == lsid for row in rows)
        return at_work, {row["connectionId"] for row in rows} | {None}


def _of_application(name: str | None) -> dict[str, Any]:
    """Leaves out the driver's own monitoring commands, which wait in the server for news of the primary."""
    return {"appName": name, "command.hello": None, "command.isMaster": None}


def end_sessions(client: MongoClient[Any], lsids: Collection[bytes]) -> None:
    """Tells the server to end what runs in these sessions. Raises Transient, Refused, Systemic."""
    with translated():
        client.admin.command("killSessions", [{"id": Binary(lsid, 4)} for lsid in lsids])


def still_at_work(
    client: MongoClient[Any], lsids: Collection[bytes], *, worker: str | None = None, patience: float
) -> set[bytes]:
    """Returns the sessions that still have something running after `patience` seconds, though they were told to end.

    `worker`: a dead process; all sessions count as running while the server has a connection of it.
    Raises Transient, Refused, Systemic.
    """
    end = time.monotonic() + patience
    own_operations: list[Row] = [{"lsid.id": {"$in": [Binary(lsid, 4) for lsid in lsids]}, "active": True}]
    if worker is not None:
        own_operations.append(_of_application(app_name(worker)))
    while True:
        rows = _connections(client, {"$or": own_operations})
        running = {bytes(row["lsid"]["id"]) for row in rows if "lsid" in row} & set(lsids)
        if worker is not None and rows:
            running = set(lsids)
        if not running or time.monotonic() > end:
            return running
        time.sleep(LOOK)


def _connections(client: MongoClient[Any], query: Row) -> list[Row]:
    """Returns the server's connections of our user, idle or at work."""
    own_operations = {"$currentOp": {"allUsers": False, "idleConnections": True, "idleSessions": False}}
    names = {"connectionId": 1, "active": 1, "lsid": 1}
    with translated():
        return list(client.admin.aggregate([own_operations, {"$match": query}, {"$project": names}]))
