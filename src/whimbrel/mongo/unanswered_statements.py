"""Statements that got no answer: ending them in the server, and knowing that they have ended (hole H13).

A statement goes on in the server when its connection breaks, or its process dies. `killSessions` only asks it to stop: it
does so between two documents, and so does a time limit, however long one document takes. Nor does the server know yet of a
statement that still lies unread in the buffer of a connection. Therefore connections are asked for: one that the server
lists no more has been read to its end, and nothing runs for it.
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

LOOK = 0.02  # seconds between two looks whether they have ended
APP_NAME = "whimbrel"
LONGEST_NAME = 128  # bytes: more the server does not take

Row = Mapping[str, Any]


def app_name(worker: str | None) -> str:
    """What the server calls the connections of a worker process; of any other process of ours without a name."""
    if not worker:
        return APP_NAME
    room = LONGEST_NAME - len(APP_NAME) - 1
    return f"{APP_NAME} {worker.encode()[-room:].decode(errors='ignore')}"  # what tells workers apart is at the end


class CommandMonitor(CommandListener):
    """By which of the server's connections the commands of a thread are sent."""

    def __init__(self) -> None:
        self._threads = threading.local()

    @contextmanager
    def used(self) -> Iterator[set[int | None]]:
        """The connections by which this thread sends `update` commands while this is entered."""
        found: set[int | None] = set()
        self._threads.used = found
        try:
            yield found
        finally:
            self._threads.used = None

    def started(self, event: CommandStartedEvent) -> None:
        found: set[int | None] | None = getattr(self._threads, "used", None)
        if found is not None and event.command_name == "update":
            found.add(event.server_connection_id)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to note."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to note."""


class UnansweredStatements:
    """Those of one session. `lasts`: the seconds after which the fence of a statement has passed, whenever it is read."""

    def __init__(self, session: ClientSession, lasts: float) -> None:
        self._session, self._lasts = session, lasts
        listeners = session.client.options.event_listeners
        self._wire = next((each for each in listeners if isinstance(each, CommandMonitor)), None)
        # By connection, where it is known: when the last was sent.
        self._sent: dict[int | None, float] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Around the sending of a statement."""
        with self._wire.used() if self._wire else nullcontext({None}) as used:
            try:
                yield
            except OperationFailure:
                raise  # an answer
            except BaseException:
                self._sent |= dict.fromkeys(used, time.monotonic())
                raise

    def over(self) -> bool:
        """Whether none of them can change a document any more; those that run are told to end. Raises Transient."""
        if not self._sent:
            return True
        now = time.monotonic()
        waiting = {each for each, sent in self._sent.items() if now - sent <= self._lasts}
        try:
            at_work, listed = self._ask()
        except (Refused, Systemic):  # this user may not ask: only time tells
            at_work, listed = False, waiting
        if not at_work:
            self._sent = {each: self._sent[each] for each in listed & waiting}
        return not self._sent

    def _ask(self) -> tuple[bool, set[int | None]]:
        """Whether one is at work, and which connections may bring one yet.

        After a failover the numbers are those of another server: they may be anybody's, so time alone ends such doubts.
        """
        client, lsid = self._session.client, Binary(self._session.session_id["id"], 4)
        end_sessions(client, [lsid])
        mine = {"lsid.id": lsid, "active": True}
        known = {"connectionId": {"$in": [*filter(None, self._sent)]}}
        ours = {**known, **_of_application(client.options.pool_options.appname)}
        rows = _connections(client, {"$or": [mine, ours]})
        at_work = any(each.get("active") and each.get("lsid", {}).get("id") == lsid for each in rows)
        return at_work, {each["connectionId"] for each in rows} | {None}


def _of_application(name: str | None) -> dict[str, Any]:
    """But for the driver's own questions who the primary is, which wait for news in the server."""
    return {"appName": name, "command.hello": None, "command.isMaster": None}


def end_sessions(client: MongoClient[Any], lsids: Collection[bytes]) -> None:
    """Tell whatever runs in these sessions to end. Raises Transient, Refused, Systemic."""
    with translated():
        client.admin.command("killSessions", [{"id": Binary(each, 4)} for each in lsids])


def still_at_work(
    client: MongoClient[Any], lsids: Collection[bytes], *, worker: str | None = None, patience: float
) -> set[bytes]:
    """Which of these sessions have something running after so many seconds, though they were told to end.

    `worker`: all of them, as long as the server has a connection of that process, which is dead.
    Raises Transient, Refused, Systemic.
    """
    end = time.monotonic() + patience
    ours: list[Row] = [{"lsid.id": {"$in": [Binary(each, 4) for each in lsids]}, "active": True}]
    if worker is not None:
        ours.append(_of_application(app_name(worker)))
    while True:
        rows = _connections(client, {"$or": ours})
        left = {bytes(each["lsid"]["id"]) for each in rows if "lsid" in each} & set(lsids)
        if worker is not None and rows:
            left = set(lsids)
        if not left or time.monotonic() > end:
            return left
        time.sleep(LOOK)


def _connections(client: MongoClient[Any], query: Row) -> list[Row]:
    """The connections of our user that the server has, at rest or at work."""
    mine = {"$currentOp": {"allUsers": False, "idleConnections": True, "idleSessions": False}}
    names = {"connectionId": 1, "active": 1, "lsid": 1}
    with translated():
        return list(client.admin.aggregate([mine, {"$match": query}, {"$project": names}]))
